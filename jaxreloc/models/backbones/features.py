"""What a backbone hands to the rest of the network."""

from flax import struct
from jaxtyping import Array, Float


@struct.dataclass
class Features:
    """Features of a batch of images.

    Attributes:
      pooled: the last feature map averaged over the image, float32.
      maps: feature maps `[B, h, w, C]` that the pair head asked for, by name.
    """

    pooled: Float[Array, "B D"]
    maps: dict[str, Float[Array, "B h w C"]]

"""What a backbone hands to the rest of the network."""

from collections.abc import Iterable

from flax import struct
from jaxtyping import Array, Float

from jaxreloc.usage import check_choice


@struct.dataclass
class Features:
    """Features of a batch of images.

    Attributes:
      pooled: the last feature map averaged over the image, float32.
      maps: feature maps `[B, h, w, C]` that the pair head asked for, by name.
    """

    pooled: Float[Array, "B D"]
    maps: dict[str, Float[Array, "B h w C"]]


def check_frozen(frozen_until: str | None, maps: Iterable[str]) -> None:
    """Raises UsageError, listing the maps of a backbone, if it has none of that name."""
    if frozen_until is not None:
        check_choice("model.frozen_until", frozen_until, maps)

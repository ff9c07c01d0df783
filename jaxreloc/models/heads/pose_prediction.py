"""What a pair head predicts."""

from flax import struct
from jaxtyping import Array, Float


@struct.dataclass
class PairReliability:
    """How far the relative pose of each pair can be trusted.

    Attributes:
      log_std_t: logarithm of the translation's standard deviation along each axis (metres).
      log_std_rotation: logarithm of the rotation's about each axis (radians).
      overlap_logit: log odds that the two images show something in common.
    """

    log_std_t: Float[Array, "B"]
    log_std_rotation: Float[Array, "B"]
    overlap_logit: Float[Array, "B"]


@struct.dataclass
class RelativePose:
    """`db_from_query` of a batch of pairs, as a network gives it.

    Attributes:
      t: the query camera's centre in the database camera's axes (metres).
      q_wxyz: a Hamilton quaternion of any positive length; divide by its norm to use it.
      reliability: where the head predicts it.
    """

    t: Float[Array, "B 3"]
    q_wxyz: Float[Array, "B 4"]
    reliability: PairReliability | None = None

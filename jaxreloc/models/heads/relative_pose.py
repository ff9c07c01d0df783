"""What a pair head predicts."""

from flax import struct
from jaxtyping import Array, Float


@struct.dataclass
class RelativePose:
    """`db_from_query` of a batch of pairs, as a network gives it.

    Attributes:
      t: the query camera's centre in the database camera's axes (metres).
      q_wxyz: a Hamilton quaternion of any positive length; divide by its norm to use it.
    """

    t: Float[Array, "B 3"]
    q_wxyz: Float[Array, "B 4"]

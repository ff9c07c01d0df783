"""`PairRelations`: a query beside each of its neighbours, as a network sees them."""

import jaxlie
from flax import struct
from jaxtyping import Array, Bool, Float

from jaxreloc.geometry.fusion import Reliability
from jaxreloc.localization.networks.confidence import ConfidenceModel


@struct.dataclass
class PairRelations:
    """One query beside N database images.

    Attributes:
      db_from_query: with batch axis N.
      valid: where it can be used.
      support: the share of the matches that agree with it; 1 where they were not asked.
      overlap_probability: the head's; 1 without a head.
      reliability: what the fusion is told of each pair; None if nothing is known.
      confidence_model: how likely the fused pose is right; None if that is not known.
    """

    db_from_query: jaxlie.SE3
    valid: Bool[Array, "*batch N"]
    support: Float[Array, "*batch N"] | None = None
    overlap_probability: Float[Array, "*batch N"] | None = None
    reliability: Reliability | None = None
    confidence_model: ConfidenceModel | None = struct.field(pytree_node=False, default=None)

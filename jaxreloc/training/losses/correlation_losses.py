"""Loss of the correlation head: its pose, how far that can be trusted, and whether a pair overlaps.

Parts, per pair, for the target `db_from_query = (R*, t*)`:
  translation  |t - t*|, metres.
  direction    |t/|t| - t*/|t*||, 0 for baselines too short to have one.
  rotation     the chord |q/|q| -+ q*|.
  spread_t, spread_rotation
               the negative log likelihood of the error's length e, metres or radians, under the
               density exp(-2 e / s) / (pi s^3), an isotropic Laplace density in three dimensions
               whose standard deviation along each axis is s = exp(log_std). The error itself is
               held fixed here: being unsure is no way to be wrong more cheaply.
  overlap      the cross entropy of the predicted probability that the pair overlaps.
The pose's parts count for pairs that overlap; nothing can be said of the others.
"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import ml_collections
import optax
from jaxtyping import Array, Bool, Float

from jaxreloc.models.heads.pose_prediction import RelativePose
from jaxreloc.training.losses.pose_losses import direction_chord, norm, rotation_chord


@dataclasses.dataclass(frozen=True)
class CorrelationLoss:
    """Weights of the parts; the translation's is one."""

    rotation: float = 6.0
    direction: float = 0.5
    spread: float = 0.1
    overlap: float = 0.2

    part_names: ClassVar[tuple[str, ...]] = (
        "translation",
        "direction",
        "rotation",
        "spread_t",
        "spread_rotation",
        "overlap",
    )

    def init(self) -> dict[str, Float[Array, ""]]:
        """The loss's own parameters: none."""
        return {}

    def of_batch(self, own: dict, pose: RelativePose, batch: Mapping[str, Array]):
        """The loss of a batch of matched pairs; see `__call__`."""
        del own
        return self(pose, batch["db_from_query"], batch["overlaps"])

    def __call__(
        self,
        pose: RelativePose,
        target_wxyz_xyz: Float[Array, "B 7"],
        overlaps: Bool[Array, "B"],
    ) -> tuple[Float[Array, "B"], dict[str, Float[Array, "B"]]]:
        """The loss of each pair and its unweighted parts.

        Args:
          pose: the network's output, reliability included.
          target_wxyz_xyz: the true `db_from_query`; anything finite where `overlaps` is false.
          overlaps: whether the images share enough for a pose to be told.
        """
        q_target, t_target = target_wxyz_xyz[:, :4], target_wxyz_xyz[:, 4:]
        reliability = pose.reliability
        chord = rotation_chord(pose.q_wxyz, q_target)
        error_t = norm(pose.t - t_target)
        angle = 4 * jnp.arcsin(jnp.minimum(chord / 2, 1.0))
        pose_parts = {
            "translation": error_t,
            "direction": direction_chord(pose.t, t_target),
            "rotation": chord,
            "spread_t": spread_loss(error_t, reliability.log_std_t),
            "spread_rotation": spread_loss(angle, reliability.log_std_rotation),
        }
        parts = {name: jnp.where(overlaps, x, 0.0) for name, x in pose_parts.items()}
        parts["overlap"] = optax.sigmoid_binary_cross_entropy(
            reliability.overlap_logit, overlaps.astype(jnp.float32)
        )
        weights = {
            "translation": 1.0,
            "direction": self.direction,
            "rotation": self.rotation,
            "spread_t": self.spread,
            "spread_rotation": self.spread,
            "overlap": self.overlap,
        }
        return sum(weights[name] * x for name, x in parts.items()), parts


def build_loss(config: ml_collections.ConfigDict) -> CorrelationLoss:
    """The loss that `config.loss` describes."""
    return CorrelationLoss(**config.to_dict())


def spread_loss(error: Float[Array, "B"], log_std: Float[Array, "B"]) -> Float[Array, "B"]:
    """`2 e / s + 3 log s + log pi` with s = exp(log_std), and no gradient to the error e."""
    scaled = 2 * jax.lax.stop_gradient(error) * jnp.exp(-log_std)
    return scaled + 3 * log_std + jnp.log(jnp.pi)

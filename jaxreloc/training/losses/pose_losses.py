"""Losses of a predicted relative pose: its parts, and how they are weighted.

Parts, per example, for the target `db_from_query = (R*, t*)`:
  translation  |t - t*|, metres.
  direction    |t/|t| - t*/|t*||, the chord between the directions; 0 for pairs whose baseline is
               too short to have one.
  log_length   |log(|t| + m) - log(|t*| + m)|, with m = MIN_LENGTH so that short baselines, whose
               relative length is not observable, do not dominate.
  rotation     |q/|q| - q*|, with the sign of q* that is nearer (q and -q are one rotation).

Weighting:
  fixed    L = sum of the parts, the rotation times beta. With `translation` and beta = 1 this is
           the loss of Laskar et al., ICCVW 2017, equation 1 (arXiv 1707.09733).
  learned  L = sum_k exp(-s_k) L_k + s_k, the log variances s_k trained with the network
           (Kendall and Cipolla, CVPR 2017, section 3.3; arXiv 1704.00390).
"""

import dataclasses
from collections.abc import Mapping
from typing import Protocol

import jax.numpy as jnp
import ml_collections
import optax
from jaxtyping import Array, Float

from jaxreloc.models import RelativePose
from jaxreloc.usage import check_choice

MIN_LENGTH = 0.01  # metres; a baseline below it has no direction
TRANSLATIONS = ("metric", "direction_length")
WEIGHTINGS = ("fixed", "learned")
# Kendall and Cipolla start position at 0 and rotation at -3, their equation 5.
_INITIAL_LOG_VARIANCE = {"translation": 0.0, "direction": 0.0, "log_length": 0.0, "rotation": -3.0}


class Loss(Protocol):
    """What a training step minimises: the mean over a batch's examples.

    Attributes:
      part_names: of what `of_batch` reports beside the total.
    """

    part_names: tuple[str, ...]

    def init(self) -> dict[str, Float[Array, ""]]:
        """The loss's own parameters, often none."""

    def of_batch(
        self, own: dict[str, Float[Array, ""]], pose: RelativePose, batch: Mapping[str, Array]
    ) -> tuple[Float[Array, "B"], dict[str, Float[Array, "B"]]]:
        """The loss of each example and its unweighted parts."""


@dataclasses.dataclass(frozen=True)
class PairLoss:
    """The loss of a batch of pairs; `init` gives its own trained parameters, often none."""

    translation: str = "metric"
    weighting: str = "fixed"
    beta: float = 1.0

    def __post_init__(self):
        check_choice("loss.translation", self.translation, TRANSLATIONS)
        check_choice("loss.weighting", self.weighting, WEIGHTINGS)

    @property
    def part_names(self) -> tuple[str, ...]:
        if self.translation == "metric":
            return ("translation", "rotation")
        return ("direction", "log_length", "rotation")

    def init(self) -> dict[str, Float[Array, ""]]:
        """The loss's parameters: a log variance a part where the weighting is learned."""
        if self.weighting == "fixed":
            return {}
        return {name: jnp.float32(_INITIAL_LOG_VARIANCE[name]) for name in self.part_names}

    def __call__(
        self,
        log_variances: dict[str, Float[Array, ""]],
        t: Float[Array, "*B 3"],
        q_wxyz: Float[Array, "*B 4"],
        target_wxyz_xyz: Float[Array, "*B 7"],
    ) -> tuple[Float[Array, "*B"], dict[str, Float[Array, "*B"]]]:
        """The loss of each example and its unweighted parts, in float32.

        Args:
          log_variances: what `init` gave, trained since.
          t, q_wxyz: the network's output; the quaternion need not be of unit length.
          target_wxyz_xyz: the true `db_from_query`, unit quaternion first, metres.
        """
        t, q_wxyz, target = (jnp.asarray(x, jnp.float32) for x in (t, q_wxyz, target_wxyz_xyz))
        q_target, t_target = target[..., :4], target[..., 4:]
        parts = {"rotation": rotation_chord(q_wxyz, q_target)}
        if self.translation == "metric":
            parts["translation"] = norm(t - t_target)
        else:
            parts["direction"] = direction_chord(t, t_target)
            parts["log_length"] = log_length_error(t, t_target)
        return self._weighted_sum(log_variances, parts), parts

    def of_batch(
        self,
        log_variances: dict[str, Float[Array, ""]],
        pose: RelativePose,
        batch: Mapping[str, Array],
    ) -> tuple[Float[Array, "B"], dict[str, Float[Array, "B"]]]:
        """The loss of a network's output for a batch of image pairs; see `__call__`."""
        return self(log_variances, pose.t, pose.q_wxyz, batch["db_from_query"])

    def _weighted_sum(self, log_variances, parts):
        if self.weighting == "fixed":
            return sum(x * self.beta if name == "rotation" else x for name, x in parts.items())
        return sum(
            jnp.exp(-log_variances[name]) * x + log_variances[name] for name, x in parts.items()
        )


def build_loss(config: ml_collections.ConfigDict) -> PairLoss:
    """The loss that `config.loss` describes."""
    return PairLoss(**config.to_dict())


def rotation_chord(q: Float[Array, "*B 4"], q_target: Float[Array, "*B 4"]) -> Float[Array, "*B"]:
    """`|q/|q| - q*|` with the nearer sign of q*; 2 sin(a/4) for rotations an angle a apart."""
    q = q / norm(q)[..., None]
    same_side = jnp.sum(q * q_target, axis=-1, keepdims=True) >= 0
    return norm(q - jnp.where(same_side, q_target, -q_target))


def direction_chord(t: Float[Array, "*B 3"], t_target: Float[Array, "*B 3"]) -> Float[Array, "*B"]:
    """`|t/|t| - t*/|t*||`, in [0, 2]; 0 where |t*| < MIN_LENGTH."""
    length = norm(t_target)
    chord = norm(t / norm(t)[..., None] - t_target / length[..., None])
    return jnp.where(length < MIN_LENGTH, 0.0, chord)


def log_length_error(t: Float[Array, "*B 3"], t_target: Float[Array, "*B 3"]) -> Float[Array, "*B"]:
    """`|log(|t| + m) - log(|t*| + m)|`, m = MIN_LENGTH."""
    return jnp.abs(jnp.log(norm(t) + MIN_LENGTH) - jnp.log(norm(t_target) + MIN_LENGTH))


def norm(x: Float[Array, "*B n"]) -> Float[Array, "*B"]:
    """`|x|`, whose gradient at 0 is 0 and not NaN."""
    return optax.safe_norm(x, 1e-9, axis=-1)

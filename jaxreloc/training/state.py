"""What a training step takes and returns."""

from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax
from flax import struct

from jaxreloc.training.losses.pose_losses import Loss


@struct.dataclass
class TrainState:
    """Everything that changes from step to step; saved whole, so that a run resumes exactly.

    Attributes:
      step: updates made.
      params: {"network": the network's, "loss": the loss's, often none}, float32.
      batch_stats: the network's running batch statistics, float32.
      opt_state: the optimizer's.
    """

    step: jax.Array
    params: dict[str, Any]
    batch_stats: Any
    opt_state: optax.OptState

    def network_variables(self) -> dict[str, Any]:
        """The `{"params", "batch_stats"}` that the network applies."""
        return {"params": self.params["network"], "batch_stats": self.batch_stats}


def create_state(
    variables: dict[str, Any], loss: Loss, optimizer: optax.GradientTransformation
) -> TrainState:
    """The state before the first step, from a network's first variables."""
    params = {"network": variables["params"], "loss": loss.init()}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=optimizer.init(params),
    )


def to_state_dict(state: TrainState) -> dict[str, Any]:
    """Nested dicts of host NumPy arrays, for a checkpoint."""
    return flax.serialization.to_state_dict(jax.device_get(state))


def from_state_dict(template: TrainState, saved: dict[str, Any]) -> TrainState:
    """The inverse of `to_state_dict`; `template` gives the types.

    Raises:
      ValueError: names or shapes differ.
    """
    state = flax.serialization.from_state_dict(template, saved)
    for expected, found in zip(jax.tree.leaves(template), jax.tree.leaves(state), strict=True):
        if expected.shape != found.shape:
            raise ValueError(f"an array of shape {found.shape} where {expected.shape} is expected")
    return state

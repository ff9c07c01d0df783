"""How likely a pose is right: a logistic function of what speaks for it."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@dataclasses.dataclass(frozen=True)
class ConfidenceModel:
    """1 / (1 + exp(-(b + w . x))), and the confidence at or below which a pose is refused."""

    bias: float
    weights: tuple[float, ...]
    threshold: float

    def __call__(self, evidence: Float[Array, "*batch E"]) -> Float[Array, "*batch"]:
        return jax.nn.sigmoid(self.bias + evidence @ jnp.asarray(self.weights))

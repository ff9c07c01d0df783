"""How likely a pose is right, or a match: logistic functions of what speaks for it."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# The logit of a match being right, of log confidence and log similarity of its image, fitted to
# the true poses of seven validation rooms; what is less likely than the last one is left out.
MATCH_BIAS, CONFIDENCE_WEIGHT, SIMILARITY_WEIGHT = 3.48, 0.589, 0.736
MIN_MATCH_PROBABILITY = 0.15
SMALLEST_CONFIDENCE = 1e-4


@dataclasses.dataclass(frozen=True)
class ConfidenceModel:
    """1 / (1 + exp(-(b + w . x))), and the confidence at or below which a pose is refused."""

    bias: float
    weights: tuple[float, ...]
    threshold: float

    def __call__(self, evidence: Float[Array, "*batch E"]) -> Float[Array, "*batch"]:
        return jax.nn.sigmoid(self.bias + evidence @ jnp.asarray(self.weights))


# Fitted on seven validation rooms:
# python -m benchmarks.trust.refusal --split=validation --rooms=7 --fit
CONFIDENCE = {
    "network": ConfidenceModel(bias=-9.505, weights=(2.249, -3.004), threshold=0.258),
    "matches": ConfidenceModel(bias=-10.769, weights=(1.178, -3.994), threshold=0.5),
    "refined": ConfidenceModel(bias=-7.486, weights=(1.752, -3.424), threshold=0.5),
}


def match_probability(
    confidence: Float[Array, "N K"], similarity: Float[Array, "N"]
) -> Float[Array, "N K"]:
    """How likely each match is right, by its confidence and its image's similarity; or 0.

    It serves matches in context, too: fitted to them alone, it was so cautious that poses of hard
    validation rooms were lost.
    """
    of_image = SIMILARITY_WEIGHT * jnp.log(similarity + SMALLEST_CONFIDENCE)
    of_match = CONFIDENCE_WEIGHT * jnp.log(confidence + SMALLEST_CONFIDENCE)
    probability = jax.nn.sigmoid(MATCH_BIAS + of_match + of_image[:, None])
    likely = (probability > MIN_MATCH_PROBABILITY) & (similarity > 0)[:, None]
    return jnp.where(likely, probability, 0.0)

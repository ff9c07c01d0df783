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


# The same of matches in context; not fitted yet, since no network with context ships.
CONTEXT_BIAS, CONTEXT_CONFIDENCE_WEIGHT, CONTEXT_SIMILARITY_WEIGHT = 3.48, 0.589, 0.736


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
    """How likely each match is right, by its confidence and its image's similarity; or 0."""
    return _probability(
        confidence, similarity, MATCH_BIAS, CONFIDENCE_WEIGHT, SIMILARITY_WEIGHT
    )


def probability_in_context(
    confidence: Float[Array, "N K"], similarity: Float[Array, "N"]
) -> Float[Array, "N K"]:
    """The same of matches in context."""
    weights = CONTEXT_BIAS, CONTEXT_CONFIDENCE_WEIGHT, CONTEXT_SIMILARITY_WEIGHT
    return _probability(confidence, similarity, *weights)


def _probability(
    confidence: Float[Array, "N K"],
    similarity: Float[Array, "N"],
    bias: float,
    confidence_weight: float,
    similarity_weight: float,
) -> Float[Array, "N K"]:
    of_image = similarity_weight * jnp.log(similarity + SMALLEST_CONFIDENCE)
    of_match = confidence_weight * jnp.log(confidence + SMALLEST_CONFIDENCE)
    logit = bias + of_match + of_image[:, None]
    probability = jax.nn.sigmoid(logit)
    likely = (probability > MIN_MATCH_PROBABILITY) & (similarity > 0)[:, None]
    return jnp.where(likely, probability, 0.0)

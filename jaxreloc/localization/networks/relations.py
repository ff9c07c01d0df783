"""A query beside each of its neighbours, the pose that follows, and how likely it is right.

The confidence of a pose is a logistic function of two pieces of evidence,

    P(right to 50 cm and 10 deg) = 1 / (1 + exp(-(b + w . x))),

  x_1  log of the best pair's `support x overlap_probability` (`query_confidence`),
  x_2  log of the fused pose's rotation_std (radians), which the neighbours' disagreement widens,

neither of which depends on the scene's unit of length. The coefficients belong to an estimator of
relative poses and are fitted to queries of which one half was asked in another room
(`python -m benchmarks.trust.refusal --fit`): the probability is that of such a mixture.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import jaxlie
from flax import struct
from jaxtyping import Array, Bool, Float

from jaxreloc.geometry.fusion import FusedPose, FusionConfig, Method, Reliability, fuse
from jaxreloc.localization.networks.confidence import ConfidenceModel

SMALLEST = 1e-2  # is added to the query's confidence before its logarithm


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


def query_confidence(relations: PairRelations) -> Float[Array, "*batch"]:
    """How surely the query shows what one of the N images shows: the best pair's, from 0 to 1.

    It is the share of matches that agree times the probability of an overlap. One pair of the right
    place is enough; the others may see something else.
    """
    return jnp.max(relations.support * relations.overlap_probability, axis=-1)


@functools.partial(jax.jit, static_argnames=("method", "config"))
def fuse_relations(
    world_from_db: jaxlie.SE3,
    relations: PairRelations,
    *,
    is_neighbor: Bool[Array, "*batch N"] | None = None,
    method: Method = "robust",
    config: FusionConfig = FusionConfig(),
) -> tuple[FusedPose, Float[Array, "*batch"]]:
    """The pose of each query, [*batch, N] neighbours each, and its confidence.

    Where `is_neighbor` is False there is only padding.

    Without a confidence model this is the share of the neighbours that agree on location and
    rotation. With one, `success` is False also where the confidence does not exceed its threshold.
    Where the fusion itself found no pose it is 0.
    """
    if is_neighbor is None:
        is_neighbor = jnp.ones(relations.valid.shape, bool)
    fused = fuse(
        world_from_db,
        relations.db_from_query,
        valid=relations.valid & is_neighbor,
        reliability=relations.reliability if method == "robust" else None,
        method=method,
        config=config,
    )
    model = relations.confidence_model
    if model is None:
        agree = fused.location_inliers & fused.rotation_inliers
        share = jnp.sum(agree, axis=-1) / jnp.sum(is_neighbor, axis=-1)
        return fused, jnp.where(fused.success, share, 0.0)
    confidence = model(evidence(relations, fused))
    confidence = jnp.where(fused.success, confidence, 0.0)
    success = fused.success & (confidence > model.threshold)
    return dataclasses.replace(fused, success=success), confidence


def evidence(relations: PairRelations, fused: FusedPose) -> Float[Array, "*batch 2"]:
    """What speaks for a fused pose, in the order of the module."""
    columns = (query_confidence(relations) + SMALLEST, fused.rotation_std)
    return jnp.log(jnp.stack(columns, axis=-1))

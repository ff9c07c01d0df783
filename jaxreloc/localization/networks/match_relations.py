"""The relative poses of a query and its neighbours, from their matches."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import jaxlie
from jaxtyping import Array, Float

from jaxreloc.geometry.fusion import Reliability
from jaxreloc.geometry.relative_pose import (
    RelativePoseConfig,
    RelativePoseEstimate,
    estimate_relative_pose,
)
from jaxreloc.localization.networks.confidence import CONFIDENCE
from jaxreloc.localization.networks.relations import PairRelations
from jaxreloc.models import RelativePose, SiameseNetwork
from jaxreloc.models.matching.descriptors import FINE_STRIDE
from jaxreloc.models.matching.rays import RayMatches

# How the relative pose of a pair comes about:
#   network   the head's, from the most confident matches.
#   matches   of the matches alone, by RANSAC; |t| = 1.
#   refined   by RANSAC, which starts from the head's pose too; |t| is the head's.
ESTIMATORS = ("network", "matches", "refined")

# Sampson error of an inlier, in fine cells: matches are right to a fraction of a cell.
INLIER_CELLS = 0.3
# The share of a pair's matches that must agree. The confidence weighs it, too: on validation rooms
# at 256 pixels 0.25 instead cost 5% of recall within 10 cm and left no fewer wrong poses.
MIN_SUPPORT = 0.18
# Of the support of the query's best pair; a pair with less adds more doubt than knowledge.
MIN_RELATIVE_SUPPORT = 0.6
SHORTEST = 1e-6  # metres, of a translation
WIDEST_DIRECTION_STD = 1.5  # radians
SAMPLING_SEED = 0
# A pair is left out below this.
MIN_OVERLAP_PROBABILITY = 0.5


def relate_matches(
    network: SiameseNetwork,
    variables: Mapping[str, Any],
    matches: RayMatches,
    db_intrinsics: Float[Array, "N 3 3"],
    query_intrinsics: Float[Array, "1 3 3"],
    *,
    estimator: str,
) -> PairRelations:
    """The relations of one query to N images by their matches."""
    relations = _related(
        network, variables, matches, db_intrinsics, query_intrinsics, estimator=estimator
    )
    best = jnp.max(relations.support)
    supported = relations.support >= MIN_RELATIVE_SUPPORT * best
    return relations.replace(
        valid=relations.valid & supported, confidence_model=CONFIDENCE[estimator]
    )


def _related(
    network: SiameseNetwork,
    variables: Mapping[str, Any],
    matches: RayMatches,
    db_intrinsics: Float[Array, "N 3 3"],
    query_intrinsics: Float[Array, "1 3 3"],
    *,
    estimator: str,
) -> PairRelations:
    """`relate_matches`, each pair for itself."""
    if estimator == "matches":
        estimate = pose_of_matches(matches, db_intrinsics, query_intrinsics)
        return PairRelations(
            db_from_query=estimate.db_from_query,
            valid=estimate.success,
            support=jnp.mean(estimate.inliers, axis=-1),
            overlap_probability=jnp.ones(estimate.success.shape),
        )
    head = network.apply(variables, matches, method="regress")
    overlap_probability = jax.nn.sigmoid(head.reliability.overlap_logit)
    overlaps = overlap_probability > MIN_OVERLAP_PROBABILITY
    head_pose = _as_se3(head)
    if estimator == "network":
        support = jnp.ones(overlap_probability.shape)
        stated = _stated(head, head_pose)
        return PairRelations(head_pose, overlaps, support, overlap_probability, stated)
    estimate = pose_of_matches(matches, db_intrinsics, query_intrinsics, head_pose)
    return PairRelations(
        db_from_query=_with_lengths(estimate, head_pose),
        valid=estimate.success & overlaps,
        support=jnp.mean(estimate.inliers, axis=-1),
        overlap_probability=overlap_probability,
    )


def pose_of_matches(
    matches: RayMatches,
    db_intrinsics: Float[Array, "N 3 3"],
    query_intrinsics: Float[Array, "1 3 3"],
    initial: jaxlie.SE3 | None = None,
) -> RelativePoseEstimate:
    """RANSAC and refinement, with a threshold that suits how matches are found here."""
    focal_px = jnp.sqrt(_focal_px(db_intrinsics) * _focal_px(query_intrinsics))
    return estimate_relative_pose(
        matches.x_query,
        matches.x_db,
        matches.confidence,
        threshold=INLIER_CELLS * FINE_STRIDE / focal_px,
        key=jax.random.key(SAMPLING_SEED),
        initial=initial,
        config=RelativePoseConfig(min_inliers=round(MIN_SUPPORT * matches.confidence.shape[-1])),
    )


def _stated(head: RelativePose, head_pose: jaxlie.SE3) -> Reliability:
    """The head's standard deviations; its direction and log length are as sure as t is long."""
    length = jnp.linalg.norm(head_pose.translation(), axis=-1)
    relative_std = jnp.exp(head.reliability.log_std_t) / (length + SHORTEST)
    return Reliability(
        rotation_std=jnp.exp(head.reliability.log_std_rotation),
        direction_std=jnp.minimum(relative_std, WIDEST_DIRECTION_STD),
        length_std=relative_std,
    )


def _with_lengths(estimate: RelativePoseEstimate, head_pose: jaxlie.SE3) -> jaxlie.SE3:
    """The estimate's poses with the head's lengths; of a camera that only turned, the head's t."""
    pose, t = estimate.db_from_query, head_pose.translation()
    length = jnp.linalg.norm(t, axis=-1, keepdims=True)
    t = jnp.where(estimate.pure_rotation[:, None], t, length * pose.translation())
    return jaxlie.SE3(jnp.concatenate([pose.rotation().wxyz, t], axis=-1))


def _focal_px(intrinsics: Float[Array, "B 3 3"]) -> Float[Array, "B"]:
    return jnp.sqrt(intrinsics[:, 0, 0] * intrinsics[:, 1, 1])


def _as_se3(pose: RelativePose) -> jaxlie.SE3:
    q_wxyz = pose.q_wxyz / jnp.linalg.norm(pose.q_wxyz, axis=-1, keepdims=True)
    return jaxlie.SE3(jnp.concatenate([q_wxyz, pose.t], axis=-1))

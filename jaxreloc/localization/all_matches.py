"""One pose from all matches of a query, what speaks for it, and how likely it is right.

The confidence is a logistic function of evidence that depends neither on the scene's unit of length
nor on its size:

  the logarithm of the summed weight of the matches that agree (`inlier_weight`), plus one,
  the logarithm of the share of the matches' weight that agrees, plus 0.01,
  the logarithm of the margin to the best other pose, plus 0.01,
  by how much another focal length would suit the matches better (`AbsolutePose.focal_gain`).

It is fitted to queries of which one third is asked in its own room, one third in another, and one
third with a focal length that is wrong by 1.5 or 2 times (`python -m benchmarks.confidence --fit`).
"""

import functools

import jax
import jax.numpy as jnp
from flax import struct
from jaxlie import SE3
from jaxtyping import Array, Bool, Float

from jaxreloc.geometry.absolute_pose import (
    AbsolutePose,
    AbsolutePoseConfig,
    estimate_absolute_pose,
)
from jaxreloc.geometry.tracks import DepthPrior
from jaxreloc.localization.confidence import ConfidenceModel
from jaxreloc.models.matching.rays import RayTracks

CONFIDENCE = ConfidenceModel(bias=-6.92, weights=(2.15, 1.49, 0.12, -20.0), threshold=0.5)
SMALLEST = 1e-2
# A neighbour agrees with the pose if matches of this summed weight do.
AGREEING_WEIGHT = 5.0
SAMPLING_SEED = 0


@struct.dataclass
class MatchedPose:
    """The pose of a query from all matches.

    Attributes:
      pose: in the axes of the neighbours' poses.
      evidence: in the order of the module.
      confidence: how likely the pose is right to 50 cm and 10 degrees; 0 where there is none.
      agreeing: the neighbours of which enough matches agree.
    """

    pose: AbsolutePose
    evidence: Float[Array, "4"]
    confidence: Float[Array, ""]
    agreeing: Bool[Array, "N"]


@functools.partial(jax.jit, static_argnames="config")
def pose_from_all_matches(
    world_from_db: SE3,
    matches: RayTracks,
    depth: Float[Array, "N h w 2"] | None,
    given: SE3,
    given_usable: Bool[Array, "G"],
    config: AbsolutePoseConfig = AbsolutePoseConfig(),
) -> MatchedPose:
    """Estimates the pose and judges it.

    Args:
      world_from_db: of the N neighbours.
      depth: inverse depth and its deviation for the cells of each; None if nothing is known.
      given, given_usable: poses that are hypotheses too, and which of them are any.
    """
    found = estimate_absolute_pose(
        world_from_db,
        matches.x_query,
        matches.x_db,
        matches.weights,
        sigma=matches.sigma,
        key=jax.random.key(SAMPLING_SEED),
        depth=None if depth is None else depth_prior(matches, depth),
        given=given,
        given_usable=given_usable,
        config=config,
    )
    agreeing = jnp.sum(jnp.where(found.inliers, matches.weights, 0.0), axis=1)
    evidence = evidence_of(found, jnp.sum(agreeing), jnp.sum(matches.weights))
    confidence = jnp.where(found.success, CONFIDENCE(evidence), 0.0)
    return MatchedPose(found, evidence, confidence, agreeing >= AGREEING_WEIGHT)


def depth_prior(matches: RayTracks, depth: Float[Array, "N h w 2"]) -> DepthPrior:
    """The depth of each match's database side: that of the nearest cell."""
    height, width = depth.shape[1:3]
    cells = jnp.round(matches.db_cells).astype(jnp.int32)
    column = jnp.clip(cells[..., 0], 0, width - 1)
    row = jnp.clip(cells[..., 1], 0, height - 1)
    image = jnp.arange(depth.shape[0])[:, None]
    found = depth[image, row, column]
    known = found[..., 1] > 0
    return DepthPrior(
        inverse_depth=jnp.where(known, found[..., 0], 1.0),
        weight=jnp.where(known, 1 / jnp.where(known, found[..., 1], 1.0), 0.0),
    )


def evidence_of(
    found: AbsolutePose, inlier_weight: Float[Array, ""], weight: Float[Array, ""]
) -> Float[Array, "4"]:
    """What speaks for a pose, in the order of the module."""
    return jnp.stack(
        [
            jnp.log(inlier_weight + 1),
            jnp.log(inlier_weight / (weight + SMALLEST) + SMALLEST),
            jnp.log(found.margin + SMALLEST),
            found.focal_gain,
        ]
    )

"""One pose from all matches of a query, what speaks for it, and how likely it is right.

The confidence is a logistic function of evidence that depends neither on the scene's unit of length
nor on its size:

  the logarithm of the summed weight of the matches that agree, plus one,
  the logarithm of the share of the matches' weight that agrees, plus 0.01,
  log(1 + max(g - b, 0) / s) of the gain g by which another focal length suits the matches better
  (`AbsolutePose.focal_gain`),
  the logarithm of the rotation's deviation, in radians, from SMALLEST_DEVIATION to 1.

The last one has no weight in CONFIDENCE. With the third one alone it makes CONFIDENCE_OF_REFUSED,
which judges refused queries that are matched again in context: how well the matches that agree
determine the pose says more there than how many they are. The first two weights of CONFIDENCE are
fitted to queries of which one half is asked in its own room and one half in another (`python -m
benchmarks.trust.confidence_fit --fit`). On a flat wall another focal length,
from another distance, suits the matches about as well as the right one. So one that the map's own
cameras have is believed unless another suits better (b, s = FAMILIAR); any other one has to suit
better than all others (UNFAMILIAR).

The covariance of the normal equations holds for independent matches without outliers. What is
observed is larger, the more so the more matches disagree: it is divided by the square of the share
that agrees, and multiplied by constants of the same rooms.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxlie import SE3
from jaxtyping import Array, Bool, Float

from jaxreloc.compilation import compiler_options
from jaxreloc.compilation.kept_programs import Program
from jaxreloc.geometry.absolute_pose import (
    AbsolutePose,
    AbsolutePoseConfig,
    estimate_absolute_pose,
)
from jaxreloc.geometry.resection.tracks import DepthPrior
from jaxreloc.localization.networks.confidence import ConfidenceModel
from jaxreloc.localization.patch_precision import (
    Pictures,
    PrecisionConfig,
    precise_pose,
)
from jaxreloc.models.matching.rays import RayTracks

FOCAL_WEIGHT = -4.0
CONFIDENCE = ConfidenceModel(
    bias=-7.772, weights=(2.436, 2.346, FOCAL_WEIGHT, 0.0), threshold=0.5
)
# Of matches in context, after a query was refused, fitted to such queries of hard validation rooms
# (`python -m benchmarks.trust.context_confidence --fit`) in maps with depth, with six neighbours
# and known focal lengths. Without depth, one in four answers of such a fit is wrong, and CONFIDENCE
# judges these, too.
CONFIDENCE_OF_REFUSED = ConfidenceModel(
    bias=-11.735, weights=(0.0, 0.0, FOCAL_WEIGHT, -6.34), threshold=0.7
)
SMALLEST, SMALLEST_DEVIATION = 1e-2, 1e-4
# The gain of another focal length up to which the given one is believed, and the scale beyond.
FAMILIAR, UNFAMILIAR = (4e-3, 3e-3), (-1e-2, 1e-4)
# Of the variances of rotation and centre.
ROTATION_INFLATION, POSITION_INFLATION = 0.85, 1.15
# The same after `refined_by_pictures`.
PRECISE_ROTATION, PRECISE_POSITION = 1.85, 2.0
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


@functools.partial(
    Program,
    name="pose_from_all_matches",
    static=["config"],
    compiler_options=compiler_options.many_operations,
)
def pose_from_all_matches(
    world_from_db: SE3,
    matches: RayTracks,
    depth: Float[Array, "N h w 2"] | None,
    given: SE3,
    given_usable: Bool[Array, "G"],
    familiar: Bool[Array, ""] | bool = True,
    was_refused: Bool[Array, ""] | bool = False,
    focal_deviation: Float[Array, ""] | None = None,
    config: AbsolutePoseConfig = AbsolutePoseConfig(),
) -> MatchedPose:
    """Estimates the pose and judges it.

    Args:
      world_from_db: of the N neighbours.
      depth: inverse depth and its deviation for the cells of each; None if nothing is known.
      given, given_usable: poses that are hypotheses too, and which of them are any.
      familiar: the map's cameras have such a focal length.
      was_refused: the matches are in context, of a query that was refused without.
      focal_deviation: of a focal length that is to be found; see `estimate_absolute_pose`.
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
        focal_deviation=focal_deviation,
        config=config,
    )
    agreeing = jnp.sum(jnp.where(found.inliers, matches.weights, 0.0), axis=1)
    share = jnp.sum(agreeing) / (jnp.sum(matches.weights) + SMALLEST)
    bound, scale = jnp.where(familiar, jnp.array(FAMILIAR), jnp.array(UNFAMILIAR))
    doubt = 1 + jnp.maximum(found.focal_gain - bound, 0.0) / scale
    covariance = _scaled(found.covariance, ROTATION_INFLATION, POSITION_INFLATION)
    covariance = covariance / jnp.maximum(share, SMALLEST) ** 2
    deviation = jnp.sqrt(jnp.trace(covariance[:3, :3]) / 3)
    deviation = jnp.where(found.success, jnp.clip(deviation, SMALLEST_DEVIATION, 1.0), 1.0)
    evidence = jnp.log(
        jnp.stack([jnp.sum(agreeing) + 1, share + SMALLEST, doubt, deviation])
    )
    found = dataclasses.replace(found, covariance=covariance)
    judge = jnp.where(was_refused, judge_of_refused(depth)(evidence), CONFIDENCE(evidence))
    confidence = jnp.where(found.success, judge, 0.0)
    return MatchedPose(found, evidence, confidence, agreeing >= AGREEING_WEIGHT)


@functools.partial(
    Program,
    name="refined_by_pictures",
    static=["config"],
    compiler_options=compiler_options.many_operations,
)
def refined_by_pictures(
    world_from_db: SE3,
    matches: RayTracks,
    depth: Float[Array, "N h w 2"] | None,
    found: MatchedPose,
    pictures: Pictures,
    focal_deviation: Float[Array, ""] | None = None,
    config: PrecisionConfig = PrecisionConfig(),
) -> MatchedPose:
    """The pose from patches aligned in the pictures; as found, where too few of them are.

    Args:
      world_from_db, matches, depth: what `pose_from_all_matches` found it from.
      pictures: with the intrinsics that the query was given with.
      focal_deviation: as there.
    """
    prior = None if depth is None else depth_prior(matches, depth)
    if focal_deviation is not None:
        factor = found.pose.focal_factor
        matches = matches.replace(x_query=matches.x_query / factor)
        longer = jnp.ones((3, 3)).at[0, 0].set(factor).at[1, 1].set(factor)
        pictures = pictures.replace(query_intrinsics=pictures.query_intrinsics * longer[None])
    precise = precise_pose(
        world_from_db, matches, prior, found.pose, pictures, focal_deviation, config
    )
    covariance = _scaled(precise.covariance, PRECISE_ROTATION, PRECISE_POSITION)
    world_from_query, covariance = jax.tree.map(
        lambda new, old: jnp.where(precise.success, new, old),
        (precise.world_from_query, covariance),
        (found.pose.world_from_query, found.pose.covariance),
    )
    old = found.pose.focal_deviation
    pose = dataclasses.replace(
        found.pose,
        world_from_query=world_from_query,
        covariance=covariance,
        focal_factor=found.pose.focal_factor * precise.focal_factor,
        focal_deviation=jnp.where(precise.success, precise.focal_deviation, old),
    )
    return found.replace(pose=pose)


def judge_of_refused(depth: object | None) -> ConfidenceModel:
    """For matches in context of a refused query, in a map with such a depth or none."""
    return CONFIDENCE if depth is None else CONFIDENCE_OF_REFUSED


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


def _scaled(
    covariance: Float[Array, "6 6"], rotation: float, position: float
) -> Float[Array, "6 6"]:
    """Variances times constants."""
    scale = jnp.asarray(np.sqrt(np.repeat([rotation, position], 3)), jnp.float32)
    return covariance * scale[:, None] * scale[None]

"""The last step of a pose: places of cells to a fraction of a pixel, from the pictures.

Descriptors place a match to about a pixel. With the pose and the depths that they give, a patch of
the query's picture around a cell's centre can be warped into each neighbour's picture, and aligned
there by grey values (`patch_alignment`). A surface is taken for a plane, whose slope the depths of
the cells around tell (`surfaces`). Then the pose is solved again from these places, and all is
repeated.

How far the aligned places are wrong depends on the picture's sharpness and on the database's poses,
so their deviation is read off the residuals.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jaxlie import SE3, SO3
from jaxtyping import Array, Bool, Float, Int, UInt8

from jaxreloc.geometry.absolute_pose import AbsolutePose, covariance_of, normalised
from jaxreloc.geometry.resection import focal_length, patch_alignment
from jaxreloc.geometry.resection import tracks as tracks_lib
from jaxreloc.geometry.resection.focal_length import FocalPose, with_log_factor
from jaxreloc.geometry.resection.surfaces import inverse_depth_slopes
from jaxreloc.geometry.resection.tracks import DepthPrior, QueryPose, Tracks
from jaxreloc.models.matching.descriptors import FINE_STRIDE
from jaxreloc.models.matching.rays import RayTracks, cell_pixels, viewing_rays

SIMILARITIES = (0.6, 0.95)  # of no weight, and of full weight
LEAST_SIMILARITY = 0.8
AREAS = (0.15, 4.0)  # that a warp may make of a pixel
FIRST_DEVIATION_PX = 0.5
LEAST_DEVIATION_PX = 0.2
# Of the median distance between a point's place and its projection.
DEVIATIONS_PER_MEDIAN = 1.25
# Of cells, the best are those with this weight in all images, and much texture.
ENOUGH_WEIGHT, TEXTURE_POWER = 3.0, 0.5
LEAST_SHARE = 0.3  # of the patches, that must agree


@dataclasses.dataclass(frozen=True)
class PrecisionConfig:
    """The work for each query.

    Attributes:
      cells: those that are aligned, at most,
      patches: in all neighbours together.
      radius: of a patch, pixels.
      rounds: of aligning and solving.
      alignment_steps, pose_steps: of each.
      scale: of the robust cost.
      longest_move_px: what is aligned farther from where the pose has it is another thing.
      fewest: patches that must be aligned, and agree.
    """

    cells: int = 512
    patches: int = 1536
    radius: int = 4
    rounds: int = 3
    alignment_steps: int = 3
    pose_steps: int = 5
    scale: float = 3.0
    longest_move_px: float = 3.0
    fewest: int = 40


@struct.dataclass
class Pictures:
    """Grey pictures of a query and of N database images, as the network saw them.

    Attributes:
      query_intrinsics, db_intrinsics: of these pictures.
    """

    query: UInt8[Array, "H W"]
    db: UInt8[Array, "N H W"]
    query_intrinsics: Float[Array, "1 3 3"]
    db_intrinsics: Float[Array, "N 3 3"]


@struct.dataclass
class PrecisePose:
    """A pose from aligned patches.

    Attributes:
      covariance: of (rotation vector in world axes, centre), from the normal equations.
      deviation_px: of an aligned place.
      focal_factor, focal_deviation: of the focal length, if it is searched: times that of the
        matches, and of its logarithm.
      success: enough patches are aligned, and agree.
    """

    world_from_query: SE3
    covariance: Float[Array, "6 6"]
    deviation_px: Float[Array, ""]
    focal_factor: Float[Array, ""]
    focal_deviation: Float[Array, ""]
    success: Bool[Array, ""]


class _Warps(NamedTuple):
    """M patches of the query, each of a cell, to be found in an image.

    Attributes:
      cell: of the chosen cells, the one it is around.
      slope: of the inverse depth there, per pixel.
      image: to look into.
    """

    cell: Int[Array, "M"]
    slope: Float[Array, "M 2"]
    image: Int[Array, "M"]


@functools.partial(jax.jit, static_argnames="config")
def precise_pose(
    world_from_db: SE3,
    matches: RayTracks,
    depth: DepthPrior | None,
    found: AbsolutePose,
    pictures: Pictures,
    focal_deviation: Float[Array, ""] | None = None,
    config: PrecisionConfig = PrecisionConfig(),
) -> PrecisePose:
    """Refines a pose that was found from `matches`.

    Args:
      world_from_db, matches, depth: what `estimate_absolute_pose` took to find it.
      matches, pictures: of the focal length that was found, if it was searched.
      focal_deviation: of it beforehand; None: it was not searched.
    """
    tracks, origin, unit = normalised(
        world_from_db, matches.x_query, matches.x_db, matches.weights, matches.sigma, depth
    )
    weights = jnp.where(found.inliers, matches.weights, 0.0)
    total = jnp.sum(weights, axis=0)
    places = cell_pixels(matches.query_cells, FINE_STRIDE)
    patches = patch_alignment.templates(pictures.query, places, config.radius)
    worth = jnp.minimum(total, ENOUGH_WEIGHT) * patches.texture**TEXTURE_POWER
    cells = jax.lax.top_k(worth, min(config.cells, len(total)))[1]
    patches, places = jax.tree.map(lambda x: x[cells], patches), places[cells]
    grid = tuple(side // FINE_STRIDE for side in pictures.query.shape)
    slopes = inverse_depth_slopes(
        found.inverse_depth, total > 0, matches.query_cells.astype(jnp.int32), grid
    )
    tracks = tracks_lib.of_cells(tracks, cells)
    weights = weights[:, cells]
    shape = weights.shape
    likely, match = jax.lax.top_k(weights.reshape(-1), min(config.patches, weights.size))
    image, cell = match // shape[1], match % shape[1]
    warps = _Warps(cell, (unit / FINE_STRIDE) * slopes[cells][cell], image)
    focal_px = jnp.sqrt(pictures.db_intrinsics[:, 0, 0] * pictures.db_intrinsics[:, 1, 1])

    def aligned(found: FocalPose, rho: Float[Array, "K"], deviation_px: Array) -> Tracks:
        start, jacobian, usable = _projected(tracks, found, rho, warps, places, pictures)
        seen = patch_alignment.align(
            patches,
            cell,
            pictures.db,
            image,
            start,
            jacobian,
            radius=config.radius,
            steps=config.alignment_steps,
        )
        moved = jnp.linalg.norm(seen.places - start, axis=-1)
        usable = usable & (likely > 0) & (moved < config.longest_move_px)
        none, full = SIMILARITIES
        weight = jnp.clip((seen.similarity - none) / (full - none), 0.0, 1.0)
        weight = jnp.where(usable & (seen.similarity > LEAST_SIMILARITY), weight, 0.0)
        rays = viewing_rays(seen.places[:, None], pictures.db_intrinsics[image])[:, 0]
        return tracks._replace(
            x_db=jnp.zeros((weights.size, 2)).at[match].set(rays).reshape(*shape, 2),
            weights=jnp.zeros(weights.size).at[match].set(weight).reshape(shape),
            sigma=deviation_px / focal_px,
        )

    def round_(_, state):
        found, rho, deviation_px, *_ = state
        now = aligned(found, rho, deviation_px)
        found, rho = _refined(now, found, rho, focal_deviation, config)
        seen = with_log_factor(now, found.log_factor)
        squared, ahead = tracks_lib.residuals(seen, found.pose, rho)
        used = ahead & (now.weights > 0)
        error_px = jnp.sqrt(squared) * deviation_px
        median = jnp.nan_to_num(jnp.nanmedian(jnp.where(used, error_px, jnp.nan)), nan=1e3)
        deviation_px = jnp.maximum(DEVIATIONS_PER_MEDIAN * median, LEAST_DEVIATION_PX)
        agreeing = jnp.sum(used & (error_px < config.scale * deviation_px))
        return found, rho, deviation_px, now, agreeing

    centre = (found.world_from_query.translation() - origin) / unit
    pose = QueryPose(found.world_from_query.rotation().as_matrix(), centre)
    rho = found.inverse_depth[cells] * unit
    start = FocalPose(pose, jnp.zeros(()))
    state = start, rho, jnp.float32(FIRST_DEVIATION_PX), tracks, jnp.zeros((), jnp.int32)
    last, rho, deviation_px, now, agreeing = jax.lax.fori_loop(0, config.rounds, round_, state)
    pose = last.pose
    now = with_log_factor(now._replace(sigma=deviation_px / focal_px), last.log_factor)
    covariance, of_focal, determined = covariance_of(now, pose, rho, unit, focal_deviation)
    fewest = jnp.maximum(config.fewest, LEAST_SHARE * jnp.sum(likely > 0))
    finite = jnp.all(jnp.isfinite(pose.rotation)) & jnp.all(jnp.isfinite(pose.centre))
    success = found.success & determined & finite & (agreeing >= fewest)
    rotation = SO3.from_matrix(jnp.where(success, pose.rotation, jnp.eye(3))).normalize()
    return PrecisePose(
        world_from_query=SE3.from_rotation_and_translation(
            rotation, jnp.where(success, origin + unit * pose.centre, origin)
        ),
        covariance=covariance,
        deviation_px=deviation_px,
        focal_factor=jnp.where(success, jnp.exp(last.log_factor), 1.0),
        focal_deviation=of_focal,
        success=success,
    )


def _refined(
    tracks: Tracks,
    start: FocalPose,
    rho: Float[Array, "K"],
    focal_deviation: Float[Array, ""] | None,
    config: PrecisionConfig,
) -> tuple[FocalPose, Float[Array, "K"]]:
    """The pose, and the focal length if it is searched, by the aligned places."""
    scales, steps = (config.scale,), config.pose_steps
    if focal_deviation is None:
        pose, rho, _ = tracks_lib.refine(tracks, start.pose, rho, scales, steps)
        return start._replace(pose=pose), rho
    found, rho, _ = focal_length.refine(tracks, start, rho, scales, steps, focal_deviation)
    return found, rho


def _projected(
    tracks: Tracks,
    found: FocalPose,
    rho: Float[Array, "K"],
    warps: _Warps,
    places: Float[Array, "K 2"],
    pictures: Pictures,
) -> tuple[Float[Array, "M 2"], Float[Array, "M 2 2"], Bool[Array, "M"]]:
    """Where the planes have the patches' places, how these move there, and whether they are seen.

    K_i v with v = R_i^T (R x + rho (c - c_i)) is the pixel over w; x and rho are affine in the
    query's pixel.
    """
    pose, factor = found.pose, jnp.exp(found.log_factor)
    rotation = tracks.rotation[warps.image]
    camera = pictures.db_intrinsics[warps.image]
    ray_per_pixel = jnp.linalg.inv(pictures.query_intrinsics[0])
    per_pixel = pose.rotation @ (ray_per_pixel / jnp.stack([factor, factor, jnp.ones(())])[:, None])
    turned = jnp.einsum("mab,mcb,cd->mad", camera, rotation, per_pixel)
    offset = jnp.einsum(
        "mab,mcb,mc->ma", camera, rotation, pose.centre[None] - tracks.centre[warps.image]
    )
    place = places[warps.cell]
    homogeneous = jnp.concatenate([place, jnp.ones((len(place), 1))], axis=-1)
    v = jnp.einsum("mab,mb->ma", turned, homogeneous) + rho[warps.cell][:, None] * offset
    ahead = v[:, 2] > tracks_lib.NEAREST
    z = jnp.where(ahead, v[:, 2], 1.0)[:, None]
    start = v[:, :2] / z
    moves = turned[:, :, :2] + offset[:, :, None] * warps.slope[:, None]
    jacobian = (moves[:, :2] - start[:, :, None] * moves[:, 2:]) / z[:, :, None]
    area = jacobian[:, 0, 0] * jacobian[:, 1, 1] - jacobian[:, 0, 1] * jacobian[:, 1, 0]
    smallest, largest = AREAS
    return start, jacobian, ahead & (area > smallest) & (area < largest)

"""How far away the cells of a map's images are, by triangulation from their known poses.

Each image is matched, as if it were a query, with the images of the map that show most of what it
shows; its own pose being known, the depth of each cell is the only unknown of its track
(`geometry.tracks`). With depths a query's matches determine its pose in metres by themselves, from
a single neighbour too.
"""

import concurrent.futures
import dataclasses
import os
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jaxlie import SE3
from jaxtyping import Array, Float, Float32, Int, UInt16

from jaxreloc.geometry.resection import tracks as tracks_lib
from jaxreloc.geometry.resection.tracks import QueryPose, Tracks
from jaxreloc.localization.map.encoding import CellDepth, Progress, encode_depth
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.neighbors.reranking import RERANKED, most_alike
from jaxreloc.localization.neighbors.retrieval import Index
from jaxreloc.localization.networks.matcher import Matcher
from jaxreloc.models.matching.rays import RayTracks

NEIGHBORS = 8  # that an image is triangulated with
ROBUST_SCALE = 2.0  # of the tracks' cost
STEPS = 4
INLIER = 3.0  # deviations of a match
# Deviations by the normal equations are too small by this, and a cell is no point: chosen on
# validation rooms.
INFLATION = 2.0
RELATIVE_DEVIATION = 0.02
LARGEST_RELATIVE_DEVIATION = 0.5  # what is known less well is not kept


def with_depth(
    scene_map: SceneMap, progress: Progress = lambda images: images
) -> SceneMap:
    """The map with the depth of all its images, where its network matches any.

    What a depth camera has measured stays. `progress` wraps the iteration, as tqdm does.
    """
    if scene_map.depth is not None or len(scene_map) < 2:
        return scene_map
    if not isinstance(scene_map.network, Matcher):
        return scene_map
    depth = triangulate(scene_map, range(len(scene_map)), progress)
    return dataclasses.replace(scene_map, depth=depth)


def triangulate(
    scene_map: SceneMap,
    rows: Iterable[int],
    progress: Progress = lambda images: images,
    threads: int | None = None,
) -> CellDepth:
    """Inverse depths and deviations of the cells of some images.

    Args:
      scene_map: its network is a `Matcher`.
      rows: of the images.
      progress: wraps the iteration, as tqdm does.
      threads: None: one a core.
    """
    index = scene_map.index
    with concurrent.futures.ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        found = pool.map(lambda row: _triangulate_image(scene_map, index, row), rows)
        codes, units = zip(*progress(found), strict=True)
    return CellDepth(np.stack(codes), np.array(units, np.float32))


def match_image(
    scene_map: SceneMap, index: Index, row: int, count: int = NEIGHBORS
) -> tuple[Int[np.ndarray, "N"], RayTracks]:
    """The images that show most of what an image of the map shows, and its matches with them.

    Args:
      scene_map: its network is a `Matcher`.
      index: of its images.
      count: N, at most.
    """
    features, intrinsics = scene_map.neighbor_features(np.array([row]))
    ranked, _ = index.search(_descriptor(scene_map, row), RERANKED + 1)
    others = ranked[0][ranked[0] != row][:RERANKED]
    neighbors, similarity = most_alike(scene_map, features, others, count)
    db_features, db_intrinsics = scene_map.neighbor_features(neighbors)
    matches = scene_map.network.match_tracks(
        db_features, db_intrinsics, features, intrinsics, similarity, every_cell=True
    )
    return neighbors, matches


def _descriptor(scene_map: SceneMap, row: int) -> Float32[np.ndarray, "1 dim"]:
    return np.asarray(scene_map.descriptor_rows[row], np.float32)[None]


def _triangulate_image(
    scene_map: SceneMap, index: Index, row: int
) -> tuple[UInt16[np.ndarray, "h w"], float]:
    neighbors, matches = match_image(scene_map, index, row)
    poses = scene_map.local_from_db.wxyz_xyz
    inverse_depth, deviation, unit = jax.device_get(
        _depths(poses[neighbors], poses[row], matches)
    )
    codes = np.zeros(scene_map.network.cell_pixels().shape[:2], np.uint16)
    column, line = np.asarray(matches.query_cells, int).T
    codes[line, column] = encode_depth(inverse_depth, deviation)
    return codes, float(unit)


@jax.jit
def _depths(
    world_from_db: Float[Array, "N 7"], world_from_image: Float[Array, "7"], matches: RayTracks
) -> tuple[Float[Array, "K"], Float[Array, "K"], Float[Array, ""]]:
    """Inverse depths and deviations in units of 1 / unit, and the unit: the typical baseline."""
    db, image = SE3(world_from_db), SE3(world_from_image)
    offset = db.translation() - image.translation()[None]
    unit = jnp.median(jnp.linalg.norm(offset, axis=-1))
    unit = jnp.where(unit > 0, unit, 1.0)
    count = len(matches.x_query)
    tracks = Tracks(
        rays=jnp.concatenate([matches.x_query, jnp.ones((count, 1))], axis=-1),
        x_db=matches.x_db,
        weights=matches.weights,
        rotation=db.rotation().as_matrix(),
        centre=offset / unit,
        sigma=matches.sigma,
    )
    pose = QueryPose(image.rotation().as_matrix(), jnp.zeros(3))
    rho = tracks_lib.linear_inverse_depth(tracks, pose)
    rho, information = tracks_lib.refine_depth(tracks, pose, rho, ROBUST_SCALE, STEPS)
    squared, ahead = tracks_lib.residuals(tracks, pose, rho)
    agree = ahead & (squared < INLIER**2) & (matches.weights > 0)
    deviation = INFLATION / jnp.sqrt(jnp.maximum(information, 1e-12)) + RELATIVE_DEVIATION * rho
    known = jnp.any(agree, axis=0) & (deviation < LARGEST_RELATIVE_DEVIATION * rho)
    return jnp.where(known, rho, 0.0), jnp.where(known, deviation, 0.0), unit

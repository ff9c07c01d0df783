"""Points of a map, each with the pixels that show it, from its matches and the depths it keeps.

A cell of an image whose depth is known is a point, X = world_from_cam (x / q), at its ray x and its
inverse depth q. It is matched in the images that show most of the same, as when the depth was
triangulated, and a match where the point is seen becomes an observation. A cell in which an earlier
point was observed makes none of its own.
"""

import concurrent.futures
import functools
import os
from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from jaxreloc.formats.rigid_arrays import inverse
from jaxreloc.formats.writers.scene_content import ScenePoints
from jaxreloc.images import decode_image
from jaxreloc.localization.map.encoding import Progress
from jaxreloc.localization.map.map_depth import INLIER, match_image
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.neighbors.retrieval import ExactIndex
from jaxreloc.localization.networks.matcher import Matcher
from jaxreloc.models.matching.rays import RayTracks

MAX_DEVIATION = 0.1  # of a point's inverse depth, relative
MIN_DEPTH = 1e-6  # of a point in front of a camera, in the unit of the map


def scene_points(
    scene_map: SceneMap, progress: Progress = lambda images: images
) -> ScenePoints | None:
    """The points that two images or more show; None if the map knows no depths.

    Args:
      progress: wraps the iteration over the images, as tqdm does.
    """
    if scene_map.depth is None or not isinstance(scene_map.network, Matcher):
        return None
    rows = range(len(scene_map))
    index = scene_map.index
    shape = np.asarray(scene_map.network.cell_pixels()).shape[:2]
    collected = _Collected(scene_map, shape)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
        matched = threads.map(functools.partial(_matches, scene_map, index), rows)
        for row, (neighbors, matches) in zip(rows, progress(matched)):
            collected.add(row, neighbors, matches)
    return collected.points()


def _matches(
    scene_map: SceneMap, index: ExactIndex, row: int
) -> tuple[Int[np.ndarray, "N"], RayTracks]:
    """Of every cell of an image with those that show most of the same."""
    neighbors, matches = match_image(scene_map, index, row)
    return neighbors, jax.device_get(matches)


def cell_colors(
    scene_map: SceneMap, row: int, line: Int[np.ndarray, "n"], column: Int[np.ndarray, "n"]
) -> UInt8[np.ndarray, "n 3"]:
    """Of the middles of an image's cells."""
    picture = decode_image(scene_map.pictures[row], f"picture {row} of the map")
    x, y = np.rint(np.asarray(scene_map.network.cell_pixels())[line, column]).astype(int).T
    height, width = picture.shape[:2]
    return picture[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]


class _Collected:
    """Gathers points image by image."""

    def __init__(self, scene_map: SceneMap, shape: tuple[int, int]):
        self._map = scene_map
        self._cam_from_world = inverse(scene_map.world_from_db)
        self._is_used = np.zeros((len(scene_map), *shape), bool)
        self._positions: list[np.ndarray] = []
        self._colors: list[np.ndarray] = []
        self._observations: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._count = 0

    def add(self, row: int, neighbors: Int[np.ndarray, "N"], matches: RayTracks) -> None:
        """The points of an image's cells."""
        column, line = np.asarray(matches.query_cells, int).T
        inverse_depth, deviation = self._map.neighbor_depth(np.array([row]))[0][line, column].T
        known = (inverse_depth > 0) & (deviation < MAX_DEVIATION * inverse_depth)
        known &= ~self._is_used[row, line, column]
        rays = np.concatenate([matches.x_query, np.ones((len(column), 1))], axis=1)
        in_camera = rays / np.where(known, inverse_depth, 1.0)[:, None]
        pose = self._map.world_from_db[row]
        positions = in_camera @ pose[:3, :3].T + pose[:3, 3]
        seen = self._seen(positions, neighbors, matches) & known
        kept = np.flatnonzero(seen.any(axis=0))
        number = np.full(len(known), -1)
        number[kept] = self._count + np.arange(len(kept))
        self._observe(row, number[kept], matches.x_query[kept])
        for i, other in enumerate(neighbors):
            cells = np.flatnonzero(seen[i])
            self._observe(int(other), number[cells], matches.x_db[i, cells])
            self._mark(int(other), matches.db_cells[i, cells])
        self._positions.append(positions[kept])
        self._colors.append(cell_colors(self._map, row, line[kept], column[kept]))
        self._count += len(kept)

    def points(self) -> ScenePoints:
        """All of them."""
        point_of, image_of, pixels = (
            np.concatenate(parts) for parts in zip(*self._observations, strict=True)
        )
        positions, colors = np.concatenate(self._positions), np.concatenate(self._colors)
        return ScenePoints(positions, colors, point_of, image_of, pixels)

    def _seen(
        self,
        positions: Float[np.ndarray, "K 3"],
        neighbors: Sequence[int],
        matches: RayTracks,
    ) -> Bool[np.ndarray, "N K"]:
        """Which matches lie where the point is seen."""
        seen = np.zeros(np.shape(matches.weights), bool)
        for i, other in enumerate(neighbors):
            pose = self._cam_from_world[other]
            in_camera = positions @ pose[:3, :3].T + pose[:3, 3]
            ahead = in_camera[:, 2] > MIN_DEPTH
            place = in_camera[:, :2] / np.where(ahead, in_camera[:, 2], 1.0)[:, None]
            off = np.linalg.norm(place - matches.x_db[i], axis=1)
            seen[i] = ahead & (matches.weights[i] > 0) & (off < INLIER * matches.sigma[i])
        return seen

    def _observe(self, row: int, points: np.ndarray, rays: Float[np.ndarray, "n 2"]) -> None:
        K = self._map.intrinsics[row]
        pixels = rays @ K[:2, :2].T + K[:2, 2]
        self._observations.append((points, np.full(len(points), row), pixels))

    def _mark(self, row: int, cells: Float[np.ndarray, "n 2"]) -> None:
        height, width = self._is_used.shape[1:]
        column, line = np.rint(cells).astype(int).T
        self._is_used[row, np.clip(line, 0, height - 1), np.clip(column, 0, width - 1)] = True

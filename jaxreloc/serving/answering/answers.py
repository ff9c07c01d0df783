"""Answers as plain data for JSON: a localized picture, a map, its cameras and points."""

from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int, UInt8

from jaxreloc.evaluation.report.content import upright
from jaxreloc.formats.localized_poses import json_fields
from jaxreloc.localization.care.map_points import cell_colors
from jaxreloc.localization.jobs.querying import intrinsics_found, localized_pose
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.networks.matcher import Matcher
from jaxreloc.localization.query_state import Localization
from jaxreloc.serving.answering.map_shelf import OpenMap
from jaxreloc.serving.uploads import Upload

MAX_CAMERAS = 5000  # that are sent to be looked at
MAX_POINTS = 6000
POINT_IMAGES = 48  # whose cells become points
MAX_DEVIATION = 0.1  # of a point's inverse depth, relative
DIGITS = 6


def localization(
    opened: OpenMap, name: str, found: Localization, matches: list[dict] | None
) -> dict[str, Any]:
    """The fields of `jsonl`, and the neighbours, most similar first."""
    scene_map = opened.localizer.scene_map
    neighbors = [
        {"image": scene_map.names[i], "agrees": bool(agrees)}
        for i, agrees in zip(found.neighbors, found.location_inliers & found.success, strict=True)
    ]
    if matches is not None:
        neighbors = [a | {"matches": b} for a, b in zip(neighbors, matches, strict=True)]
    return json_fields(localized_pose(name, found)) | {
        "map": opened.name,
        "neighbors": neighbors,
    }


def camera(upload: Upload, found: Localization) -> dict[str, Any]:
    """The camera that a picture was localized with, its focal length as found with the pose."""
    intrinsics = intrinsics_found(upload.intrinsics, found)
    fx, fy, cx, cy = (float(intrinsics[i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2)))
    height, width = upload.image.shape[:2]
    size = {"width": width, "height": height}
    return {"fx": fx, "fy": fy, "cx": cx, "cy": cy, **size, "source": upload.camera_source}


def described(opened: OpenMap) -> dict[str, Any]:
    """A map in short."""
    scene_map = opened.localizer.scene_map
    centres = scene_map.world_from_db[:, :3, 3]
    return {
        "name": opened.name,
        "images": len(scene_map),
        "megabytes": round(opened.num_bytes / 1e6, 1),
        "has_depth": scene_map.depth is not None,
        "matches_images": isinstance(scene_map.network, Matcher),
        "centre": _numbers(np.median(centres, axis=0)),
        "extent": _numbers(np.ptp(centres, axis=0)),
    }


def cameras(scene_map: SceneMap) -> dict[str, Any]:
    """What of a map is shown in 3D; of a large one evenly chosen images.

    `tangents` are those of an image's left, top, right and bottom edge; poses are the upper three
    rows of `world_from_cam`; `upright_from_world` turns z up.
    """
    rows = scene_map.some_images(MAX_CAMERAS)
    points, colors = depth_points(scene_map)
    return {
        "names": [scene_map.names[i] for i in rows],
        "poses": _numbers(scene_map.world_from_db[rows, :3].reshape(len(rows), 12)),
        "tangents": _numbers(_tangents(scene_map, rows)),
        "upright_from_world": _numbers(upright(scene_map.world_from_db)),
        "points": _numbers(points),
        "colors": colors.tolist(),
    }


def depth_points(
    scene_map: SceneMap,
) -> tuple[Float[np.ndarray, "P 3"], UInt8[np.ndarray, "P 3"]]:
    """Cells whose depth the map knows well, in the world, with their colours.

    A cell at pixel p of an image with inverse depth q lies at world_from_cam K^-1 (p, 1) / q.
    """
    none = np.zeros((0, 3)), np.zeros((0, 3), np.uint8)
    if scene_map.depth is None or not isinstance(scene_map.network, Matcher):
        return none
    rows = scene_map.some_images(POINT_IMAGES)
    pixels = np.asarray(scene_map.network.cell_pixels())
    found = [_points_of(scene_map, int(i), pixels) for i in rows]
    points = np.concatenate([points for points, _ in found])
    colors = np.concatenate([colors for _, colors in found])
    some = np.random.default_rng(0).permutation(len(points))[:MAX_POINTS]
    return points[some], colors[some]


def _points_of(
    scene_map: SceneMap, row: int, pixels: Float[np.ndarray, "h w 2"]
) -> tuple[Float[np.ndarray, "P 3"], UInt8[np.ndarray, "P 3"]]:
    depth: Float32[np.ndarray, "h w 2"] = scene_map.neighbor_depth(np.array([row]))[0]
    known = (depth[..., 0] > 0) & (depth[..., 1] < MAX_DEVIATION * depth[..., 0])
    line, column = np.nonzero(known)
    homogeneous = np.concatenate([pixels[known], np.ones((len(line), 1))], axis=1)
    rays = homogeneous @ np.linalg.inv(scene_map.network_intrinsics[row].astype(np.float64)).T
    in_camera = rays / depth[known][:, :1]
    pose = scene_map.world_from_db[row]
    return in_camera @ pose[:3, :3].T + pose[:3, 3], cell_colors(scene_map, row, line, column)


def _tangents(scene_map: SceneMap, rows: Int[np.ndarray, "n"]) -> Float[np.ndarray, "n 4"]:
    K, size = scene_map.intrinsics[rows], scene_map.image_sizes[rows]
    focal, centre = K[:, [0, 1], [0, 1]], K[:, :2, 2]
    return np.hstack([(-0.5 - centre) / focal, (size - 0.5 - centre) / focal])


def _numbers(values: np.ndarray) -> list:
    """Rounded to DIGITS significant ones."""
    flat = [float(f"{x:.{DIGITS}g}") for x in np.asarray(values, np.float64).ravel()]
    return np.reshape(flat, np.shape(values)).tolist()

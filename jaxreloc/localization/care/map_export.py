"""Writes a map as other programs read it: its images with their cameras and poses, and points."""

import os
import pathlib
from typing import Any

from jaxreloc.extras import extra
from jaxreloc.formats.common.camera_models import Camera
from jaxreloc.formats.writers.colmap_writing import write_colmap_model
from jaxreloc.formats.writers.point_cloud import write_ply
from jaxreloc.formats.writers.scene_content import PosedCamera
from jaxreloc.formats.writers.transforms_writing import write_transforms_json
from jaxreloc.localization.care.map_points import scene_points
from jaxreloc.localization.map.encoding import Progress
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.new_folder import new_folder
from jaxreloc.usage import UsageError, check_choice

FORMATS = ("colmap", "nerfstudio")
POINTS = "sparse_pc.ply"


def export_map(
    scene_map: SceneMap,
    out: pathlib.Path,
    form: str,
    *,
    images: pathlib.Path | None = None,
    progress: Progress = lambda images: images,
) -> str:
    """Writes a new folder; returns a line that says what it holds.

    Args:
      form: of FORMATS. "colmap" is a binary model; "nerfstudio" is a transforms.json and its
        points.
      images: the folder that the map was made of, to which transforms.json then leads; None: the
        images are to be put beside it under their names.
      progress: wraps the iteration over the images, as tqdm does.

    Raises:
      UsageError: the folder exists, or an image is not in `images`.
    """
    check_choice("format", form, FORMATS)
    if os.path.lexists(out):
        raise UsageError(f"{out}: exists; --out names the new folder of the export")
    if form == "colmap":
        with extra("colmap"):
            import pycolmap  # noqa: F401, so that its absence is said before the work
    prefix = None if images is None else _prefix(scene_map, images, out)
    posed = [_posed_camera(scene_map, row) for row in range(len(scene_map))]
    points = scene_points(scene_map, progress)
    with new_folder(out) as folder:
        if form == "colmap":
            write_colmap_model(folder, posed, points)
        else:
            more: dict[str, Any] = {}
            if points is not None:
                write_ply(folder / POINTS, points.positions, points.colors)
                more["ply_file_path"] = POINTS
            write_transforms_json(folder / "transforms.json", posed, more, prefix=prefix)
    count = 0 if points is None else len(points.positions)
    why = " (the map knows no depths)" if points is None else ""
    return f"{out}: {len(posed)} images and {count} points{why}"


def _posed_camera(scene_map: SceneMap, row: int) -> PosedCamera:
    camera = Camera.of_matrix(scene_map.intrinsics[row], *scene_map.image_sizes[row])
    return PosedCamera(scene_map.names[row], scene_map.world_from_db[row], camera)


def _prefix(scene_map: SceneMap, images: pathlib.Path, out: pathlib.Path) -> str:
    """The way from the export to the images."""
    missing = [name for name in scene_map.names if not os.path.isfile(images / name)]
    if missing:
        raise UsageError(
            f"{images}: {len(missing)} of the map's {len(scene_map)} images are not there, the "
            f"first is {missing[0]}; --images names the folder that the map was made of"
        )
    return os.path.relpath(images.resolve(), out.resolve())

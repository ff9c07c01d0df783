"""Writes a transforms.json, as nerfstudio and instant-ngp read it."""

import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from jaxreloc import files
from jaxreloc.formats.rigid_arrays import CV_FROM_GL
from jaxreloc.formats.writers.scene_content import PosedCamera


def frame_fields(image: PosedCamera) -> dict[str, Any]:
    """One of its `frames`, with a camera of its own; OpenGL axes, pixels from the corner."""
    camera = image.camera
    return {
        "file_path": image.name,
        "fl_x": camera.fx,
        "fl_y": camera.fy,
        "cx": camera.cx + 0.5,
        "cy": camera.cy + 0.5,
        "w": camera.width,
        "h": camera.height,
        "transform_matrix": (image.world_from_cam @ CV_FROM_GL).tolist(),
    }


def write_transforms_json(
    path: pathlib.Path,
    images: Iterable[PosedCamera],
    more: Mapping[str, Any] = {},
    *,
    prefix: str | None = None,
) -> None:
    """Writes the file by rename.

    Args:
      more: other fields of it.
      prefix: the way to the images, from the folder of the file; None: they lie there.
    """
    frames = [frame_fields(image) for image in images]
    if prefix is not None:
        for frame in frames:
            frame["file_path"] = f"{prefix}/{frame['file_path']}"
    content = {"camera_model": "OPENCV", **more, "frames": frames}
    files.write_text(path, json.dumps(content, indent=1) + "\n")

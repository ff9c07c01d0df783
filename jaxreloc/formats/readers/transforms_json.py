"""transforms.json of nerfstudio and instant-ngp.

`transform_matrix` is `world_from_cam` with OpenGL camera axes (y up, z back). The principal point
counts from the corner of the top-left pixel. Their own loaders ignore EXIF orientation, and so
poses and cameras are of the picture as it is stored, unless the camera's size says otherwise.
"""

import functools
import logging
import math
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jaxreloc import files
from jaxreloc.formats.common.camera_models import Camera, fitting_size, from_corner_convention
from jaxreloc.formats.common.collector import (
    BadFrames,
    FrameCollector,
    NamedPose,
    note_unposed,
    relative_name,
    unlisted_images,
)
from jaxreloc.formats.common.text import parse_json, read_text
from jaxreloc.formats.frames import PosedFrames, rigid
from jaxreloc.formats.rigid_arrays import CV_FROM_GL
from jaxreloc.images import read_header
from jaxreloc.usage import UsageError

logger = logging.getLogger(__name__)
FILE_NAME = "transforms.json"

_SUFFIXES = ("", ".png", ".jpg", ".jpeg")  # synthetic NeRF scenes leave the suffix out
_PINHOLE_MODELS = ("PINHOLE", "SIMPLE_PINHOLE", "OPENCV", "SIMPLE_RADIAL", "RADIAL", "FULL_OPENCV")


def read_transforms_json(
    path: str | pathlib.Path, *, scene: str | None = None, skip_bad_frames: bool = False
) -> PosedFrames:
    """The frames of a transforms.json, with lens distortion undone as images are read.

    Listed images that do not exist are left out, with one warning that counts them: exporters
    list frames that they dropped. Another warning counts the images beside them without a pose.

    Args:
      path: the file, or the folder that holds it.
      scene: the scene's name; by default the folder's.
      skip_bad_frames: lists bad frames in one warning instead of raising at the first.

    Raises:
      UsageError: the file is not such a file, or a frame is bad.
    """
    path = pathlib.Path(path)
    if os.path.isdir(path):
        path = path / FILE_NAME
    content = _parse(path)
    collector = FrameCollector(
        scene or path.resolve().parent.name, path, skip_bad_frames=skip_bad_frames
    )
    missing, found = [], []
    for index, frame in enumerate(content["frames"]):
        source = f"{path}: frames[{index}]"
        with collector.bad.guard():
            name = _field(frame, "file_path", source)
            image = _find_image(path.parent, name)
            if image is None:
                missing.append(name)
                continue
            found.append(image)
            world_from_cam = _matrix(frame, source) @ CV_FROM_GL
            camera = _camera({**content, **frame}, image, source)
            name = relative_name(image, path.parent)
            collector.add(name, image, world_from_cam, camera, stored=True)
    if missing:
        logger.warning(
            "%s: %d of %d listed images do not exist and are left out, the first is %s",
            path,
            len(missing),
            len(content["frames"]),
            files.printable(str(missing[0])),
        )
    note_unposed(path, (relative_name(image, path.parent) for image in unlisted_images(found)))
    return collector.finish()


def named_poses(path: pathlib.Path, bad: BadFrames) -> Iterator[NamedPose]:
    """The frames of a transforms.json, whether or not their images lie beside it.

    Raises:
      UsageError: the file is not such a file. Bad frames are `bad`'s.
    """
    content = _parse(path)
    for index, frame in enumerate(content["frames"]):
        source = f"{path}: frames[{index}]"
        with bad.guard():
            yield NamedPose(
                str(_field(frame, "file_path", source)),
                _matrix(frame, source) @ CV_FROM_GL,
                functools.partial(_camera, {**content, **frame}, source=source),
                stored=True,
            )


def _parse(path: pathlib.Path) -> dict[str, Any]:
    content = parse_json(read_text(path), str(path))
    if not isinstance(content, dict) or not isinstance(content.get("frames"), list):
        raise UsageError(f"{path}: has no list 'frames'; check that it is a transforms.json")
    return content


def _field(frame: Any, name: str, source: str) -> Any:
    if not isinstance(frame, dict) or name not in frame:
        raise UsageError(f"{source}: has no {name!r}; add it or remove the frame")
    return frame[name]


def _matrix(frame: Any, source: str) -> np.ndarray:
    try:
        matrix = np.asarray(_field(frame, "transform_matrix", source), dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(
            f"{source}: transform_matrix is not a 4x4 matrix of numbers; mend it"
        ) from error
    return rigid(matrix, f"{source}.transform_matrix")


def _find_image(folder: pathlib.Path, name: str) -> pathlib.Path | None:
    candidates = (folder / f"{name}{suffix}" for suffix in _SUFFIXES)
    return next((path for path in candidates if os.path.isfile(path)), None)


def _camera(fields: Mapping[str, Any], image: pathlib.Path, source: str) -> Camera:
    """The camera of one frame: its own fields before the file's."""
    try:
        if "w" in fields and "h" in fields:
            width, height = int(fields["w"]), int(fields["h"])
        else:
            header = read_header(image)
            width, height = header.stored_size
            if "cx" in fields and "cy" in fields:
                cx, cy = float(fields["cx"]) - 0.5, float(fields["cy"]) - 0.5
                width, height = fitting_size(cx, cy, header)
        if "fl_x" in fields:
            fx = float(fields["fl_x"])
        elif "camera_angle_x" in fields:
            fx = width / 2 / math.tan(float(fields["camera_angle_x"]) / 2)
        else:
            raise UsageError(f"{source}: neither 'fl_x' nor 'camera_angle_x'; add one to the file")
        return from_corner_convention(
            fx,
            float(fields.get("fl_y", fx)),
            float(fields.get("cx", width / 2)),
            float(fields.get("cy", height / 2)),
            width,
            height,
            **_distortion(fields, source),
        ).check(source)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise UsageError(f"{source}: a camera value is no number ({error}); mend it") from error


def _distortion(fields: Mapping[str, Any], source: str) -> dict[str, Any]:
    model = fields.get("camera_model", "OPENCV")
    fisheye = model == "OPENCV_FISHEYE" or bool(fields.get("is_fisheye", False))
    if not fisheye and model not in _PINHOLE_MODELS:
        raise UsageError(
            f"{source}: camera_model {model!r} is not read; undistort the images first "
            f"(known: {', '.join(_PINHOLE_MODELS)}, OPENCV_FISHEYE)"
        )
    order = ("k1", "k2", "k3", "k4") if fisheye else ("k1", "k2", "p1", "p2", "k3")
    coefficients = tuple(float(fields.get(name, 0.0)) for name in order)
    return {
        "distortion": coefficients if fisheye or any(coefficients) else (),
        "fisheye": fisheye,
    }

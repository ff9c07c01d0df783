"""The formats of a run's answers: what is printed of each, and what is written in the end.

  tum, 7scenes, jsonl   a file of lines (`localized_poses`)
  colmap                a folder: a COLMAP model of the localized images, without points
  nerfstudio            a file: transforms.json of the localized images
  geopose               a file of lines: OGC GeoPose 1.0, Basic-Quaternion, and the image's name

A GeoPose has the place of the camera, and the rotation of its axes (x forward, y left, z up) in
East, North, Up at that place: q = 1 looks level to the east.
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from jaxreloc import files
from jaxreloc.extras import extra
from jaxreloc.formats.common.geodesy import GeographicOrigin, placed
from jaxreloc.formats.localized_poses import (
    LINE_FORMATS,
    LocalizedPose,
    cam_from_world_line,
    failure_line,
)
from jaxreloc.formats.rigid_arrays import quaternion_wxyz
from jaxreloc.formats.writers.colmap_writing import write_colmap_model
from jaxreloc.formats.writers.scene_content import PosedCamera
from jaxreloc.formats.writers.transforms_writing import frame_fields, write_transforms_json
from jaxreloc.new_folder import new_folder
from jaxreloc.usage import UsageError, check_choice

NAMES = (*LINE_FORMATS, "colmap", "nerfstudio", "geopose")
# The camera's axes in those of a body that goes forward along x, with z up.
CV_FROM_BODY = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])


@dataclasses.dataclass(frozen=True)
class AnswerFormat:
    """How answers are printed and written.

    Attributes:
      line: what is printed of one; a comment where the format holds no failures.
      write: writes all of them to a path, which appears whole.
      holds_failures: also an image that was not localized is written as an answer.
      splits_at_spaces: a name must not have any.
      is_folder: what is written.
    """

    name: str
    line: Callable[[LocalizedPose], str]
    write: Callable[[pathlib.Path, Iterable[LocalizedPose]], None]
    holds_failures: bool = False
    splits_at_spaces: bool = False
    is_folder: bool = False


def answer_format(name: str, origin: GeographicOrigin | None, source: str) -> AnswerFormat:
    """The format of a name.

    Args:
      origin: of the map, which `source` names in a message.

    Raises:
      UsageError: there is no such format, it needs an origin and there is none, or a library that
        writes it is absent.
    """
    check_choice("format", name, NAMES)
    if name in LINE_FORMATS:
        line, is_json = LINE_FORMATS[name], name == "jsonl"
        write = _writing_lines(line, lambda pose: True)
        return AnswerFormat(
            name, line, write, holds_failures=is_json, splits_at_spaces=not is_json
        )
    if name == "colmap":
        with extra("colmap"):
            import pycolmap  # noqa: F401, so that its absence is said before the work
        return AnswerFormat(name, cam_from_world_line, _write_model, is_folder=True)
    if name == "nerfstudio":
        return AnswerFormat(name, _or_comment(_frame_line), _write_transforms)
    if origin is None:
        raise UsageError(
            f"{source}: has no geographic origin, which --format=geopose needs; build the map "
            "with --geographic_origin=LAT,LON,HEIGHT"
        )

    def geopose_line(pose: LocalizedPose) -> str:
        return json.dumps({"name": pose.name} | geopose_fields(pose, origin))

    line = _or_comment(geopose_line)
    return AnswerFormat(name, line, _writing_lines(line, lambda pose: pose.success))


def geopose_fields(pose: LocalizedPose, origin: GeographicOrigin) -> dict[str, Any]:
    """An OGC GeoPose 1.0, Basic-Quaternion, of a pose in a map of that origin."""
    world_from_body = pose.world_from_cam.copy()
    world_from_body[:3, :3] = world_from_body[:3, :3] @ CV_FROM_BODY
    place, rotation = placed(world_from_body, origin)
    w, x, y, z = (float(value) for value in quaternion_wxyz(rotation))
    return {
        "position": {"lat": place.latitude_deg, "lon": place.longitude_deg, "h": place.height_m},
        "quaternion": {"x": x, "y": y, "z": z, "w": w},
    }


def _or_comment(line: Callable[[LocalizedPose], str]) -> Callable[[LocalizedPose], str]:
    return lambda pose: line(pose) if pose.success else failure_line(pose)


def _writing_lines(
    line: Callable[[LocalizedPose], str], is_written: Callable[[LocalizedPose], bool]
) -> Callable[[pathlib.Path, Iterable[LocalizedPose]], None]:
    def write(path: pathlib.Path, poses: Iterable[LocalizedPose]) -> None:
        with files.replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
            file.writelines(line(pose) + "\n" for pose in poses if is_written(pose))

    return write


def _frame_line(pose: LocalizedPose) -> str:
    return json.dumps(frame_fields(_posed_camera(pose)))


def _write_model(path: pathlib.Path, poses: Iterable[LocalizedPose]) -> None:
    with new_folder(path) as folder:
        write_colmap_model(folder, _localized(poses))


def _write_transforms(path: pathlib.Path, poses: Iterable[LocalizedPose]) -> None:
    write_transforms_json(path, _localized(poses))


def _localized(poses: Iterable[LocalizedPose]) -> Iterator[PosedCamera]:
    return (_posed_camera(pose) for pose in poses if pose.success)


def _posed_camera(pose: LocalizedPose) -> PosedCamera:
    return PosedCamera(pose.name, pose.world_from_cam, pose.camera)

"""Lists of image names and poses: a CSV, a TUM trajectory beside images, and the evaluation format.

- `poses.csv`, with a header: image,tx,ty,tz,qw,qx,qy,qz in any order and, if the images differ in
  them, fx,fy,cx,cy; `world_from_cam`.
- `poses.txt` or `trajectory.txt`: a row `name tx ty tz qx qy qz qw`, `world_from_cam` in the order
  of TUM. The name is the image's path, or its timestamp: the stem of an image in the folder or in
  its subfolder `images` or `rgb`.
- The evaluation format of 7-Scenes peers: `name qw qx qy qz tx ty tz [f]`, `cam_from_world`.

The first two take intrinsics from `intrinsics.txt` beside them unless the CSV has its own.
"""

import csv
import dataclasses
import io
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float64

from jaxreloc.files import write_text
from jaxreloc.formats.common.camera_models import Camera, pinhole
from jaxreloc.formats.common.collector import (
    IMAGE_SUFFIXES,
    BadFrames,
    FrameCollector,
    relative_name,
    unlisted_images,
)
from jaxreloc.formats.common.intrinsics_file import FILE_NAME, read_intrinsics
from jaxreloc.formats.common.text import numbers, read_rows, read_text
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.formats.rigid_arrays import (
    inverse,
    quaternion_wxyz,
    rigid_from_quaternion,
    rigid_from_quaternions,
)
from jaxreloc.images import PictureHeader, read_header
from jaxreloc.usage import CommonError, UsageError

CSV_NAME = "poses.csv"
TUM_NAMES = ("poses.txt", "trajectory.txt")
IMAGE_FOLDERS = (".", "images", "rgb")

_POSE_COLUMNS = ("tx", "ty", "tz", "qw", "qx", "qy", "qz")
_CAMERA_COLUMNS = ("fx", "fy", "cx", "cy")


@dataclasses.dataclass(frozen=True)
class EvaluationPoses:
    """Named poses, as evaluations of 7-Scenes exchange them."""

    names: tuple[str, ...]
    world_from_cam: Float64[np.ndarray, "n 4 4"]
    focal_px: Float64[np.ndarray, " n"] | None  # of the image, if the file has it


def read_evaluation_poses(path: str | pathlib.Path) -> EvaluationPoses:
    """A file of `name qw qx qy qz tx ty tz [f]`, `cam_from_world`, inverted.

    Raises:
      UsageError: a row is not of that form, or a name comes twice.
    """
    rows = read_rows(path)
    if not rows:
        raise UsageError(f"{path}: has no pose; check that it is the right file")
    names: dict[str, None] = {}
    values = []
    for row in rows:
        name, *fields = row.fields
        if len(row.fields) not in (8, 9) or len(row.fields) != len(rows[0].fields):
            raise UsageError(f"{row.source}: not a row 'name qw qx qy qz tx ty tz [f]' throughout")
        if name in names:
            raise UsageError(f"{row.source}: {name} came before; remove one of its poses")
        names[name] = None
        values.append(numbers(fields, row.source, "a value"))
    values = np.array(values)
    cam_from_world = rigid_from_quaternions(
        values[:, :4], values[:, 4:7], [row.source for row in rows]
    )
    focal_px = values[:, 7] if values.shape[1] == 8 else None
    return EvaluationPoses(tuple(names), inverse(cam_from_world), focal_px)


def write_evaluation_poses(path: str | pathlib.Path, poses: EvaluationPoses) -> None:
    """Writes the evaluation format, by rename."""
    lines = []
    for index, (name, cam_from_world) in enumerate(zip(poses.names, inverse(poses.world_from_cam))):
        values = [*quaternion_wxyz(cam_from_world), *cam_from_world[:3, 3]]
        if poses.focal_px is not None:
            values.append(poses.focal_px[index])
        lines.append(" ".join([name, *(repr(float(value)) for value in values)]) + "\n")
    write_text(path, "".join(lines))


@dataclasses.dataclass(frozen=True)
class ListedPose:
    """A row of a list."""

    name: str
    world_from_cam: Float64[np.ndarray, "4 4"]
    pinhole: tuple[float, ...] | None  # fx fy cx cy, if the list has them
    source: str  # "file:line"


def csv_poses(path: pathlib.Path, bad: BadFrames) -> Iterator[ListedPose]:
    """The rows of a CSV with the columns of `poses.csv`; bad rows are `bad`'s.

    Raises:
      UsageError: a column is missing.
    """
    table = csv.DictReader(io.StringIO(read_text(path)), skipinitialspace=True)
    try:
        columns = tuple(name.strip() for name in table.fieldnames or ())
    except csv.Error as error:
        raise UsageError(f"{path}: not a CSV ({error}); check the file") from error
    table.fieldnames = list(columns)
    if missing := {"image", *_POSE_COLUMNS} - set(columns):
        raise UsageError(f"{path}: has no column {', '.join(sorted(missing))}; add it to line 1")
    for number, row in enumerate(_csv_rows(table, path), start=2):
        with bad.guard():
            yield _csv_pose(row, columns, f"{path}:{number}")


def tum_poses(path: pathlib.Path, bad: BadFrames) -> Iterator[ListedPose]:
    """The rows `name tx ty tz qx qy qz qw` of a file; bad rows are `bad`'s."""
    for row in read_rows(path):
        with bad.guard():
            if len(row.fields) != 8:
                raise UsageError(f"{row.source}: not a row 'name tx ty tz qx qy qz qw'; mend it")
            tx, ty, tz, qx, qy, qz, qw = numbers(row.fields[1:], row.source, "a pose value")
            pose = rigid_from_quaternion((qw, qx, qy, qz), (tx, ty, tz), row.source)
            yield ListedPose(row.fields[0], pose, None, row.source)


def read_csv(
    path: str | pathlib.Path, *, scene: str | None = None, skip_bad_frames: bool = False
) -> PosedFrames:
    """The images that a folder's poses.csv lists.

    Raises:
      UsageError: a column is missing, no intrinsics are known, or a frame is bad; an image in the
        folders of the listed ones that has no row counts as one.
    """
    reader = _ListReader(pathlib.Path(path) / CSV_NAME, scene, skip_bad_frames)
    return reader.read(csv_poses)


def read_tum_list(
    path: str | pathlib.Path, *, scene: str | None = None, skip_bad_frames: bool = False
) -> PosedFrames:
    """The images that a folder's poses.txt or trajectory.txt lists by name or timestamp.

    Raises:
      UsageError: as `read_csv`.
    """
    folder = pathlib.Path(path)
    path = next((folder / name for name in TUM_NAMES if os.path.isfile(folder / name)), folder)
    return _ListReader(path, scene, skip_bad_frames).read(tum_poses)


def _csv_rows(table: csv.DictReader, path: pathlib.Path) -> Iterator[Mapping[str, str]]:
    try:
        yield from table
    except csv.Error as error:
        raise UsageError(f"{path}:{table.line_num}: not a CSV ({error}); mend the line") from error


def _csv_pose(row: Mapping[str, str], columns: Sequence[str], source: str) -> ListedPose:
    if None in row.values() or None in row:
        raise UsageError(f"{source}: not {len(columns)} fields as in line 1; mend it")
    values = numbers([row[name] for name in _POSE_COLUMNS], source, "a pose value")
    pinhole = None
    if set(_CAMERA_COLUMNS) <= set(columns):
        pinhole = tuple(numbers([row[name] for name in _CAMERA_COLUMNS], source, "a camera value"))
    pose = rigid_from_quaternion(values[3:], values[:3], source)
    return ListedPose(row["image"], pose, pinhole, source)


class _ListReader:
    """What the readers of a list with images beside it share."""

    def __init__(self, path: pathlib.Path, scene: str | None, skip_bad_frames: bool):
        self._path = path
        self._folder = path.parent
        self._collector = FrameCollector(
            scene or self._folder.resolve().name, path, skip_bad_frames=skip_bad_frames
        )
        self._listed: set[pathlib.Path] = set()

    def read(
        self, poses: Callable[[pathlib.Path, BadFrames], Iterator[ListedPose]]
    ) -> PosedFrames:
        bad = self._collector.bad
        for pose in poses(self._path, bad):
            with bad.guard():
                self._add(pose)
        for image in unlisted_images(self._listed):
            with bad.guard():
                raise UsageError(
                    f"{image}: image without pose: {self._path.name} does not list it; "
                    "add its pose or move the image away"
                )
        return self._collector.finish()

    def _add(self, pose: ListedPose) -> None:
        image = self._find_image(pose.name)
        if image is None:
            raise UsageError(
                f"{pose.source}: pose without image: {pose.name!r} is not in {self._folder} nor in "
                f"its {' or '.join(IMAGE_FOLDERS[1:])}; add the image or remove the line"
            )
        self._listed.add(image)
        header = read_header(image)
        if pose.pinhole is not None:
            camera = pinhole(*pose.pinhole, header, pose.source)
        else:
            camera = self._common_camera(header)
        name = relative_name(image, self._folder)
        self._collector.add(name, image, pose.world_from_cam, camera)

    def _find_image(self, name: str) -> pathlib.Path | None:
        candidates = (
            self._folder / folder / f"{name}{suffix}"
            for folder in IMAGE_FOLDERS
            for suffix in ("", *IMAGE_SUFFIXES)
        )
        return next((path for path in candidates if os.path.isfile(path)), None)

    def _common_camera(self, header: PictureHeader) -> Camera:
        path = self._folder / FILE_NAME
        if not os.path.isfile(path):
            raise CommonError(
                f"{path}: missing, and {self._path.name} has no intrinsics; write 'fx fy cx cy' in "
                "pixels into it"
            )
        return read_intrinsics(path, header)

"""Poses in one place, images in another: a file or model of poses, and a folder of pictures.

A pose's name finds its picture by its path in the folder, else by the end of its path, each with or
without the suffix; a name that two pictures fit finds none. Where no name fits and all are times,
a picture takes the pose nearest in time.
"""

import dataclasses
import logging
import os
import pathlib
from collections.abc import Callable, Iterator

import numpy as np

from jaxreloc.formats.common.camera_models import Camera, pinhole
from jaxreloc.formats.common.collector import BadFrames, FrameCollector, NamedPose
from jaxreloc.formats.common.intrinsics_file import FILE_NAME as INTRINSICS
from jaxreloc.formats.common.intrinsics_file import read_intrinsics
from jaxreloc.formats.common.text import read_rows, read_text
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.formats.readers import colmap, pose_list, seven_scenes, transforms_json, tum
from jaxreloc.images import PICTURE_SUFFIXES, image_size, note_unread_formats, read_header
from jaxreloc.usage import UsageError

logger = logging.getLogger(__name__)

# Of a camera that nothing is known of: COLMAP's own guess.
DEFAULT_FOCAL = 1.2  # lengths of the longer side
UNIT_TOLERANCE = 1e-2

PoseReader = Callable[[pathlib.Path, BadFrames], Iterator[NamedPose]]


def read_separate_poses(
    poses: str | pathlib.Path,
    images: str | pathlib.Path,
    *,
    scene: str | None = None,
    skip_bad_frames: bool = False,
) -> PosedFrames:
    """The pictures of `images` that have a pose in `poses`, by their paths in `images`.

    Poses without picture and pictures without pose are left out, with one warning each that counts
    them. Where the poses come without intrinsics, they are those of an intrinsics.txt beside the
    poses or the images; failing that, a focal length of DEFAULT_FOCAL is assumed, with a warning.

    Args:
      poses: a transforms.json, a COLMAP model, a CSV, rows `name tx ty tz qx qy qz qw` (TUM) or
        `name qw qx qy qz tx ty tz [f]` (evaluations), a folder of 7-Scenes' pose files, or a folder
        that holds one of these.
      images: the folder of the pictures and its subfolders.
      scene: the scene's name; by default that of the folder of images.
      skip_bad_frames: lists bad frames in one warning instead of raising at the first.

    Raises:
      UsageError: no pose fits a picture, or a file or frame is bad.
    """
    path, read = _find_reader(pathlib.Path(poses).expanduser())
    pictures = _Pictures(pathlib.Path(images).expanduser())
    folder = pictures.folder
    collector = FrameCollector(
        scene or folder.resolve().name, path, skip_bad_frames=skip_bad_frames
    )
    common_camera = _CommonCamera(path, folder)
    listed = _by_time(list(read(path, collector.bad)), pictures)
    names, lost, used = [pose.name for pose in listed], [], set()
    for pose in listed:
        picture = pictures.find(pose.name)
        if picture is None:
            lost.append(pose.name)
            continue
        used.add(picture)
        with collector.bad.guard():
            camera = (pose.camera or common_camera)(picture)
            name = picture.relative_to(folder).as_posix()
            collector.add(name, picture, pose.world_from_cam, camera, stored=pose.stored)
    if names and not used:
        raise UsageError(
            f"{path}: none of its {len(names)} poses is of a picture in {folder}; "
            f"poses: {_first_three(names)}; pictures: {_first_three(pictures.names)}; "
            "rename one side"
        )
    if lost:
        logger.warning(
            "%s: %d of %d poses have no picture in %s and are left out, the first is %s",
            path,
            len(lost),
            len(names),
            folder,
            lost[0],
        )
    if len(used) < len(pictures.names):
        rest = [name for name in pictures.names if folder / name not in used]
        logger.warning(
            "%s: %d of %d pictures have no pose and are left out, the first is %s",
            folder,
            len(rest),
            len(pictures.names),
            rest[0],
        )
    return collector.finish()


class _Pictures:
    """The pictures in a folder and its subfolders, by the names that they may be given."""

    def __init__(self, folder: pathlib.Path):
        if not os.path.isdir(folder):
            raise UsageError(f"{folder}: no such folder; give the folder of your images")
        self.folder = folder
        files = list(folder.rglob("*"))
        note_unread_formats(folder, files)
        found = (p for p in files if p.suffix.lower() in PICTURE_SUFFIXES)
        paths = (p.relative_to(folder) for p in found if not _is_other(p.name))
        self.names = tuple(sorted(path.as_posix() for path in paths))
        if not self.names:
            raise UsageError(f"{folder}: no picture in this folder; --images names another")
        self._by_end: dict[str, set[str]] = {}
        for name in self.names:
            for end in _ends(name):
                self._by_end.setdefault(end, set()).add(name)

    def find(self, name: str) -> pathlib.Path | None:
        if name in self.names:
            return self.folder / name
        for end in _ends(name):
            fitting = self._by_end.get(end, ())
            if len(fitting) == 1:
                return self.folder / next(iter(fitting))
        return None


def _is_other(name: str) -> bool:
    """A hidden file, or a depth picture as 7-Scenes names them."""
    return name.startswith(".") or name.endswith(".depth.png")


def _ends(name: str) -> Iterator[str]:
    """The ends of a path from the longest, each with its suffix and without."""
    parts = pathlib.PurePosixPath(name.replace("\\", "/")).parts
    for start in range(len(parts)):
        end = "/".join(parts[start:])
        yield end
        if pathlib.PurePosixPath(end).suffix.lower() in PICTURE_SUFFIXES:
            yield end[: end.rindex(".")]


def _by_time(poses: list[NamedPose], pictures: _Pictures) -> list[NamedPose]:
    """Where all go by their time in seconds: each picture's nearest pose, by the picture's name."""
    stems = {name: pathlib.PurePosixPath(name).stem for name in pictures.names}
    if not poses or any(pictures.find(pose.name) for pose in poses):
        return poses
    try:
        pose_times = np.array([float(pose.name) for pose in poses])
        picture_times = np.array([float(stem) for stem in stems.values()])
    except ValueError:
        return poses
    order = np.argsort(pose_times)
    found = tum.nearest(picture_times, pose_times[order])
    named = [
        dataclasses.replace(poses[order[i]], name=name)
        for name, i in zip(stems, found, strict=True)
        if i >= 0
    ]
    return named or poses


class _CommonCamera:
    """The camera of pictures whose poses come without."""

    def __init__(self, poses: pathlib.Path, images: pathlib.Path):
        beside = (poses if os.path.isdir(poses) else poses.parent, images)
        self._file = next((f / INTRINSICS for f in beside if os.path.isfile(f / INTRINSICS)), None)
        self._remedy = " or ".join(str(folder / INTRINSICS) for folder in beside)
        self._warned = False

    def __call__(self, picture: pathlib.Path) -> Camera:
        if self._file:
            return read_intrinsics(self._file, read_header(picture))
        width, height = image_size(picture)
        focal = DEFAULT_FOCAL * max(width, height)
        if not self._warned:
            logger.warning(
                "no intrinsics: a focal length of %g times the longer side (%.0f px) is assumed; "
                "write 'fx fy cx cy' into %s",
                DEFAULT_FOCAL,
                focal,
                self._remedy,
            )
            self._warned = True
        return Camera.centred(focal, width, height)


def _find_reader(path: pathlib.Path) -> tuple[pathlib.Path, PoseReader]:
    """The file or folder that holds the poses, and what reads it."""
    if os.path.isdir(path):
        return _find_in_folder(path)
    if not os.path.isfile(path):
        raise UsageError(f"{path}: no such file or folder; --poses names the poses or the model")
    if path.name in colmap.MODEL_FILES:
        return path.parent, colmap.named_poses
    if path.suffix.lower() == ".json":
        return path, transforms_json.named_poses
    if path.suffix.lower() == ".csv":
        return path, _csv_poses
    return path, _row_reader(path)


def _find_in_folder(folder: pathlib.Path) -> tuple[pathlib.Path, PoseReader]:
    for name, read in (
        (transforms_json.FILE_NAME, transforms_json.named_poses),
        (pose_list.CSV_NAME, _csv_poses),
    ):
        if os.path.isfile(folder / name):
            return folder / name, read
    if any(folder.glob("frame-*.pose.txt")) or any(folder.glob("seq-*/frame-*.pose.txt")):
        return folder, _seven_scenes_poses
    for name in (*pose_list.TUM_NAMES, "groundtruth.txt"):
        if os.path.isfile(folder / name):
            return folder / name, _row_reader(folder / name)
    return colmap.find_model(folder), colmap.named_poses


def _csv_poses(path: pathlib.Path, bad: BadFrames) -> Iterator[NamedPose]:
    for pose in pose_list.csv_poses(path, bad):
        yield NamedPose(pose.name, pose.world_from_cam, _pinhole(pose) if pose.pinhole else None)


def _pinhole(pose: pose_list.ListedPose) -> Callable[[pathlib.Path], Camera]:
    return lambda picture: pinhole(*pose.pinhole, read_header(picture), pose.source)


def _tum_poses(path: pathlib.Path, bad: BadFrames) -> Iterator[NamedPose]:
    for pose in pose_list.tum_poses(path, bad):
        yield NamedPose(pose.name, pose.world_from_cam, None)


def _evaluation_poses(path: pathlib.Path, bad: BadFrames) -> Iterator[NamedPose]:
    del bad  # the format is one of programs; a bad row means another file
    poses = pose_list.read_evaluation_poses(path)
    for i, (name, world_from_cam) in enumerate(zip(poses.names, poses.world_from_cam, strict=True)):
        focal_px = None if poses.focal_px is None else float(poses.focal_px[i])
        yield NamedPose(name, world_from_cam, _centred(focal_px, name) if focal_px else None)


def _centred(focal_px: float, source: str) -> Callable[[pathlib.Path], Camera]:
    def camera(picture: pathlib.Path) -> Camera:
        return Camera.centred(focal_px, *image_size(picture)).check(source)

    return camera


def _row_reader(path: pathlib.Path) -> PoseReader:
    """By where the unit quaternion stands in the rows of a text file."""
    fields = [row.fields for row in read_rows(path)]
    if {len(row) for row in fields} == {9}:
        return _evaluation_poses
    try:
        values = np.array([[float(x) for x in row[1:8]] for row in fields if len(row) == 8])
    except ValueError:
        values = np.zeros((0, 7))
    with np.errstate(over="ignore", invalid="ignore"):  # infinite or NaN: no unit quaternion
        first, last = (
            len(values) > 0
            and np.median(np.abs(np.linalg.norm(values[:, part], axis=1) - 1)) < UNIT_TOLERANCE
            for part in (slice(0, 4), slice(3, 7))
        )
    if first == last:
        why = "both four numbers" if first else "neither four numbers"
        raise UsageError(
            f"{path}: rows are 'name tx ty tz qx qy qz qw' or 'name qw qx qy qz tx ty tz', but "
            f"{why} are a unit quaternion; write a CSV with the header "
            "image,tx,ty,tz,qw,qx,qy,qz"
        )
    return _evaluation_poses if first else _tum_poses


def _seven_scenes_poses(folder: pathlib.Path, bad: BadFrames) -> Iterator[NamedPose]:
    for path in sorted(folder.rglob("frame-*.pose.txt")):
        with bad.guard():
            name = path.relative_to(folder).as_posix().removesuffix(".pose.txt") + ".color.png"
            pose = seven_scenes.parse_pose(read_text(path), str(path))
            yield NamedPose(name, pose, _colour_camera)


def _colour_camera(picture: pathlib.Path) -> Camera:
    width, height = image_size(picture)
    K = seven_scenes.intrinsics(seven_scenes.COLOR_FOCAL_PX, width, height)
    return Camera.of_matrix(K, width, height)


def _first_three(names: list[str] | tuple[str, ...]) -> str:
    return ", ".join(names[:3])

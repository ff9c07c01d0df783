"""TUM RGB-D: trajectories, and sequences of pictures associated with them by time.

A trajectory's row is `timestamp tx ty tz qx qy qz qw`, `world_from_cam` of the colour camera's
optical frame (x right, y down, z forward), metres and seconds.
"""

import dataclasses
import logging
import os
import pathlib

import numpy as np
from jaxtyping import Float64, Int64

from jaxreloc.formats.common.camera_models import Camera
from jaxreloc.formats.common.collector import BadFrames, FrameCollector
from jaxreloc.formats.common.intrinsics_file import FILE_NAME, read_intrinsics
from jaxreloc.formats.common.text import numbers, read_rows
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.formats.rigid_arrays import rigid_from_quaternion
from jaxreloc.images import read_header
from jaxreloc.usage import CommonError, UsageError

logger = logging.getLogger(__name__)
MAX_TIME_DIFFERENCE = 0.02  # seconds
DEPTH_PER_METRE = 5000.0

# The benchmark's calibration of its three colour cameras. The pictures of the third are rectified.
_BENCHMARK_CAMERAS = {
    "freiburg1": Camera(
        517.3, 516.5, 318.6, 255.3, 640, 480, (0.2624, -0.9531, -0.0054, 0.0026, 1.1633)
    ),
    "freiburg2": Camera(
        520.9, 521.0, 325.1, 249.7, 640, 480, (0.2312, -0.7849, -0.0033, -0.0001, 0.9172)
    ),
    "freiburg3": Camera(535.4, 539.2, 320.1, 247.6, 640, 480),
}


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """Poses over time, in the order of time."""

    timestamps: Float64[np.ndarray, " n"]  # seconds, increasing
    world_from_cam: Float64[np.ndarray, "n 4 4"]


def read_trajectory(path: str | pathlib.Path, *, skip_bad_frames: bool = False) -> Trajectory:
    """A trajectory file.

    Raises:
      UsageError: a row is not a pose, or two rows have the same time.
    """
    bad = BadFrames(path, skip=skip_bad_frames)
    poses: dict[float, np.ndarray] = {}
    for row in read_rows(path):
        with bad.guard():
            if len(row.fields) != 8:
                raise UsageError(
                    f"{row.source}: {len(row.fields)} fields instead of the 8 of "
                    "'timestamp tx ty tz qx qy qz qw'"
                )
            time, *pose = numbers(row.fields, row.source, "a value")
            if time in poses:
                raise UsageError(f"{row.source}: timestamp {row.fields[0]} came before; remove one")
            q_wxyz = [pose[6], *pose[3:6]]
            poses[time] = rigid_from_quaternion(q_wxyz, pose[:3], row.source)
    bad.report()
    if not poses:
        raise UsageError(f"{path}: has no pose; check that it is a trajectory")
    times = sorted(poses)
    return Trajectory(np.array(times), np.stack([poses[time] for time in times]))


def read_tum(
    path: str | pathlib.Path, *, scene: str | None = None, skip_bad_frames: bool = False
) -> PosedFrames:
    """A sequence of TUM RGB-D: rgb.txt, groundtruth.txt, and depth.txt if it is there.

    A picture takes the pose, and the depth picture, nearest in time within MAX_TIME_DIFFERENCE;
    pictures without a pose are left out, with one warning that counts them. Intrinsics come from
    `intrinsics.txt`, or are the benchmark's own if the folder's name says which camera.

    Raises:
      UsageError: a list cannot be read, no intrinsics are known, or a frame is bad.
    """
    path = pathlib.Path(path)
    trajectory = read_trajectory(path / "groundtruth.txt", skip_bad_frames=skip_bad_frames)
    collector = FrameCollector(
        scene or path.resolve().name,
        path,
        skip_bad_frames=skip_bad_frames,
        depth_per_metre=DEPTH_PER_METRE,
    )
    times, images = _read_pictures(path / "rgb.txt", collector.bad)
    pose_index = nearest(times, trajectory.timestamps)
    has_depth = os.path.isfile(path / "depth.txt")
    if has_depth:
        depth_times, depths = _read_pictures(path / "depth.txt", collector.bad)
        depth_index = nearest(times, depth_times)
    unposed = 0
    for i, image in enumerate(images):
        if pose_index[i] < 0 or (has_depth and depth_index[i] < 0):
            unposed += 1
            continue
        with collector.bad.guard():
            collector.add(
                image,
                path / image,
                trajectory.world_from_cam[pose_index[i]],
                _camera(path, path / image),
                depth=path / depths[depth_index[i]] if has_depth else None,
            )
    if unposed:
        logger.warning(
            "%s: %d of %d pictures have no pose%s within %g s and are left out",
            path,
            unposed,
            len(images),
            " or depth" if has_depth else "",
            MAX_TIME_DIFFERENCE,
        )
    return collector.finish()


def _read_pictures(
    path: pathlib.Path, bad: BadFrames
) -> tuple[Float64[np.ndarray, " n"], list[str]]:
    """Times and file names of rgb.txt or depth.txt, in the order of time."""
    pictures: dict[float, str] = {}
    for row in read_rows(path):
        with bad.guard():
            if len(row.fields) != 2:
                raise UsageError(f"{row.source}: not a line 'timestamp filename'; mend it")
            (time,) = numbers(row.fields[:1], row.source, "the timestamp")
            if time in pictures:
                raise UsageError(f"{row.source}: timestamp {row.fields[0]} came before; remove one")
            pictures[time] = row.fields[1]
    times = sorted(pictures)
    return np.array(times), [pictures[time] for time in times]


def nearest(
    times: Float64[np.ndarray, " n"], others: Float64[np.ndarray, " m"]
) -> Int64[np.ndarray, " n"]:
    """The index in `others` (increasing) nearest to each time, -1 if it is too far away."""
    if not len(others):
        return np.full(len(times), -1)
    after = np.clip(np.searchsorted(others, times), 0, len(others) - 1)
    before = np.clip(after - 1, 0, None)
    nearest = np.where(times - others[before] <= others[after] - times, before, after)
    return np.where(np.abs(others[nearest] - times) <= MAX_TIME_DIFFERENCE, nearest, -1)


def _camera(folder: pathlib.Path, image: pathlib.Path) -> Camera:
    if os.path.isfile(folder / FILE_NAME):
        return read_intrinsics(folder / FILE_NAME, read_header(image))
    for name, camera in _BENCHMARK_CAMERAS.items():
        if name in folder.resolve().name:
            return camera
    raise CommonError(
        f"{folder}: the camera is unknown; write 'fx fy cx cy' in pixels into {folder / FILE_NAME}"
    )

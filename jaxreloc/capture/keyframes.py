"""Pictures of a video from which a map is made: sharp ones, as far apart as the camera has moved.

Corners are followed from frame to frame by their optical flow (Lucas and Kanade). Once their median
has moved by MOTION of the picture's longer side since the last keyframe, or most of them are lost,
the sharpest of the last frames becomes the next one.
"""

import dataclasses
import os
import pathlib
import shutil
from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from jaxreloc import files
from jaxreloc.images import encode_jpeg, sharpness, shrunk
from jaxreloc.localization.jobs.query_images import find_query_images
from jaxreloc.new_folder import new_folder
from jaxreloc.usage import UsageError

MOTION = 0.08  # of the longer side
KEPT_SHARE = 0.4  # of the corners; when fewer are left, the picture is another
CORNERS = 300
FLOW_SIDE = 480  # pixels
CHOICE = 0.4  # of the motion, over which the sharpest is looked for
JPEG_QUALITY = 95
MOST = 600  # keyframes
PREFIX = "frames-"


def keyframes(
    video: pathlib.Path, beside: pathlib.Path, progress: Callable[[float], object]
) -> pathlib.Path:
    """The folder of the keyframes of a video, `SECONDS.jpg`, which appears whole.

    One that is there already, of the same video, is taken as it is.

    Args:
      beside: the folder to make it in.
      progress: is told the share of the video that is done.

    Raises:
      UsageError: no frame can be read, or there are more than MOST keyframes.
    """
    status = os.stat(video)
    folder = beside / f"{PREFIX}{status.st_size}-{status.st_mtime_ns}"
    if not folder.is_dir():
        for other in beside.glob(f"{PREFIX}*"):
            shutil.rmtree(other)
        with new_folder(folder) as temporary:
            _write_all(video, temporary, progress)
    return folder


def _write_all(
    video: pathlib.Path, folder: pathlib.Path, progress: Callable[[float], object]
) -> None:
    length = _seconds(video)
    chooser = _Chooser()
    for frame in find_query_images(video):
        chooser.add(frame.name, frame.image)
        _write(chooser.take(), folder)
        progress(float(frame.name) / length if length else 0.0)
        if chooser.count > MOST:
            raise UsageError(f"{video}: more than {MOST} keyframes; cut the video into parts")
    _write(chooser.last(), folder)


@dataclasses.dataclass(frozen=True)
class _Candidate:
    name: str
    image: UInt8[np.ndarray, "h w 3"]
    sharpness: float


class _Chooser:
    """Frames go in, keyframes come out."""

    def __init__(self):
        self.count = 0
        self._best: _Candidate | None = None  # since the motion was enough to be looked for
        self._ready: _Candidate | None = None
        self._grey: UInt8[np.ndarray, "h w"] | None = None
        self._corners: Float32[np.ndarray, "n 1 2"] = np.zeros((0, 1, 2), np.float32)
        self._start, self._number = self._corners, 0

    def add(self, name: str, image: UInt8[np.ndarray, "h w 3"]) -> None:
        """The next frame of the video."""
        small = shrunk(image, FLOW_SIDE)
        grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
        candidate = _Candidate(name, image, sharpness(small))
        if self._grey is None:
            self._ready = candidate
            self._begin(grey)
            return
        motion = self._follow(grey)
        if motion >= (1 - CHOICE) * MOTION and (
            self._best is None or candidate.sharpness > self._best.sharpness
        ):
            self._best = candidate
        if motion >= MOTION:
            self._ready = self._best or candidate
            self._begin(grey)

    def take(self) -> _Candidate | None:
        """The keyframe that was found, once."""
        ready, self._ready = self._ready, None
        self.count += ready is not None
        return ready

    def last(self) -> _Candidate | None:
        """What the end of the video adds."""
        return self._best

    def _begin(self, grey: UInt8[np.ndarray, "h w"]) -> None:
        found = cv2.goodFeaturesToTrack(grey, CORNERS, 0.01, 5)
        self._corners = np.zeros((0, 1, 2), np.float32) if found is None else found
        self._start, self._number = self._corners.copy(), len(self._corners)
        self._grey, self._best = grey, None

    def _follow(self, grey: UInt8[np.ndarray, "h w"]) -> float:
        """How far the corners have moved since the keyframe, of the longer side."""
        before, self._grey = self._grey, grey
        if not len(self._corners):
            return MOTION
        moved, found, _ = cv2.calcOpticalFlowPyrLK(before, grey, self._corners, None)
        kept = found[:, 0] == 1
        self._corners, self._start = moved[kept], self._start[kept]
        if kept.sum() < KEPT_SHARE * self._number:
            return MOTION
        distance = np.linalg.norm(self._corners - self._start, axis=-1)
        return float(np.median(distance)) / max(grey.shape)


def _write(chosen: _Candidate | None, folder: pathlib.Path) -> None:
    if chosen is not None:
        name = f"{float(chosen.name):010.3f}.jpg"
        files.write_bytes(folder / name, encode_jpeg(chosen.image, JPEG_QUALITY))


def _seconds(video: str | pathlib.Path) -> float:
    """The length that the file states; 0 if it does not."""
    capture = cv2.VideoCapture(str(video))
    try:
        frames, rate = (capture.get(x) for x in (cv2.CAP_PROP_FRAME_COUNT, cv2.CAP_PROP_FPS))
        return frames / rate if frames > 0 and rate > 0 else 0.0
    finally:
        capture.release()

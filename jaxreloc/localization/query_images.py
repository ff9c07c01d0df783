"""Images to localize: a picture, a folder of pictures, or a video."""

import dataclasses
import pathlib
from collections.abc import Iterator

import cv2
import numpy as np
from jaxtyping import UInt8

from jaxreloc.formats.images import read_image
from jaxreloc.usage import UsageError

PICTURE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
VIDEO_SUFFIXES = {".mp4", ".avi", ".mov", ".mkv", ".webm"}


@dataclasses.dataclass(frozen=True)
class QueryImages:
    """Names and pictures in the order in which they are to be localized."""

    path: pathlib.Path
    is_video: bool
    names: tuple[str, ...] | None  # None where the length is not known before the end

    def __iter__(self) -> Iterator[tuple[str, UInt8[np.ndarray, "h w 3"]]]:
        """Reads the pictures one by one.

        Raises:
          UsageError: one of them cannot be read.
        """
        if self.is_video:
            return _video_frames(self.path)
        folder = self.path if self.path.is_dir() else self.path.parent
        return ((name, read_image(folder / name)) for name in self.names)


def find_query_images(path: str | pathlib.Path) -> QueryImages:
    """The pictures of a folder and its subfolders by name, one picture, or a video's frames.

    Raises:
      UsageError: nothing of the kind is there.
    """
    path = pathlib.Path(path).expanduser()
    if path.is_dir():
        found = (p for p in path.rglob("*") if p.suffix.lower() in PICTURE_SUFFIXES)
        names = tuple(sorted(p.relative_to(path).as_posix() for p in found))
        if not names:
            raise UsageError(f"{path}: no picture in this folder; --images names another")
        return QueryImages(path, False, names)
    if not path.is_file():
        raise UsageError(f"{path}: no such picture, folder or video; check --images")
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return QueryImages(path, True, None)
    return QueryImages(path, False, (path.name,))


def _video_frames(path: pathlib.Path) -> Iterator[tuple[str, UInt8[np.ndarray, "h w 3"]]]:
    """Frames with their time in seconds as name."""
    capture = cv2.VideoCapture(str(path))
    try:
        count = 0
        while True:
            ok, frame = capture.read()
            if not ok:
                break
            time_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3  # of the frame just read
            count += 1
            yield f"{time_s:.6f}", cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    finally:
        capture.release()
    if not count:
        raise UsageError(f"{path}: no frame can be read; convert the video to MP4 (H.264)")

"""Images to localize: a picture, a folder of pictures, a video, a ROS bag, a camera's stream."""

import dataclasses
import os
import pathlib
import re
import time
from collections.abc import Container, Iterable, Iterator

import cv2
import numpy as np
from jaxtyping import UInt8

from jaxreloc.files import printable
from jaxreloc.formats.common.camera_models import Camera
from jaxreloc.formats.readers import ros_bag
from jaxreloc.images import (
    PICTURE_SUFFIXES,
    PictureHeader,
    check_shape,
    note_unread_formats,
    read_header,
    read_image,
)
from jaxreloc.usage import UsageError

VIDEO_SUFFIXES = {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v"}
CAMERA = re.compile(r"camera:([0-9]+)")
URL = re.compile(r"(rtsp|rtmp|http|https|udp|tcp)://.+")


@dataclasses.dataclass(frozen=True)
class QueryImage:
    """An image to localize."""

    name: str
    image: UInt8[np.ndarray, "h w 3"] | None  # upright; None: it cannot be read
    header: PictureHeader | None = None
    camera: Camera | None = None  # where its source tells of one; a pinhole camera
    problem: str = ""  # why it cannot be read


@dataclasses.dataclass(frozen=True)
class QueryImages:
    """Pictures with their names, in the order in which they are to be localized.

    Iterating reads them one by one. One that cannot be read comes without its image.
    """

    source: str
    is_video: bool  # each is taken shortly after the one before
    pictures: tuple[tuple[str, pathlib.Path], ...] = ()  # names and files; none of a video
    is_live: bool = False  # it goes on until it is interrupted
    topic: str | None = None  # of a ROS bag
    with_cameras: bool = True  # of a ROS bag, as `ros_bag.bag_pictures` takes it

    def __iter__(self) -> Iterator[QueryImage]:
        return self.without(())

    def without(self, names: Container[str]) -> Iterator[QueryImage]:
        """Those that are not of these names; of pictures, only they are read."""
        if self.topic is not None:
            return (frame for frame in self._bag_frames() if frame.name not in names)
        if self.is_video:
            return (frame for frame in _video_frames(self.source) if frame.name not in names)
        return _read([(name, path) for name, path in self.pictures if name not in names])

    def _bag_frames(self) -> Iterator[QueryImage]:
        found = ros_bag.bag_pictures(
            pathlib.Path(self.source), self.topic, with_cameras=self.with_cameras
        )
        for x in found:
            header = None if x.image is None else PictureHeader(x.image.shape[1::-1])
            yield QueryImage(x.time, x.image, header, x.camera, x.problem)


def find_query_images(
    source: str | pathlib.Path, topic: str | None = None, *, with_cameras: bool = True
) -> QueryImages:
    """The pictures of a folder and its subfolders by name, one picture, or a video's frames.

    Args:
      source: a path, `camera:0` for the first camera of this computer, or the address of a stream
        (rtsp, rtmp, http, udp, tcp).
      topic: of a ROS bag; None: the only one with pictures.
      with_cameras: of a ROS bag, see `ros_bag.bag_pictures`.

    Raises:
      UsageError: nothing of the kind is there, or a topic of what is no ROS bag is asked for.
    """
    is_stream = CAMERA.fullmatch(str(source)) or URL.fullmatch(str(source))
    path = pathlib.Path(source).expanduser()
    if not is_stream and ros_bag.is_bag(path):
        chosen = ros_bag.picture_topic(path, topic)
        return QueryImages(str(path), True, topic=chosen, with_cameras=with_cameras)
    if topic is not None:
        raise UsageError(f"{source}: is no ROS bag, and has no --topic={topic}; leave it out")
    if is_stream:
        return QueryImages(str(source), True, is_live=True)
    if os.path.isdir(path):
        visible = (p for p in path.rglob("*") if not p.name.startswith("."))
        files = sorted(p for p in visible if not os.path.isdir(p))
        note_unread_formats(path, files)
        found = [p for p in files if p.suffix.lower() in PICTURE_SUFFIXES]
        if not found:
            raise UsageError(f"{path}: no picture in this folder; --images names another")
        named = tuple((printable(p.relative_to(path).as_posix()), p) for p in found)
        return QueryImages(str(path), False, named)
    if not os.path.isfile(path):
        raise UsageError(
            f"{path}: no such picture, folder or video; check --images (a camera is camera:0)"
        )
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return QueryImages(str(path), True)
    return QueryImages(str(path), False, ((printable(path.name), path),))


def _read(pictures: Iterable[tuple[str, pathlib.Path]]) -> Iterator[QueryImage]:
    for name, path in pictures:
        try:
            header = read_header(path)
            check_shape(header.size, str(path))
            found = QueryImage(name, read_image(path), header)
        except UsageError as error:
            found = QueryImage(name, None, problem=str(error))
        yield found


def _video_frames(source: str) -> Iterator[QueryImage]:
    """Frames with their time in seconds as name: of a file, since its start, else of the clock."""
    camera = CAMERA.fullmatch(source)
    is_live = camera or URL.fullmatch(source)
    capture = _open_quietly(int(camera[1]) if camera else source)
    if is_live:
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the newest frame, not the oldest that waits
    try:
        count = 0
        while True:
            ok, frame = capture.read()
            if not ok:
                break
            # A file's time is that of the frame just read.
            time_s = time.time() if is_live else capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3
            count += 1
            image = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
            yield QueryImage(f"{time_s:.6f}", image, PictureHeader(image.shape[1::-1]))
    finally:
        capture.release()
    if not count:
        remedy = "check that it is connected" if is_live else "convert the video to MP4 (H.264)"
        raise UsageError(f"{source}: no frame can be read; {remedy}")


def _open_quietly(source: int | str) -> cv2.VideoCapture:
    """Without OpenCV's page of backends that it tried; failing is said in one line here."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        return cv2.VideoCapture(source)
    finally:
        cv2.utils.logging.setLogLevel(level)

"""Pictures of a topic of a ROS bag: of ROS 1 (.bag), or of ROS 2 (a folder, .mcap or .db3).

A picture is named by its time in seconds. Its camera is that of the `camera_info` beside its topic,
whose pixel (0, 0) is the centre of the top-left pixel, as here; lens distortion is undone. The
library that reads bags raises whatever it comes upon in a damaged one, so that all of it is caught.
"""

import contextlib
import dataclasses
import logging
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from jaxreloc.extras import extra
from jaxreloc.formats.common.camera_models import Camera, UndistortedImages
from jaxreloc.images import decode_image
from jaxreloc.usage import UsageError

logger = logging.getLogger(__name__)
SUFFIXES = {".bag", ".mcap", ".db3"}
METADATA = "metadata.yaml"  # of a folder of ROS 2
PICTURES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
NO_PICTURES = ("/compressedDepth", "/theora", "/ffmpeg")  # the ends of topics that hold none
COMPRESSED = "/compressed"
# Channels, and how OpenCV makes RGB of them. ROS names a Bayer pattern by its first row.
ENCODINGS: dict[str, tuple[int, int | None]] = {
    "rgb8": (3, None),
    "bgr8": (3, cv2.COLOR_BGR2RGB),
    "8UC3": (3, cv2.COLOR_BGR2RGB),
    "rgba8": (4, cv2.COLOR_RGBA2RGB),
    "bgra8": (4, cv2.COLOR_BGRA2RGB),
    "8UC4": (4, cv2.COLOR_BGRA2RGB),
    "mono8": (1, cv2.COLOR_GRAY2RGB),
    "8UC1": (1, cv2.COLOR_GRAY2RGB),
    "bayer_rggb8": (1, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr8": (1, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg8": (1, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg8": (1, cv2.COLOR_BayerGB2RGB),
    "yuv422": (2, cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": (2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": (2, cv2.COLOR_YUV2RGB_YUYV),
    "yuyv": (2, cv2.COLOR_YUV2RGB_YUYV),
}
PINHOLE_MODELS = ("", "plumb_bob", "rational_polynomial")
FISHEYE_MODELS = ("equidistant", "fisheye")


@dataclasses.dataclass(frozen=True)
class BagPicture:
    """A message of the topic.

    Attributes:
      time: in seconds, nine digits after the point.
      image: None if it cannot be read.
      camera: a pinhole camera; None if the bag has no camera_info.
      problem: why it cannot be read.
    """

    time: str
    image: UInt8[np.ndarray, "h w 3"] | None
    camera: Camera | None = None
    problem: str = ""


def is_bag(path: pathlib.Path) -> bool:
    """Whether a path is one, by its name or what lies in it."""
    if os.path.isdir(path):
        kinds = {suffix for file in path.iterdir() for suffix in file.suffixes}
        return os.path.isfile(path / METADATA) and bool(kinds & SUFFIXES)
    return path.suffix.lower() in SUFFIXES


def picture_topic(path: pathlib.Path, topic: str | None) -> str:
    """The topic that is asked for, or else the only one with pictures.

    Raises:
      UsageError: there is no such topic, or none or several with pictures; or it is no bag.
    """
    with _opened(path) as reader:
        return _picture_topic(reader, topic, path)


def bag_pictures(
    path: pathlib.Path, topic: str, *, with_cameras: bool = True
) -> Iterator[BagPicture]:
    """The pictures of a topic in their order.

    Args:
      with_cameras: by the bag's camera_info, whose distortion is undone; without, they come as
        they are.

    Raises:
      UsageError: it is no bag, or damaged, or its camera_info is wrong.
    """
    with _opened(path) as reader:
        camera = _camera(reader, topic, path) if with_cameras else None
        connections = [x for x in reader.connections if x.topic == topic]
        for connection, time_ns, data in reader.messages(connections):
            message = reader.deserialize(data, connection.msgtype)
            stamp = message.header.stamp
            time_ns = stamp.sec * 10**9 + stamp.nanosec or time_ns
            time = f"{time_ns // 10**9}.{time_ns % 10**9:09d}"
            try:
                image = _decoded(message, f"{path}: {topic} at {time}")
            except UsageError as error:
                yield BagPicture(time, None, problem=str(error))
                continue
            if camera is not None:
                if (camera.width, camera.height) != image.shape[1::-1]:
                    raise UsageError(
                        f"{path}: camera_info is of {camera.width} x {camera.height} pictures, "
                        f"those of {topic} are {image.shape[1]} x {image.shape[0]}; give "
                        "--intrinsics"
                    )
                image = UndistortedImages([image], (camera,))[0]
            yield BagPicture(time, image, camera)


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[Any]:
    """An `AnyReader`; whatever it raises becomes a UsageError."""
    with extra("ros"):
        from rosbags.highlevel import AnyReader
        from rosbags.typesys import Stores, get_typestore

    try:
        with AnyReader([path], default_typestore=get_typestore(Stores.ROS2_HUMBLE)) as reader:
            yield reader
    except (UsageError, GeneratorExit):
        raise
    except Exception as error:
        raise UsageError(
            f"{path}: no ROS bag, or damaged ({str(error) or repr(error)}); record it again"
        ) from error


def _picture_topic(reader: Any, topic: str | None, path: pathlib.Path) -> str:
    known = sorted(
        name
        for name, info in reader.topics.items()
        if info.msgtype in PICTURES and info.msgcount and not name.endswith(NO_PICTURES)
    )
    if not known:
        others = ", ".join(sorted(reader.topics)[:8]) or "none"
        raise UsageError(f"{path}: no topic with pictures; topics: {others}")
    if topic is None and len(known) > 1:
        raise UsageError(
            f"{path}: several topics have pictures; choose with --topic: {', '.join(known)}"
        )
    if topic is not None and topic not in known:
        raise UsageError(
            f"{path}: no pictures in --topic={topic}; topics with pictures: {', '.join(known)}"
        )
    return topic or known[0]


def _camera(reader: Any, topic: str, path: pathlib.Path) -> Camera | None:
    """Of the camera_info beside the topic; None if there is none, or it is not calibrated."""
    base = topic.removesuffix(COMPRESSED)
    parent, _, own = base.rpartition("/")
    names = (f"{parent}/camera_info", f"{base}/camera_info")
    infos = [x for x in reader.connections if x.topic in names and x.msgtype == CAMERA_INFO]
    for connection, _, data in reader.messages(infos) if infos else ():
        message = reader.deserialize(data, connection.msgtype)
        source = f"{path}: {connection.topic}"
        if any(_values(message, "k")):
            return _calibrated(message, source, is_rectified="rect" in own)
        break
    logger.warning("%s: no calibrated camera_info beside %s", path, topic)
    return None


def _calibrated(message: Any, source: str, *, is_rectified: bool) -> Camera:
    """The raw camera with its distortion, or the pinhole camera of rectified pictures."""
    K, P, D = (_values(message, name) for name in "kpd")
    if is_rectified:
        K, D = (*P[:3], *P[4:7], *P[8:11]), []
    model, distortion = message.distortion_model, tuple(D) if any(D) else ()
    if distortion and model not in PINHOLE_MODELS + FISHEYE_MODELS:
        known = ", ".join(PINHOLE_MODELS[1:] + FISHEYE_MODELS)
        raise UsageError(
            f"{source}: distortion model {model!r} is not read (known: {known}); rectify the "
            "pictures, or give --intrinsics"
        )
    fisheye = bool(distortion) and model in FISHEYE_MODELS
    size = message.width, message.height
    return Camera(K[0], K[4], K[2], K[5], *size, distortion, fisheye).check(source)


def _values(message: Any, name: str) -> Sequence[float]:
    """Of a field that has a capital letter in ROS 1."""
    values = getattr(message, name, None)
    return [float(x) for x in (getattr(message, name.upper()) if values is None else values)]


def _decoded(message: Any, source: str) -> UInt8[np.ndarray, "h w 3"]:
    """RGB; UsageError if it is no such picture."""
    if not hasattr(message, "encoding"):
        return decode_image(message.data.tobytes(), source)
    if message.encoding not in ENCODINGS:
        raise UsageError(
            f"{source}: encoding {message.encoding!r} is not read; record one of "
            f"{', '.join(ENCODINGS)}"
        )
    channels, conversion = ENCODINGS[message.encoding]
    height, width, step = message.height, message.width, message.step
    if len(message.data) < height * step or step < width * channels or not height * width:
        raise UsageError(f"{source}: has too few bytes for {width} x {height} pixels")
    rows = np.asarray(message.data, np.uint8)[: height * step].reshape(height, step)
    pixels = rows[:, : width * channels].reshape(height, width, channels)
    pixels = np.ascontiguousarray(pixels if channels > 1 else pixels[..., 0])
    return pixels if conversion is None else cv2.cvtColor(pixels, conversion)

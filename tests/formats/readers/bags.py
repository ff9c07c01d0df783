"""Writes ROS bags with pictures, by the library's own writers."""

import pathlib

import cv2
import numpy as np
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_typestore

KINDS = ("bag", "db3", "mcap")
IMAGE, COMPRESSED_IMAGE, CAMERA_INFO = (
    f"sensor_msgs/msg/{name}" for name in ("Image", "CompressedImage", "CameraInfo")
)
TEXT = "std_msgs/msg/String"


class Messages:
    """Makes messages of ROS 1 or 2."""

    def __init__(self, kind: str):
        self.is_1 = kind == "bag"
        self.store = get_typestore(Stores.ROS1_NOETIC if self.is_1 else Stores.ROS2_HUMBLE)

    def make(self, name: str, *values, **named):
        return self.store.types[name](*values, **named)

    def header(self, time_ns: int):
        stamp = self.make(
            "builtin_interfaces/msg/Time", sec=time_ns // 10**9, nanosec=time_ns % 10**9
        )
        more = {"seq": 0} if self.is_1 else {}
        return self.make("std_msgs/msg/Header", stamp=stamp, frame_id="camera", **more)

    def image(self, pixels: np.ndarray, encoding: str, time_ns: int = 0, padding: int = 0):
        """Rows end in `padding` bytes that mean nothing."""
        height, width = pixels.shape[:2]
        rows = np.ascontiguousarray(pixels).reshape(height, -1)
        rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
        return self.make(
            IMAGE, header=self.header(time_ns), height=height, width=width, encoding=encoding,
            is_bigendian=0, step=rows.shape[1], data=rows.ravel(),
        )

    def compressed(self, pixels: np.ndarray, time_ns: int = 0):
        data = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1].ravel()
        return self.make(
            COMPRESSED_IMAGE, header=self.header(time_ns), format="rgb8; png", data=data
        )

    def camera_info(self, width, height, K, D, model="plumb_bob", P=None):
        P = np.hstack([K, np.zeros((3, 1))]) if P is None else P
        matrices = {"k": K, "r": np.eye(3), "p": P, "d": np.array(D)}
        matrices = {k: np.asarray(v, float).ravel() for k, v in matrices.items()}
        if self.is_1:
            matrices = {k.upper(): v for k, v in matrices.items()}
        region = self.make(
            "sensor_msgs/msg/RegionOfInterest",
            x_offset=0, y_offset=0, height=0, width=0, do_rectify=False,
        )
        return self.make(
            CAMERA_INFO, header=self.header(0), height=height, width=width,
            distortion_model=model, binning_x=0, binning_y=0, roi=region, **matrices,
        )

    def text(self):
        return self.make(TEXT, data="x")


def write_bag(folder: pathlib.Path, kind: str, messages: Messages, topics) -> pathlib.Path:
    """A bag of messages by topic, in turn, a tenth of a second apart from 5 s on; its path."""
    if kind == "bag":
        path, writer = folder / "a.bag", Writer1(folder / "a.bag")
    else:
        plugin = StoragePlugin.MCAP if kind == "mcap" else StoragePlugin.SQLITE3
        path = folder / f"bag_{kind}"
        writer = Writer2(path, version=9, storage_plugin=plugin)
    serialize = messages.store.serialize_ros1 if kind == "bag" else messages.store.serialize_cdr
    with writer:
        for topic, several in topics.items():
            name = several[0].__msgtype__
            connection = writer.add_connection(topic, name, typestore=messages.store)
            for i, message in enumerate(several):
                time_ns = 5 * 10**9 + i * 10**8
                writer.write(connection, time_ns, serialize(message, name))
    return path

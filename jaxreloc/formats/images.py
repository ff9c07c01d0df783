"""Reading pictures from files and bytes, through OpenCV."""

import dataclasses
import pathlib
from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from jaxreloc.usage import UsageError


def read_image(path: str | pathlib.Path) -> UInt8[np.ndarray, "h w 3"]:
    """An RGB image.

    Raises:
      UsageError: the file is absent or not a picture.
    """
    try:
        encoded = pathlib.Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    return decode_image(encoded, str(path))


def decode_image(encoded: bytes, source: str) -> UInt8[np.ndarray, "h w 3"]:
    """An RGB image from the bytes of a picture file; EXIF orientation is not applied, since
    poses and intrinsics refer to the stored pixels."""
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    buffer = np.frombuffer(encoded, np.uint8)
    image = cv2.imdecode(buffer, flags) if buffer.size else None
    if image is None:
        raise UsageError(f"{source}: not a readable picture; replace the file or remove the frame")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


@dataclasses.dataclass(frozen=True)
class ImageFiles(Sequence):
    """Pictures on disk, decoded on access."""

    paths: tuple[pathlib.Path, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> UInt8[np.ndarray, "h w 3"]:
        return read_image(self.paths[i])


def decode_depth(encoded: bytes, source: str) -> Float32[np.ndarray, "h w"]:
    """Metres along the optical axis, 0 where unknown, from a 16-bit PNG in millimetres.

    The file's 0 and 65535 both mean unknown (7-Scenes, Kinect).

    Raises:
      UsageError: not a 16-bit picture of one channel.
    """
    buffer = np.frombuffer(encoded, np.uint8)
    raw = cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED) if buffer.size else None
    if raw is None or raw.dtype != np.uint16 or raw.ndim != 2:
        raise UsageError(f"{source}: not a 16-bit depth picture; replace the file or the frame")
    return np.where(raw == 65535, 0, raw).astype(np.float32) / np.float32(1000.0)

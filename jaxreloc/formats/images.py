"""Reading pictures from files and bytes, through OpenCV."""

import dataclasses
import pathlib
from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import UInt8

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

"""Reading pictures from files and bytes, through OpenCV."""

import dataclasses
import io
import pathlib
from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image, UnidentifiedImageError

from jaxreloc.usage import UsageError

PICTURE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}


def read_image(path: str | pathlib.Path) -> UInt8[np.ndarray, "h w 3"]:
    """An RGB image.

    Raises:
      UsageError: the file is absent or not a picture.
    """
    return decode_image(_read_bytes(path), str(path))


def decode_image(encoded: bytes, source: str) -> UInt8[np.ndarray, "h w 3"]:
    """An RGB image from the bytes of a picture file; EXIF orientation is not applied, since
    poses and intrinsics refer to the stored pixels."""
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    buffer = np.frombuffer(encoded, np.uint8)
    image = cv2.imdecode(buffer, flags) if buffer.size else None
    if image is None:
        raise UsageError(f"{source}: not a readable picture; replace the file or remove the frame")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def image_size(picture: str | pathlib.Path | bytes, source: str = "") -> tuple[int, int]:
    """Width and height of the stored pixels, from the header alone.

    Args:
      picture: a file, or the bytes of one.
      source: what the bytes are, for the message.

    Raises:
      UsageError: it is absent or not a picture.
    """
    source = source or str(picture)
    try:
        with Image.open(io.BytesIO(picture) if isinstance(picture, bytes) else picture) as opened:
            return opened.size
    except (UnidentifiedImageError, ValueError, SyntaxError) as error:
        raise UsageError(
            f"{source}: not a readable picture; replace the file or remove the frame"
        ) from error
    except OSError as error:
        raise UsageError(f"{source}: cannot be read ({error.strerror}); check the path") from error


@dataclasses.dataclass(frozen=True)
class ImageFiles(Sequence):
    """Pictures on disk, decoded on access."""

    paths: tuple[pathlib.Path, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> UInt8[np.ndarray, "h w 3"]:
        return read_image(self.paths[i])


def decode_depth(
    encoded: bytes, source: str, *, per_metre: float = 1000.0
) -> Float32[np.ndarray, "h w"]:
    """Metres along the optical axis, 0 where unknown, from a 16-bit PNG.

    The file's 0 and 65535 both mean unknown (7-Scenes, Kinect).

    Args:
      per_metre: the file's units in a metre: 1000 for 7-Scenes, 5000 for TUM RGB-D.

    Raises:
      UsageError: not a 16-bit picture of one channel.
    """
    buffer = np.frombuffer(encoded, np.uint8)
    raw = cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED) if buffer.size else None
    if raw is None or raw.dtype != np.uint16 or raw.ndim != 2:
        raise UsageError(f"{source}: not a 16-bit depth picture; replace the file or the frame")
    return np.where(raw == 65535, 0, raw).astype(np.float32) / np.float32(per_metre)


def read_depth(
    path: str | pathlib.Path, *, per_metre: float = 1000.0
) -> Float32[np.ndarray, "h w"]:
    """`decode_depth` of a file.

    Raises:
      UsageError: the file is absent or not a 16-bit picture of one channel.
    """
    return decode_depth(_read_bytes(path), str(path), per_metre=per_metre)


@dataclasses.dataclass(frozen=True)
class DepthFiles(Sequence):
    """16-bit depth pictures on disk, decoded on access to metres (see `decode_depth`)."""

    paths: tuple[pathlib.Path, ...]
    per_metre: float = 1000.0

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> Float32[np.ndarray, "h w"]:
        return read_depth(self.paths[i], per_metre=self.per_metre)


def _read_bytes(path: str | pathlib.Path) -> bytes:
    try:
        return pathlib.Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); check the path") from error

"""Decoding pictures through OpenCV, upright, and encoding them."""

import dataclasses
import pathlib
from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import UInt8

from jaxreloc.images.headers import not_readable, read_bytes, read_header
from jaxreloc.images.heif import decode_heif


def read_image(path: str | pathlib.Path) -> UInt8[np.ndarray, "h w 3"]:
    """An RGB image, upright.

    Raises:
      UsageError: the file is absent, no regular file, no picture, or has too many pixels.
    """
    return decode_image(read_bytes(path), str(path))


def decode_image(encoded: bytes, source: str) -> UInt8[np.ndarray, "h w 3"]:
    """As `read_image`, from the bytes of a picture file."""
    header = read_header(encoded, source)
    if header.is_heif:
        image = decode_heif(encoded)
    else:
        image = decode(encoded, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    decoded_size = header.size if header.decodes_upright else header.stored_size
    if image is None or image.shape[1::-1] != decoded_size:
        raise not_readable(source)
    if header.orientation == 1 or header.decodes_upright:
        return image
    mirrored = image[:, ::-1] if header.is_mirrored else image
    return np.ascontiguousarray(np.rot90(mirrored, header.quarter_turns))


def decode_grey(encoded: bytes, source: str) -> UInt8[np.ndarray, "h w"]:
    """The brightness of a picture as it is stored; see `read_image` for what is raised."""
    header = read_header(encoded, source)
    image = decode(encoded, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None or image.shape[::-1] != header.stored_size:
        raise not_readable(source)
    return image


def encode_jpeg(image: UInt8[np.ndarray, "h w 3"], quality: int) -> bytes:
    """An RGB image as a JPEG file."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
    return cv2.imencode(".jpg", bgr, options)[1].tobytes()


@dataclasses.dataclass(frozen=True)
class ImageFiles(Sequence):
    """Pictures on disk, decoded on access."""

    paths: tuple[pathlib.Path, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> UInt8[np.ndarray, "h w 3"]:
        return read_image(self.paths[i])


def decode(encoded: bytes, flags: int) -> np.ndarray | None:
    """OpenCV's picture by its `IMREAD` flags; None of what is none."""
    try:
        return cv2.imdecode(np.frombuffer(encoded, np.uint8), flags) if encoded else None
    except cv2.error:
        return None

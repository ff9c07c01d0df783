"""Depth pictures: read from 16-bit PNGs, and sampled as an image of the same camera sees them."""

import dataclasses
import pathlib
from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float, Float32

from jaxreloc.images.decoding import decode
from jaxreloc.images.headers import read_bytes, read_header
from jaxreloc.usage import UsageError


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
    read_header(encoded, source)
    raw = decode(encoded, cv2.IMREAD_UNCHANGED)
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
    return decode_depth(read_bytes(path), str(path), per_metre=per_metre)


@dataclasses.dataclass(frozen=True)
class DepthFiles(Sequence):
    """16-bit depth pictures on disk, decoded on access to metres (see `decode_depth`)."""

    paths: tuple[pathlib.Path, ...]
    per_metre: float = 1000.0

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> Float32[np.ndarray, "h w"]:
        return read_depth(self.paths[i], per_metre=self.per_metre)


def cell_centres(shape: tuple[int, int], stride: int) -> Float[np.ndarray, "rows columns 2"]:
    """Pixels x and y in the middle of the cells, of side `stride`, of a picture of that height and
    width."""
    rows, columns = np.indices([side // stride for side in shape])
    return np.stack([columns, rows], axis=-1) * stride + (stride - 1) / 2


def sample_depth(
    depth: Float[np.ndarray, "h w"],
    depth_intrinsics: Float[np.ndarray, "3 3"],
    intrinsics: Float[np.ndarray, "3 3"],
    pixels: Float[np.ndarray, "*places 2"],
) -> Float32[np.ndarray, "*places"]:
    """Depth at places of an image that was resized or cropped from the depth's view.

    Args:
      depth: metres along z, 0 where not known.
      depth_intrinsics: of the depth map.
      intrinsics: of the image, whose camera and axes are the same.
      pixels: of the image.

    Returns:
      Of the nearest pixel; 0 outside the map.
    """
    mapping = depth_intrinsics @ np.linalg.inv(intrinsics)
    places = np.rint(pixels @ mapping[:2, :2].T + mapping[:2, 2]).astype(np.int64)
    x, y = places[..., 0], places[..., 1]
    height, width = depth.shape
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    sampled = depth[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]
    return np.where(inside, sampled, 0.0).astype(np.float32)

"""Writes coloured points as a PLY file."""

import pathlib

import numpy as np
from jaxtyping import Float, UInt8

from jaxreloc import files

FIELDS = np.dtype([*((axis, "<f4") for axis in "xyz"), *((c, "u1") for c in ("r", "g", "b"))])
HEADER = """ply
format binary_little_endian 1.0
element vertex {count}
property float x
property float y
property float z
property uchar red
property uchar green
property uchar blue
end_header
"""


def write_ply(
    path: pathlib.Path, positions: Float[np.ndarray, "P 3"], colors: UInt8[np.ndarray, "P 3"]
) -> None:
    """Writes the file by rename, binary; coordinates in single precision."""
    vertices = np.empty(len(positions), FIELDS)
    for i, axis in enumerate("xyz"):
        vertices[axis] = positions[:, i]
    for i, channel in enumerate(("r", "g", "b")):
        vertices[channel] = colors[:, i]
    header = HEADER.format(count=len(positions)).encode()
    files.write_bytes(path, header + vertices.tobytes())

"""`intrinsics.txt`: the pinhole camera of a folder of images, where its format has no place for it.

Either `fx fy cx cy` on one line or a 3x3 matrix on three; pixels, counted from the centre of the
top-left pixel.
"""

import pathlib

import numpy as np

from jaxreloc.formats.cameras import Camera
from jaxreloc.formats.text import numbers, read_rows
from jaxreloc.usage import UsageError

FILE_NAME = "intrinsics.txt"


def read_intrinsics(path: str | pathlib.Path, width: int, height: int) -> Camera:
    """The camera of images of `width` x `height`.

    Raises:
      UsageError: the file is neither of the two forms.
    """
    values = [value for row in read_rows(path) for value in numbers(row.fields, row.source, "K")]
    if len(values) == 4:
        fx, fy, cx, cy = values
    elif len(values) == 9:
        K = np.reshape(values, (3, 3))
        fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
        if K[0, 1] or K[1, 0] or (K[2] != (0, 0, 1)).any():
            raise UsageError(f"{path}: not [[fx 0 cx] [0 fy cy] [0 0 1]]; write 'fx fy cx cy'")
    else:
        raise UsageError(f"{path}: {len(values)} numbers; write 'fx fy cx cy' or a 3x3 matrix")
    return Camera(fx, fy, cx, cy, width, height).check(str(path))

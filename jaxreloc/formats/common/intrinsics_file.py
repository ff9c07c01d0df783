"""`intrinsics.txt`: the pinhole camera of a folder of images, where its format has no place for it.

Either `fx fy cx cy` on one line or a 3x3 matrix on three; pixels, counted from the centre of the
top-left pixel.
"""

import pathlib

import numpy as np

from jaxreloc.formats.common.camera_models import Camera, pinhole
from jaxreloc.formats.common.text import numbers, read_rows
from jaxreloc.images import PictureHeader
from jaxreloc.usage import CommonError, UsageError

FILE_NAME = "intrinsics.txt"


def read_intrinsics(path: str | pathlib.Path, header: PictureHeader) -> Camera:
    """The camera of the upright picture or the stored one; see `cameras.pinhole`.

    Raises:
      UsageError: the file is neither of the two forms, or of another picture.
    """
    return pinhole(*read_pinhole(path), header, str(path))


def read_pinhole(path: str | pathlib.Path) -> tuple[float, float, float, float]:
    """fx, fy, cx, cy of whatever picture.

    Raises:
      UsageError: the file is neither of the two forms.
    """
    try:
        values = [x for row in read_rows(path) for x in numbers(row.fields, row.source, "K")]
    except UsageError as error:
        raise CommonError(str(error)) from error
    if len(values) == 4:
        return tuple(values)
    if len(values) == 9:
        K = np.reshape(values, (3, 3))
        if K[0, 1] or K[1, 0] or (K[2] != (0, 0, 1)).any():
            raise CommonError(f"{path}: not [[fx 0 cx] [0 fy cy] [0 0 1]]; write 'fx fy cx cy'")
        return values[0], values[4], values[2], values[5]
    raise CommonError(f"{path}: {len(values)} numbers; write 'fx fy cx cy' or a 3x3 matrix")

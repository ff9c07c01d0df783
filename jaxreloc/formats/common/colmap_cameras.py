"""COLMAP's camera models, brought to OpenCV's where that has the same, and lists of cameras.

Pixels count from the corner of the top-left one in these.
"""

import pathlib

from jaxreloc.formats.common.camera_models import Camera, from_corner_convention
from jaxreloc.formats.common.text import numbers, read_rows
from jaxreloc.usage import CommonError, UsageError

# By COLMAP's number: the name, and how many parameters there are.
CAMERA_MODELS = {
    0: ("SIMPLE_PINHOLE", 3),
    1: ("PINHOLE", 4),
    2: ("SIMPLE_RADIAL", 4),
    3: ("RADIAL", 5),
    4: ("OPENCV", 8),
    5: ("OPENCV_FISHEYE", 8),
    6: ("FULL_OPENCV", 12),
    7: ("FOV", 5),
    8: ("SIMPLE_RADIAL_FISHEYE", 4),
    9: ("RADIAL_FISHEYE", 5),
    10: ("THIN_PRISM_FISHEYE", 12),
    11: ("RAD_TAN_THIN_PRISM_FISHEYE", 16),
    12: ("SIMPLE_DIVISION", 4),
    13: ("DIVISION", 5),
    14: ("SIMPLE_FISHEYE", 3),
    15: ("FISHEYE", 4),
    16: ("EUCM", 6),
    17: ("EQUIRECTANGULAR", 2),
}
PARAMETERS = dict(CAMERA_MODELS.values())
# Models whose distortion is OpenCV's, in OpenCV's order.
_PERSPECTIVE = {"SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV"}
_FISHEYE = {"SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE", "OPENCV_FISHEYE"}
_FISHEYE |= {"SIMPLE_FISHEYE", "FISHEYE"}
_NO_PERSPECTIVE = {"EQUIRECTANGULAR"}
_ONE_FOCAL = {
    *("SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE"),
    *("SIMPLE_DIVISION", "SIMPLE_FISHEYE"),
}
LIST_ROW = "'name MODEL width height parameters'"


def from_colmap(
    model: str, width: int, height: int, parameters: tuple[float, ...], source: str
) -> Camera:
    """The camera of COLMAP's `model`; distortion that OpenCV has not is left to pycolmap.

    Raises:
      UsageError: the model is unknown or sees all around, or a value cannot be a camera's.
    """
    if model not in PARAMETERS or model in _NO_PERSPECTIVE:
        raise UsageError(
            f"{source}: camera model {model} is not read; run COLMAP's image_undistorter first"
        )
    if len(parameters) != PARAMETERS[model]:
        raise UsageError(
            f"{source}: {model} has {PARAMETERS[model]} parameters, not {len(parameters)}; mend it"
        )
    by_opencv = model in _PERSPECTIVE | _FISHEYE
    values = list(parameters)
    if model in _ONE_FOCAL:
        values.insert(0, values[0])
    fx, fy, cx, cy, *rest = values
    distortion = tuple(rest) if by_opencv else ()
    if distortion or model in _FISHEYE:
        distortion += (0.0,) * (4 - len(distortion))
    return from_corner_convention(
        fx,
        fy,
        cx,
        cy,
        width,
        height,
        distortion=distortion,
        fisheye=model in _FISHEYE,
        colmap_model=None if by_opencv else (model, tuple(parameters)),
    ).check(source)


class CameraList:
    """Cameras by picture or folder, from rows `name MODEL width height parameters`, as hloc's.

    A name that ends in `/` is of all pictures in that folder, `*` of all that are not named.
    """

    def __init__(self, path: str | pathlib.Path):
        """Raises UsageError: a row is not as it should be."""
        self._path = path
        self._cameras: dict[str, Camera] = {}
        try:
            for row in read_rows(path):
                name, camera = _parse_row(row.fields, row.source)
                if name in self._cameras:
                    raise UsageError(f"{row.source}: {name} has a camera already; remove one")
                self._cameras[name] = camera
        except UsageError as error:
            raise CommonError(str(error)) from error

    def of(self, name: str) -> Camera:
        """That of a picture, or else of the innermost folder that it is in.

        Raises:
          UsageError: the list has none.
        """
        folders = [f"{folder.as_posix()}/" for folder in pathlib.PurePosixPath(name).parents]
        for known in (name, *folders, "*"):
            if known in self._cameras:
                return self._cameras[known]
        raise UsageError(f"{self._path}: has no camera of {name}; add {LIST_ROW}, or '*' as name")


def is_camera_list(path: str | pathlib.Path) -> bool:
    """Whether the second word of a file is the name of a camera model."""
    rows = read_rows(path)
    return bool(rows) and len(rows[0].fields) > 1 and rows[0].fields[1] in PARAMETERS


def _parse_row(fields: list[str], source: str) -> tuple[str, Camera]:
    if len(fields) < 5:
        raise UsageError(f"{source}: not a camera {LIST_ROW}; mend the line")
    name, model, *rest = fields
    width, height, *parameters = numbers(rest, source, "a parameter")
    if width != int(width) or height != int(height):
        raise UsageError(f"{source}: {width:g} x {height:g} is no size of a picture; mend it")
    camera = from_colmap(model, int(width), int(height), tuple(parameters), source)
    return name, camera

"""What EXIF says of how a picture was taken; damaged entries are as if they were not there."""

import math
from collections.abc import Callable, Mapping
from typing import TypeVar

from PIL import Image

_ORIENTATION, _MAKE, _MODEL = 0x0112, 0x010F, 0x0110
_CAPTURE, _GPS = 0x8769, 0x8825  # folders
_FOCAL_MM, _FOCAL_35MM, _LENS = 0x920A, 0xA405, 0xA434
_WIDTH, _HEIGHT = 0xA002, 0xA003  # of the picture whose focal plane is described
_PLANE_RESOLUTION, _PLANE_UNIT = 0xA20E, 0xA210
_UNIT_MM = {2: 25.4, 3: 10.0, 4: 1.0, 5: 1e-3}
_LATITUDE, _LONGITUDE, _HEIGHT_M = (1, 2), (3, 4), (5, 6)  # in the GPS folder: sign, value

T = TypeVar("T")


def orientation(opened: Image.Image) -> int:
    """From 1, as stored, to 8."""
    return _or(lambda: int(_tags(opened)[_ORIENTATION]), 1)


def focal_35mm(opened: Image.Image) -> float | None:
    """The focal length in millimetres, as if the picture were a film of 36 x 24 mm."""
    return _or(lambda: _positive(_folder(opened, _CAPTURE)[_FOCAL_35MM]))


def focal_in_sides(opened: Image.Image) -> float | None:
    """The focal length in lengths of the longer side, by the pixels of the focal plane."""

    def read() -> float:
        tags = _folder(opened, _CAPTURE)
        pixels_per_mm = _positive(tags[_PLANE_RESOLUTION]) / _UNIT_MM[tags.get(_PLANE_UNIT, 2)]
        side = max(_positive(tags[_WIDTH]), _positive(tags[_HEIGHT]))
        return _positive(tags[_FOCAL_MM]) * pixels_per_mm / side

    return _or(read)


def camera_name(opened: Image.Image) -> str:
    """Maker, model and lens, as far as they are said."""
    tags = _or(lambda: _tags(opened), {})
    lens = _or(lambda: str(_folder(opened, _CAPTURE)[_LENS]), "")
    parts = (str(tags.get(_MAKE, "")), str(tags.get(_MODEL, "")), lens)
    return " ".join(part.strip(" \0") for part in parts if part.strip(" \0"))


def position(opened: Image.Image) -> tuple[float, float, float] | None:
    """Latitude and longitude in degrees, and metres above the sea (0 where that is not said)."""

    def angle(tags: Mapping, sign: int, value: int, negative: str, most: float) -> float:
        degrees, minutes, seconds = map(float, tags[value])
        found = degrees + minutes / 60 + seconds / 3600
        if not 0 <= found <= most:
            raise ValueError(found)
        return -found if str(tags[sign]).strip(" \0").upper() == negative else found

    def height(tags: Mapping) -> float:
        below = tags.get(_HEIGHT_M[0], 0) in (1, b"\1")
        found = float(tags[_HEIGHT_M[1]])
        if not abs(found) < 1e5:
            raise ValueError(found)
        return -found if below else found

    def read() -> tuple[float, float, float]:
        tags = _folder(opened, _GPS)
        latitude = angle(tags, *_LATITUDE, "S", 90.0)
        longitude = angle(tags, *_LONGITUDE, "W", 180.0)
        if latitude == longitude == 0:  # written where there was no signal
            raise ValueError("no place")
        return latitude, longitude, _or(lambda: height(tags), 0.0)

    return _or(read)


def _tags(opened: Image.Image) -> Image.Exif:
    # The method of the base class: a PNG's own decodes the picture in search of more.
    return Image.Image.getexif(opened)


def _folder(opened: Image.Image, number: int) -> Mapping:
    return _tags(opened).get_ifd(number)


def _positive(value: object) -> float:
    number = float(value)
    if not 0 < number < math.inf:
        raise ValueError(number)
    return number


def _or(read: Callable[[], T], otherwise: T | None = None) -> T | None:
    """What `read` gives; `otherwise`, whatever Pillow raises of damaged EXIF."""
    try:
        return read()
    except Exception:
        return otherwise

"""What a picture file says of itself before its pixels, and which pictures are read at all.

A picture is always the upright one, turned as its EXIF orientation says. The number of pixels is
checked in the header, before anything is decoded.
"""

import contextlib
import dataclasses
import io
import logging
import math
import pathlib
import threading
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from PIL import Image

from jaxreloc import files
from jaxreloc.images import exif, heif
from jaxreloc.usage import UsageError

logger = logging.getLogger(__name__)
PICTURE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
# Pictures that are not read: skipping them is said.
UNREAD_SUFFIXES = {".gif", ".avif", ".jxl", ".dng", ".cr2", ".nef", ".arw"}
(PICTURE_SUFFIXES if heif.is_readable() else UNREAD_SUFFIXES).update(heif.SUFFIXES)
MAX_PIXELS = 200_000_000
# Of pictures to localize in or by; beyond, nothing is left of the shorter side in a network.
MIN_SIDE = 16
MAX_ASPECT = 20

# By EXIF orientation: whether the stored picture is mirrored left to right, and by how many quarter
# turns it is then turned counterclockwise, to be upright.
_TO_UPRIGHT = {
    1: (False, 0),
    2: (True, 0),
    3: (False, 2),
    4: (True, 2),
    5: (True, 1),
    6: (False, 3),
    7: (True, 3),
    8: (False, 1),
}
_FILM_MM = (36.0, 24.0)
_HEADER_BYTES = 1 << 26  # that a file may have besides its pixels
_PIXEL_BYTES = 8  # four channels of 16 bits

_pillow_limit = threading.Lock()
_max_pixels = MAX_PIXELS


class TooManyPixels(UsageError):
    """A picture is larger than what is read."""


@dataclasses.dataclass(frozen=True)
class PictureHeader:
    """What a picture file says of itself before its pixels."""

    stored_size: tuple[int, int]  # width, height
    orientation: int = 1  # of EXIF
    decodes_upright: bool = False  # a TIFF or HEIC is turned whatever a decoder is told
    is_heif: bool = False
    focal_35mm: float | None = None  # of EXIF: as if the picture were a film of 36 x 24 mm
    focal_in_sides: float | None = None  # of EXIF: in lengths of the longer side
    camera_name: str = ""  # of EXIF
    position: tuple[float, float, float] | None = None  # of EXIF: latitude, longitude, height

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the upright picture."""
        return self.stored_size[::-1] if self.quarter_turns % 2 else self.stored_size

    @property
    def focal_px(self) -> float | None:
        """The focal length by EXIF, whose film has the picture's diagonal; None: not said."""
        if self.focal_35mm is not None:
            return self.focal_35mm * math.hypot(*self.size) / math.hypot(*_FILM_MM)
        return self.focal_in_sides and self.focal_in_sides * max(self.size)

    @property
    def is_mirrored(self) -> bool:
        """Whether the stored picture shows left and right exchanged."""
        return _TO_UPRIGHT[self.orientation][0]

    @property
    def quarter_turns(self) -> int:
        """Counterclockwise, from the stored picture (mirrored back first) to the upright one."""
        return _TO_UPRIGHT[self.orientation][1]


def set_max_pixels(count: int) -> None:
    """Sets, for this process, how many pixels a picture may have; it is MAX_PIXELS until then."""
    global _max_pixels
    _max_pixels = count


def image_size(picture: str | pathlib.Path | bytes, source: str = "") -> tuple[int, int]:
    """Width and height of the upright picture; see `read_header`."""
    return read_header(picture, source).size


def read_header(picture: str | pathlib.Path | bytes, source: str = "") -> PictureHeader:
    """The size and orientation of a picture; nothing is decoded.

    Args:
      picture: a file, or the bytes of one.
      source: what the bytes are, for the message.

    Raises:
      UsageError: it is absent, no regular file, no picture, or has too many pixels.
    """
    source = source or str(picture)
    if isinstance(picture, bytes):
        header = _parse_header(io.BytesIO(picture), source)
    else:
        with files.open_regular(picture) as file:
            header = _parse_header(file, source)
    width, height = header.size
    if width * height > _max_pixels:
        raise TooManyPixels(
            f"{source}: {width} x {height} pixels are more than the {_max_pixels / 1e6:g} million "
            "that are read; scale the picture down, or give --max_megapixels"
        )
    return header


def check_shape(size: tuple[int, int], source: str) -> None:
    """Raises UsageError for a width and height that nothing can be localized by."""
    short, long = sorted(size)
    if short < MIN_SIDE or long > MAX_ASPECT * short:
        raise UsageError(
            f"{source}: {size[0]} x {size[1]} pixels are no photograph, which has {MIN_SIDE} "
            f"pixels or more a side, and at most {MAX_ASPECT} times as many along one as along the "
            "other; remove the picture"
        )


def note_unread_formats(source: str | pathlib.Path, paths: Iterable[pathlib.Path]) -> None:
    """One warning that counts the pictures of formats that are not read, if there are any."""
    if unread := sorted(path for path in paths if path.suffix.lower() in UNREAD_SUFFIXES):
        logger.warning(
            "%s: %d picture(s) in %s are skipped, the first is %s; convert them to JPEG%s",
            source,
            len(unread),
            ", ".join(sorted({path.suffix.lower() for path in unread})),
            unread[0].name,
            ", or pip install 'jaxreloc[heic]'"
            if any(path.suffix.lower() in heif.SUFFIXES for path in unread)
            else "",
        )


def read_bytes(path: str | pathlib.Path) -> bytes:
    """The bytes of a picture file, unless they are more than any picture's that is read."""
    return files.read_bytes(path, limit=_HEADER_BYTES + _PIXEL_BYTES * _max_pixels)


def not_readable(source: str) -> UsageError:
    """What is raised of bytes that are no picture."""
    return UsageError(f"{source}: not a readable picture; replace the file or remove the frame")


def _parse_header(file: BinaryIO, source: str) -> PictureHeader:
    is_heif = heif.is_heif(file.read(heif.HEAD_BYTES))
    file.seek(0)
    if is_heif:
        heif.let_pillow_open()
    # Whatever Pillow raises of damaged bytes, which is most of Python's exceptions.
    try:
        with _without_pillow_limit(), Image.open(file) as opened:
            is_tiff = opened.format == "TIFF"
            # Some versions of Pillow give the size of a TIFF as it is upright.
            size = (opened.tag_v2[256], opened.tag_v2[257]) if is_tiff else opened.size
            turned = 1 if is_heif else exif.orientation(opened)
            return PictureHeader(
                stored_size=size,
                orientation=turned if turned in _TO_UPRIGHT else 1,
                decodes_upright=is_tiff or is_heif,
                is_heif=is_heif,
                focal_35mm=exif.focal_35mm(opened),
                focal_in_sides=exif.focal_in_sides(opened),
                camera_name=exif.camera_name(opened),
                position=exif.position(opened),
            )
    except Exception as error:
        raise not_readable(source) from error


@contextlib.contextmanager
def _without_pillow_limit() -> Iterator[None]:
    """Without Pillow's own limit of pixels, of which it warns."""
    with _pillow_limit:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit

"""Reading pictures from files and bytes: sizes, EXIF orientation, decoding through OpenCV.

A picture is always the upright one, turned as its EXIF orientation says. The number of pixels is
checked in the header, before anything is decoded.
"""

import contextlib
import dataclasses
import io
import pathlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

import cv2
import numpy as np
from absl import logging
from jaxtyping import Float, Float32, UInt8
from PIL import Image

from jaxreloc import files
from jaxreloc.usage import UsageError

PICTURE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
# Pictures that are not read: skipping them is said.
UNREAD_SUFFIXES = {".heic", ".heif", ".gif", ".avif", ".jxl", ".dng", ".cr2", ".nef", ".arw"}
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
_ORIENTATION_TAG = 274
_HEADER_BYTES = 1 << 26  # that a file may have besides its pixels
_PIXEL_BYTES = 8  # four channels of 16 bits

_pillow_limit = threading.Lock()
_max_pixels = MAX_PIXELS


@dataclasses.dataclass(frozen=True)
class PictureHeader:
    """What a picture file says of itself before its pixels."""

    stored_size: tuple[int, int]  # width, height
    orientation: int = 1  # of EXIF
    decodes_upright: bool = False  # OpenCV turns a TIFF whatever it is told

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the upright picture."""
        return self.stored_size[::-1] if self.quarter_turns % 2 else self.stored_size

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


def read_image(path: str | pathlib.Path) -> UInt8[np.ndarray, "h w 3"]:
    """An RGB image, upright.

    Raises:
      UsageError: the file is absent, no regular file, no picture, or has too many pixels.
    """
    return decode_image(_read_bytes(path), str(path))


def decode_image(encoded: bytes, source: str) -> UInt8[np.ndarray, "h w 3"]:
    """As `read_image`, from the bytes of a picture file."""
    header = read_header(encoded, source)
    image = _decode(encoded, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    decoded_size = header.size if header.decodes_upright else header.stored_size
    if image is None or image.shape[1::-1] != decoded_size:
        raise _not_readable(source)
    if header.orientation == 1 or header.decodes_upright:
        return image
    mirrored = image[:, ::-1] if header.is_mirrored else image
    return np.ascontiguousarray(np.rot90(mirrored, header.quarter_turns))


def decode_grey(encoded: bytes, source: str) -> UInt8[np.ndarray, "h w"]:
    """The brightness of a picture as it is stored; see `read_image` for what is raised."""
    header = read_header(encoded, source)
    image = _decode(encoded, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None or image.shape[::-1] != header.stored_size:
        raise _not_readable(source)
    return image


def shrunk(image: UInt8[np.ndarray, "h w 3"], long_side: int) -> UInt8[np.ndarray, "h2 w2 3"]:
    """The picture with at most `long_side` pixels along its longer side."""
    height, width = image.shape[:2]
    scale = min(1.0, long_side / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def encode_jpeg(image: UInt8[np.ndarray, "h w 3"], quality: int) -> bytes:
    """An RGB image as a JPEG file."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


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
        raise UsageError(
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
        logging.warning(
            "%s: %d picture(s) in %s are skipped, the first is %s; convert them to JPEG",
            source,
            len(unread),
            ", ".join(sorted({path.suffix.lower() for path in unread})),
            unread[0].name,
        )


def turn_camera(
    intrinsics: Float[np.ndarray, "3 3"], width: int, height: int, quarter_turns: int
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3 3"]]:
    """The camera of a picture that is turned counterclockwise by `quarter_turns` of 90 degrees.

    A quarter turn shows pixel (x, y) of an image of width w at M (x, y, 1) = (y, w - 1 - x, 1). Its
    camera is the given one turned about the optical axis by R, and has the intrinsics K' for which
    M K = K' R, K' being upper triangular: without skew fx and fy change places.

    Args:
      width: of the picture before it is turned.
      height: the same.

    Returns:
      K', and the rotation R = turned_from_given, which takes points of the given camera's frame to
      the turned one's.
    """
    turned_from_given = np.eye(3)
    for _ in range(quarter_turns % 4):
        pixels = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, width - 1.0], [0.0, 0.0, 1.0]])
        mapped = pixels @ intrinsics
        down = mapped[1, :2] / np.linalg.norm(mapped[1, :2])  # the turned camera's y axis
        rotation = np.array([[down[1], -down[0], 0.0], [down[0], down[1], 0.0], [0.0, 0.0, 1.0]])
        intrinsics = mapped @ rotation.T
        intrinsics[1, 0] = 0.0  # but for rounding it is
        turned_from_given = rotation @ turned_from_given
        width, height = height, width
    return intrinsics, turned_from_given


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
    read_header(encoded, source)
    raw = _decode(encoded, cv2.IMREAD_UNCHANGED)
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


def _parse_header(file: BinaryIO, source: str) -> PictureHeader:
    # Whatever Pillow raises of damaged bytes, which is most of Python's exceptions.
    try:
        with _without_pillow_limit(), Image.open(file) as opened:
            is_tiff = opened.format == "TIFF"
            # Some versions of Pillow give the size of a TIFF as it is upright.
            size = (opened.tag_v2[256], opened.tag_v2[257]) if is_tiff else opened.size
            return PictureHeader(size, _orientation(opened), is_tiff)
    except Exception as error:
        raise _not_readable(source) from error


def _orientation(opened: Image.Image) -> int:
    """1 where EXIF is absent or damaged."""
    try:
        # The method of the base class: a PNG's own decodes the picture in search of more.
        orientation = Image.Image.getexif(opened).get(_ORIENTATION_TAG)
        return orientation if orientation in _TO_UPRIGHT else 1
    except Exception:
        return 1


@contextlib.contextmanager
def _without_pillow_limit() -> Iterator[None]:
    """Without Pillow's own limit of pixels, of which it warns."""
    with _pillow_limit:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _decode(encoded: bytes, flags: int) -> np.ndarray | None:
    try:
        return cv2.imdecode(np.frombuffer(encoded, np.uint8), flags) if encoded else None
    except cv2.error:
        return None


def _not_readable(source: str) -> UsageError:
    return UsageError(f"{source}: not a readable picture; replace the file or remove the frame")


def _read_bytes(path: str | pathlib.Path) -> bytes:
    return files.read_bytes(path, limit=_HEADER_BYTES + _PIXEL_BYTES * _max_pixels)

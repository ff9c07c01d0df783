"""The cameras and registered images of a COLMAP sparse model, text and binary, as they are stored.

Points, rigs and frames are not read: images.txt and images.bin state the pose of every image of a
rig, too. Every count of a binary file is checked against the file's own size before it is believed.
"""

import contextlib
import dataclasses
import mmap
import os
import pathlib
import struct
from collections.abc import Iterator

from jaxreloc import files
from jaxreloc.formats.common.colmap_cameras import CAMERA_MODELS, PARAMETERS
from jaxreloc.formats.common.text import numbers
from jaxreloc.usage import UsageError

MAX_NAME = 4096  # bytes, the longest path of Linux

_COUNT = struct.Struct("<Q")
_CAMERA = struct.Struct("<IiQQ")  # id, model, width, height; then the parameters
_IMAGE = struct.Struct("<I7dI")  # id, q_wxyz, translation, camera id; then name, 0, points
_POINT_BYTES = 24


@dataclasses.dataclass(frozen=True)
class ModelCamera:
    """A camera with its parameters in COLMAP's order and convention."""

    model: str
    width: int
    height: int
    parameters: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class ModelImage:
    """A registered image; the pose is `cam_from_world` and of any norm."""

    name: str
    camera_id: int
    q_wxyz: tuple[float, ...]
    translation: tuple[float, ...]


def read_model(folder: pathlib.Path) -> tuple[dict[int, ModelCamera], list[ModelImage]]:
    """The cameras by their id, and the images in the order of the file.

    Raises:
      UsageError: a file cannot be read or is damaged.
    """
    if os.path.isfile(folder / "images.bin"):
        with _mapped(folder / "cameras.bin") as content:
            cameras = dict(_binary_cameras(content))
        with _mapped(folder / "images.bin") as content:
            return cameras, list(_binary_images(content))
    cameras = dict(_text_cameras(folder / "cameras.txt"))
    return cameras, list(_text_images(folder / "images.txt"))


@contextlib.contextmanager
def _mapped(path: pathlib.Path) -> Iterator[mmap.mmap]:
    """A binary file as memory; what is not as it should be in it becomes a UsageError."""
    with files.open_regular(path) as file:
        try:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                yield content
        except (struct.error, ValueError, OSError) as error:
            raise UsageError(
                f"{path}: not a file of a COLMAP model, or damaged ({error}); export it again"
            ) from error


def _binary_cameras(content: mmap.mmap) -> Iterator[tuple[int, ModelCamera]]:
    place = _COUNT.size
    for _ in range(_count(content, 0, _CAMERA.size)):
        key, number, width, height = _CAMERA.unpack_from(content, place)
        if number not in CAMERA_MODELS:
            raise ValueError(f"camera {key} is of an unknown model {number}")
        name, count = CAMERA_MODELS[number]
        parameters = struct.unpack_from(f"<{count}d", content, place + _CAMERA.size)
        place += _CAMERA.size + 8 * count
        yield key, ModelCamera(name, width, height, parameters)
    _check_end(content, place)


def _binary_images(content: mmap.mmap) -> Iterator[ModelImage]:
    place = _COUNT.size
    for _ in range(_count(content, 0, _IMAGE.size)):
        key, *pose, camera_id = _IMAGE.unpack_from(content, place)
        start = place + _IMAGE.size
        end = content.find(b"\0", start, start + MAX_NAME)
        if end < 0:
            raise ValueError(f"the name of image {key} has no end")
        points = _count(content, end + 1, _POINT_BYTES)
        place = end + 1 + _COUNT.size + points * _POINT_BYTES
        name = os.fsdecode(content[start:end])
        yield ModelImage(name, camera_id, tuple(pose[:4]), tuple(pose[4:]))
    _check_end(content, place)


def _count(content: mmap.mmap, place: int, least_bytes: int) -> int:
    """A count of what takes that many bytes each, which must have room in the file."""
    (count,) = _COUNT.unpack_from(content, place)
    if count * least_bytes > len(content) - place - _COUNT.size:
        raise ValueError(f"{count} entries at byte {place} have no room in {len(content)} bytes")
    return count


def _check_end(content: mmap.mmap, place: int) -> None:
    if place != len(content):
        raise ValueError(f"it goes on after its end at byte {place}")


def _text_cameras(path: pathlib.Path) -> Iterator[tuple[int, ModelCamera]]:
    for source, line in _lines(path):
        if not line or line.startswith("#"):
            continue
        fields = line.split()
        if len(fields) < 4 or len(fields) != 4 + PARAMETERS.get(fields[1], len(fields)):
            raise UsageError(f"{source}: not a camera 'id MODEL width height parameters'; mend it")
        key, width, height = (_whole(fields[i], source) for i in (0, 2, 3))
        parameters = tuple(numbers(fields[4:], source, "a parameter"))
        yield key, ModelCamera(fields[1], width, height, parameters)


def _text_images(path: pathlib.Path) -> Iterator[ModelImage]:
    lines = _lines(path)
    for source, line in lines:
        if not line or line.startswith("#"):
            continue
        fields = line.split()
        if len(fields) != 10:
            raise UsageError(
                f"{source}: not an image 'id qw qx qy qz tx ty tz camera_id name'; mend the line"
            )
        pose = numbers(fields[1:8], source, "a pose value")
        camera_id = _whole(fields[8], source)
        yield ModelImage(fields[9], camera_id, tuple(pose[:4]), tuple(pose[4:]))
        next(lines, None)  # its points


def _lines(path: pathlib.Path) -> Iterator[tuple[str, str]]:
    """Each line with its place, one by one, since those of points are many; any bytes are taken."""
    with files.open_regular(path) as file:
        for number, line in enumerate(file, start=1):
            yield f"{path}:{number}", os.fsdecode(line).strip()


def _whole(field: str, source: str) -> int:
    if not (field.isascii() and field.isdigit() and len(field) < 20):
        raise UsageError(f"{source}: {field[:40]!r} is not a whole number; mend the line")
    return int(field)

"""Frames brought to one size, each decoded once: kept in memory while they fit, and on disk.

An entry on disk is named by the identity of its source (for a file its path, length and time of
change) and by the size, so it never has to be invalidated; the folder can be deleted at any time.
An entry holds plain pixels, 262 kB for 341 x 256.
"""

import hashlib
import logging
import os
import pathlib
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8

from jaxreloc.files import printable, read_bytes, replacing
from jaxreloc.formats.common.camera_models import UndistortedImages
from jaxreloc.formats.frames import Chain, PosedFrames, Selection
from jaxreloc.images import ImageFiles, resize_frame
from jaxreloc.usage import UsageError

logger = logging.getLogger(__name__)
MEMORY_BYTES = 1 << 30
_VERSION = b"jaxreloc frame 1"
_HEADER = struct.Struct("<16sIII4d")  # version, checksum of the rest, height, width, pixel map


class FrameCache:
    """Resized frames of some scenes, by scene index and frame index.

    Several processes and threads may share a directory. A damaged entry is made anew.

    Args:
      scenes: the frames.
      size: their size, as for `resize_frame`.
      directory: where entries are kept; None for memory only.
      memory_bytes: how many bytes of frames each process keeps in memory.

    Raises:
      UsageError: the directory cannot be written.
    """

    def __init__(
        self,
        scenes: Sequence[PosedFrames],
        size: int | tuple[int, int],
        *,
        directory: str | os.PathLike | None = None,
        memory_bytes: int = MEMORY_BYTES,
    ):
        self._scenes = tuple(scenes)
        self._size = size
        self._directory = None if directory is None else _writable(pathlib.Path(directory))
        self._memory_bytes = memory_bytes
        self._kept_bytes = 0
        self._memory: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}
        self._unreadable: dict[tuple[int, int], UsageError] = {}

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_memory": {}, "_kept_bytes": 0}  # a worker fills its own

    def read(
        self, scene: int, frame: int
    ) -> tuple[UInt8[np.ndarray, "h w 3"], Float[np.ndarray, "3 3"]]:
        """A resized frame, not to be written to, and its intrinsics.

        Raises:
          UsageError: the picture cannot be read, or has another size than its intrinsics are for.
        """
        key = (scene, frame)
        if key in self._unreadable:
            raise self._unreadable[key]
        if key in self._memory:
            image, pixel_map = self._memory[key]
        else:
            try:
                image, pixel_map = self._load(self._scenes[scene], frame)
            except UsageError as error:
                self._unreadable[key] = error
                raise
            image = image.view()
            image.flags.writeable = False
            if self._kept_bytes + image.nbytes <= self._memory_bytes:
                self._kept_bytes += image.nbytes
                self._memory[key] = image, pixel_map
        return image, pixel_map @ self._scenes[scene].intrinsics[frame]

    def _load(self, frames: PosedFrames, frame: int) -> tuple[np.ndarray, np.ndarray]:
        identity = _identity(frames.images, frame) if self._directory else None
        if identity is None:
            return self._resized(frames, frame)
        name = hashlib.sha256(repr((_VERSION, identity, self._size)).encode()).hexdigest()
        path = self._directory / name[:2] / name
        stored = _read_entry(path)
        if stored is not None:
            return stored
        image, pixel_map = self._resized(frames, frame)
        try:
            _write_entry(path, image, pixel_map)
        except UsageError as error:
            logger.warning("frames are no longer cached: %s", error)
            self._directory = None
        return image, pixel_map

    def _resized(self, frames: PosedFrames, frame: int) -> tuple[np.ndarray, np.ndarray]:
        image = frames.images[frame]
        width, height = frames.image_sizes[frame]
        if image.shape[:2] != (height, width):
            raise UsageError(
                f"{frames.scene}/{frames.names[frame]}: the picture is {image.shape[1]}x"
                f"{image.shape[0]}, its intrinsics are for {width}x{height}; replace it or them"
            )
        # Resizing maps K to A K; of the identity it gives A, which serves whatever K is.
        return resize_frame(image, np.eye(3), self._size)


def _identity(images: Sequence[np.ndarray], i: int) -> str | None:
    """What tells picture `i` from all others and from later versions of itself, if anything.

    Sequences other than those below may have a method `identity(i)` of that meaning.
    """
    if isinstance(images, Selection):
        return _identity(images.items, int(images.index[i]))
    if isinstance(images, Chain):
        return _identity(*images.find(i))
    if isinstance(images, UndistortedImages):
        source = _identity(images.images, i)
        return source and f"{source} {images.cameras[i]} {images.interpolation}"
    if isinstance(images, ImageFiles):
        path = pathlib.Path(images.paths[i]).resolve()
        try:
            status = path.stat()
        except OSError:
            return None  # reading it says what is wrong
        return f"{path} {status.st_size} {status.st_mtime_ns}"
    return images.identity(i) if hasattr(images, "identity") else None


def _read_entry(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray] | None:
    """The stored frame and pixel map; None if there is none or it is damaged."""
    try:
        content = read_bytes(path, limit=MEMORY_BYTES)
        version, checksum, height, width, sx, sy, tx, ty = _HEADER.unpack_from(content)
    except (UsageError, struct.error):
        return None
    pixels = memoryview(content)[_HEADER.size :]
    if version != _VERSION or len(pixels) != height * width * 3 or checksum != _checksum(content):
        return None
    image = np.frombuffer(pixels, np.uint8).reshape(height, width, 3)
    return image, np.array([[sx, 0, tx], [0, sy, ty], [0, 0, 1]])


def _write_entry(path: pathlib.Path, image: np.ndarray, pixel_map: np.ndarray) -> None:
    numbers = (*image.shape[:2], *pixel_map[(0, 1, 0, 1), (0, 1, 2, 2)])
    pixels = np.ascontiguousarray(image).tobytes()
    checksum = _checksum(_HEADER.pack(_VERSION, 0, *numbers) + pixels)
    with replacing(path, durable=False) as temporary:  # the checksum tells a part from the whole
        temporary.write_bytes(_HEADER.pack(_VERSION, checksum, *numbers) + pixels)


def _checksum(content: bytes) -> int:
    """CRC-32 of all but the version and the checksum itself."""
    return zlib.crc32(memoryview(content)[len(_VERSION) + 4 :])


def _writable(directory: pathlib.Path) -> pathlib.Path:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:  # ValueError: a name that no file system holds
        why = error.strerror if isinstance(error, OSError) else "it is no name of a folder"
        name = printable(str(directory))
        raise UsageError(
            f"{name}: no frame cache can be made there ({why}); choose another folder"
        ) from error
    if not os.access(directory, os.W_OK):
        raise UsageError(f"{directory}: the frame cache cannot be written; choose another folder")
    return directory.resolve()

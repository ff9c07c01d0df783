"""Writing files so that a reader sees the old content or the new; reading only regular files."""

import contextlib
import fcntl
import hashlib
import os
import pathlib
import stat
import tempfile
from collections.abc import Callable, Iterator
from typing import BinaryIO

from jaxreloc import interrupts
from jaxreloc.usage import UsageError

MAX_SETTINGS = 1 << 20  # bytes, of a job


@contextlib.contextmanager
def replacing(path: str | os.PathLike, *, durable: bool = True) -> Iterator[pathlib.Path]:
    """Yields a temporary path beside `path`; on success it takes `path`'s place by rename.

    Args:
      durable: waits until the content is on the disk. Without, a power cut may leave a part of it:
        for many small files that can be checked and made again.

    Raises:
      UsageError: the folder cannot be written, or the disk is full.
    """
    path = pathlib.Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be written ({error.strerror}); choose another folder"
        ) from error
    temporary = pathlib.Path(name)
    with interrupts.temporary(temporary):
        try:
            yield temporary
            if durable:
                with open(temporary, "rb") as written:
                    os.fsync(written.fileno())
            os.chmod(temporary, 0o666 & ~umask())
            os.replace(temporary, path)
        except OSError as error:
            raise UsageError(
                f"{path}: cannot be written ({error.strerror or error}); free space there, or "
                "choose another folder"
            ) from error


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes `text` as UTF-8, by rename."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
    """Writes `content`, by rename."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def lock_folder(folder: pathlib.Path, *, busy: str, remedy: str) -> int:
    """Makes a folder where it is absent, and locks it; whoever closes the handle lets it go.

    The lock goes with the process that holds it.

    Args:
      busy: what is said where another process holds the lock.
      remedy: what to do where the folder cannot be written.

    Raises:
      UsageError: either of these.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written ({error.strerror}); {remedy}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise UsageError(f"{folder}: {busy}") from error
    return handle


def check_same(path: pathlib.Path, settings: str, other: str) -> None:
    """Keeps the settings of a job that may be cut off, so that it goes on with the same ones.

    Raises:
      UsageError: `path` has other settings; `other` is its line.
    """
    if not path.exists():
        write_text(path, settings)
    elif read_bytes(path, limit=MAX_SETTINGS).decode("utf-8", "replace") != settings:
        raise UsageError(other)


def sha256(path: str | os.PathLike) -> str:
    """Of a file's content, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_fetchers: dict[str, Callable[[pathlib.Path], None]] = {}


def fetch_below(folder: pathlib.Path, fetch: Callable[[pathlib.Path], None]) -> None:
    """From now on a file below `folder` is fetched before it is opened: `fetch` puts it there."""
    _fetchers[os.path.join(folder, "")] = fetch


@contextlib.contextmanager
def open_regular(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A regular file, opened for reading: a pipe or a device of its name would be waited for.

    Raises:
      UsageError: it is absent, cannot be read, or is something else.
    """
    for folder, fetch in _fetchers.items():
        if os.fspath(path).startswith(folder):
            fetch(pathlib.Path(path))
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except ValueError as error:  # a null byte, or half a surrogate pair
        raise UsageError(f"{str(path)!r}: cannot be a file's name; check the path") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise UsageError(f"{path}: is not a file but a folder, a pipe or a device; remove it")
    with os.fdopen(handle, "rb") as file:
        yield file


def check_regular(path: str | os.PathLike) -> None:
    """Raises UsageError, as `open_regular`, for what a library is to open by its name."""
    with open_regular(path):
        pass


def read_bytes(path: str | os.PathLike, *, limit: int) -> bytes:
    """The content of a regular file.

    Raises:
      UsageError: as `open_regular`, or it has more than `limit` bytes.
    """
    with open_regular(path) as file:
        try:
            content = file.read(limit + 1)
        except OSError as error:
            raise UsageError(f"{path}: cannot be read ({error.strerror})") from error
    if len(content) > limit:
        raise UsageError(f"{path}: has more than {limit / 1e6:.0f} MB; check that it is the file")
    return content


def write_all(file: BinaryIO, content: bytes) -> None:
    """Writes all of it to a file without a buffer, whose own `write` may take a part."""
    view = memoryview(content)
    while view:
        view = view[file.write(view) :]


def printable(name: str) -> str:
    """A file's name with what is no UTF-8 in it as backslashes, so that it can be written."""
    data = name.encode("utf-8", "surrogateescape" if _is_escaped(name) else "backslashreplace")
    return data.decode("utf-8", "backslashreplace")


def _is_escaped(name: str) -> bool:
    """Whether every lone surrogate stands for a byte, as in names that the system gave."""
    return all(not 0xD800 <= ord(c) < 0xE000 or 0xDC80 <= ord(c) <= 0xDCFF for c in name)


def umask() -> int:
    """The process's file mode creation mask."""
    mask = os.umask(0)
    os.umask(mask)
    return mask

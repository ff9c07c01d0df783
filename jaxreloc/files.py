"""Writing files so that a reader sees the old content or the new, never a part."""

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Iterator

from jaxreloc.usage import UsageError


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
    try:
        yield temporary
        if durable:
            with open(temporary, "rb") as written:
                os.fsync(written.fileno())
        os.chmod(temporary, 0o666 & ~umask())
        os.replace(temporary, path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes `text` as UTF-8, by rename."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def umask() -> int:
    """The process's file mode creation mask."""
    mask = os.umask(0)
    os.umask(mask)
    return mask

"""A folder that appears whole or not at all."""

import contextlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

from jaxreloc import files
from jaxreloc.usage import UsageError


@contextlib.contextmanager
def new_folder(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a temporary folder that becomes `folder` when the block succeeds.

    Raises:
      UsageError: it cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = pathlib.Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise UsageError(
            f"{folder}: cannot be written ({error.strerror}); choose another folder"
        ) from error
    try:
        yield temporary
        _sync(temporary)
        os.chmod(temporary, 0o777 & ~files.umask())
        os.rename(temporary, folder)
        _sync_entries(folder.parent)
    except OSError as error:
        raise UsageError(
            f"{folder}: cannot be written ({error.strerror or error}); free space, or choose "
            "another folder"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _sync(folder: pathlib.Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
    for path in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        _sync_entries(path)


def _sync_entries(folder: pathlib.Path) -> None:
    """Makes the folder's list of names durable; a rename is kept there."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

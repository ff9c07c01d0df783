"""A folder that appears whole or not at all."""

import contextlib
import fcntl
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

from jaxreloc import files, interrupts
from jaxreloc.usage import UsageError

# In a folder that is being written; whoever writes it holds a lock on it while alive.
OWNER = ".jaxreloc-unfinished"


@contextlib.contextmanager
def new_folder(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a temporary folder that becomes `folder` when the block succeeds.

    What a killed process has left of such folders beside it is removed first.

    Raises:
      UsageError: it cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder.parent)
        temporary = pathlib.Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise UsageError(
            f"{folder}: cannot be written ({error.strerror}); choose another folder"
        ) from error
    with interrupts.temporary(temporary):
        try:
            with _owned(temporary):
                yield temporary
                _sync(temporary)
                os.chmod(temporary, 0o777 & ~files.umask())
                (temporary / OWNER).unlink()
                os.rename(temporary, folder)
            _sync_entries(folder.parent)
        except OSError as error:
            raise UsageError(
                f"{folder}: cannot be written ({error.strerror or error}); free space, or choose "
                "another folder"
            ) from error


@contextlib.contextmanager
def _owned(temporary: pathlib.Path) -> Iterator[None]:
    """Marks the folder as this process's, as long as it lives."""
    with tempfile.NamedTemporaryFile(dir=temporary, delete=False) as mark:
        fcntl.flock(mark, fcntl.LOCK_EX)
        os.rename(mark.name, temporary / OWNER)  # never seen without its lock
        yield


def _remove_leftovers(parent: pathlib.Path) -> None:
    for mark in parent.glob(f".*/{OWNER}"):
        with contextlib.suppress(OSError), open(mark, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(mark.parent, ignore_errors=True)


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

"""A folder that appears whole or not at all."""

import contextlib
import errno
import fcntl
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

from jaxreloc import files, interrupts
from jaxreloc.usage import UsageError

MARK = ".unfinished-"  # in the name of a folder that is being written
OWNER = ".owner"  # in such a folder: whoever writes it holds a lock on it while alive


@contextlib.contextmanager
def new_folder(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a temporary folder that becomes `folder` when the block succeeds.

    What a killed process has left of such folders beside it is removed first.

    Raises:
      UsageError: it cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with _locked(folder.parent):
                _remove_leftovers(folder.parent)
                temporary = pathlib.Path(
                    tempfile.mkdtemp(prefix=f".{folder.name}{MARK}", dir=folder.parent)
                )
                stack.enter_context(interrupts.temporary(temporary))
                owner = stack.enter_context(open(temporary / OWNER, "wb"))
                fcntl.flock(owner, fcntl.LOCK_EX)
        except OSError as error:
            raise UsageError(
                f"{folder}: cannot be written ({error.strerror}); choose another folder"
            ) from error
        try:
            yield temporary
            _sync(temporary)
            os.chmod(temporary, 0o777 & ~files.umask())
            with _locked(folder.parent):
                (temporary / OWNER).unlink()
                os.rename(temporary, folder)
            _sync_entries(folder.parent)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise UsageError(
                    f"{folder}: exists; choose another folder (another program has just made it)"
                ) from error
            raise UsageError(
                f"{folder}: cannot be written ({error.strerror or error}); free space, or choose "
                "another folder"
            ) from error


@contextlib.contextmanager
def _locked(parent: pathlib.Path) -> Iterator[None]:
    """While an unfinished folder is without its owner's mark, nobody else looks for leftovers."""
    handle = os.open(parent, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _remove_leftovers(parent: pathlib.Path) -> None:
    for folder in parent.glob(f".*{MARK}*"):
        with contextlib.ExitStack() as stack:
            try:
                owner = stack.enter_context(open(folder / OWNER, "rb"))
                fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except FileNotFoundError:
                pass  # killed before or after it was marked
            except OSError:
                continue  # it is alive
            shutil.rmtree(folder, ignore_errors=True)


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

"""Processes that are killed at their work, or do it where they may not write much or at all."""

import contextlib
import dataclasses
import multiprocessing.connection
import os
import pathlib
import resource
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from jaxreloc.usage import UsageError
from tests.faults.worker import HANG, TRACEBACK, Outcome, context

LIMIT_S = 60.0
NOBODY = 65534


def _working(work: Callable, folder: pathlib.Path, pipe) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    pipe.send("ready")
    try:
        work(folder)
        pipe.send("done")
    except UsageError as error:
        pipe.send(str(error))
    except BaseException as error:
        pipe.send(error.__class__)


class Working:
    """A process that does `work(folder)`."""

    def __init__(self, work: Callable, folder: pathlib.Path):
        self.pipe, theirs = context().Pipe()
        self.process = context().Process(target=_working, args=(work, folder, theirs), daemon=True)
        self.process.start()
        theirs.close()
        assert self.pipe.poll(LIMIT_S) and self.pipe.recv() == "ready"

    def kill(self, seconds: float) -> None:
        time.sleep(seconds)
        self.process.kill()
        self.process.join()

    def answer(self) -> object:
        """What the process said at its end: a text, or the class of what it raised."""
        if not self.pipe.poll(LIMIT_S):
            self.kill(0)
            return TimeoutError
        said = self.pipe.recv()
        self.process.join()
        return said


def killed(
    work: Callable, folder: pathlib.Path, rng: np.random.Generator, within: float = 1.0
) -> None:
    """Kills the process at a random moment of its first seconds."""
    Working(work, folder).kill(rng.uniform(0, within))


def first_to_end(both: Sequence[Working]) -> object:
    """What the first of two processes says that ends by itself; the others are killed."""
    multiprocessing.connection.wait([one.pipe for one in both], LIMIT_S)
    ended = [one for one in both if one.pipe.poll(0)]
    said = [one.answer() for one in ended]
    for one in both:
        one.kill(0)
    return said[0] if said else TimeoutError


@dataclasses.dataclass(frozen=True)
class Full:
    """Work on a disk with room for few bytes: here, a limit on the size of each file."""

    work: Callable
    limit: int

    def __call__(self, folder: pathlib.Path) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.limit, self.limit))
        self.work(folder)


def refused(said: object) -> Outcome | None:
    """The outcome if the process did not refuse in a line."""
    if said is TimeoutError:
        return Outcome(HANG)
    if not isinstance(said, str) or said == "done":
        return Outcome(TRACEBACK, str(said))
    return None


@dataclasses.dataclass(frozen=True)
class Unprivileged:
    """Work of a user who may not write: root's permissions are laid down."""

    work: Callable

    def __call__(self, folder: pathlib.Path) -> None:
        if os.geteuid() == 0:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        self.work(folder)


@contextlib.contextmanager
def small_disk(folder: pathlib.Path, size: int) -> Iterator[None]:
    """A file system of `size` bytes at the folder, while the block runs.

    Raises:
      OSError: this user may mount none.
    """
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        raise OSError("no file system can be mounted")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def can_mount() -> bool:
    """Whether `small_disk` works."""
    try:
        with tempfile.TemporaryDirectory() as folder, small_disk(pathlib.Path(folder), 1 << 16):
            return True
    except OSError:
        return False

"""Reads broken files in a process of its own, under a limit of time and of memory."""

import contextlib
import dataclasses
import functools
import multiprocessing
import multiprocessing.context
import os
import pathlib
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings

import numpy as np

from jaxreloc.usage import UsageError
from tests.faults.targets import TARGETS

LIMIT_S = 5.0
MOST_S = 120.0
LIMIT_BYTES = 2 << 30

CLEAN, SAME, OTHER = "clean error", "read as before", "read otherwise"
TRACEBACK, HANG, MEMORY, WRONG = "traceback", "hang", "over memory", "silently wrong"
FAULTS = (TRACEBACK, HANG, MEMORY, WRONG)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a case."""

    kind: str
    detail: str = ""


class Worker:
    """A process for one target; it is replaced when it hangs or dies."""

    def __init__(self, target: str, seed: int):
        self.target = TARGETS[target]
        self._folder = tempfile.TemporaryDirectory()
        self._arguments = (target, seed, self._folder.name)
        self._process = None
        self.files: dict[str, bytes] = {}
        self._start()

    def run(self, name: str, broken: bytes | str) -> Outcome:
        """The outcome with file `name` broken: its content, or one of `mutations.ACTIONS`."""
        self._pipe.send((name, broken))
        if not self._answers():
            self._restart()
            return Outcome(HANG, f"no answer within {LIMIT_S:g} s")
        try:
            return self._pipe.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            status = self._process.exitcode
            self._restart()
            return Outcome(TRACEBACK, f"the process died with status {status}")

    def _answers(self) -> bool:
        """Within LIMIT_S; a process that other programs keep from running is given more."""
        begin, end = self._cpu_s()[0], time.monotonic() + MOST_S
        if self._pipe.poll(LIMIT_S):
            return True
        while time.monotonic() < end:
            used, runs = self._cpu_s()
            if used - begin > LIMIT_S or not runs:
                break
            if self._pipe.poll(1.0):
                return True
        return self._pipe.poll(0)

    def _cpu_s(self) -> tuple[float, bool]:
        """The time that the process has computed for, and whether a thread of it wants to go on."""
        seconds, runs = 0.0, False
        for task in pathlib.Path(f"/proc/{self._process.pid}/task").glob("*/stat"):
            with contextlib.suppress(OSError):
                fields = task.read_text().rpartition(")")[2].split()
                seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
                runs = runs or fields[0] in "RD"
        return seconds, runs

    def close(self) -> None:
        self._kill()
        self._folder.cleanup()

    def _kill(self) -> None:
        self._process.kill()
        self._process.join()

    def _start(self) -> None:
        self._pipe, theirs = context().Pipe()
        arguments = (theirs, *self._arguments)
        self._process = context().Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        theirs.close()
        if not self._pipe.poll(self.target.start_s):
            raise TimeoutError("a worker does not start")
        self.files = self._pipe.recv()

    def _restart(self) -> None:
        self._kill()
        self._start()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *error) -> None:
        self.close()


@functools.cache
def context() -> multiprocessing.context.BaseContext:
    """Processes are forked from one that has imported everything, and started no thread."""
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(["tests.faults.scenarios"])
    return made


def _serve(pipe, target_name: str, seed: int, parent: str) -> None:
    target = TARGETS[target_name]
    sys.stderr = open(os.devnull, "w")
    os.dup2(sys.stderr.fileno(), 2)  # of native decoders, too
    os.chdir(parent)
    valid, folder = pathlib.Path(parent, "valid"), pathlib.Path(parent, "work")
    if not valid.exists():  # else this takes the place of a process that hung or died
        target.make(_made(valid), np.random.default_rng(seed))
    names = sorted(
        {
            path.relative_to(valid).as_posix()
            for pattern in target.files
            for path in valid.glob(pattern)
            if path.is_file() and path.name != "lock"
        }
    )
    _put(valid, folder)
    expected = target.read(folder)
    warnings.simplefilter("error", RuntimeWarning)
    warnings.simplefilter("error", UserWarning)
    _limit_memory()
    pipe.send({name: (valid / name).read_bytes() for name in names})
    while True:
        name, broken = pipe.recv()
        _put(valid, folder)
        _break(folder / name, broken)
        with contextlib.suppress(Exception):
            target.finish(folder)
        pipe.send(_outcome(target, folder, expected))


def _made(folder: pathlib.Path) -> pathlib.Path:
    folder.mkdir()
    return folder


def _put(valid: pathlib.Path, folder: pathlib.Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(valid, folder)


def _outcome(target, folder: pathlib.Path, expected: object) -> Outcome:
    try:
        is_same = target.is_same(target.read(folder), expected)
    except UsageError as error:
        message = str(error)
        if "/" not in message:
            return Outcome(TRACEBACK, f"an error that names no file: {message}")
        return Outcome(CLEAN, message[:300])
    except MemoryError:
        return Outcome(MEMORY, _shortened(traceback.format_exc()))
    except BaseException:
        return Outcome(TRACEBACK, _shortened(traceback.format_exc()))
    if is_same:
        return Outcome(SAME)
    return Outcome(WRONG if target.checked else OTHER)


def _shortened(text: str) -> str:
    """A traceback whose last line may be of any length."""
    return "\n".join(line[:500] for line in text.splitlines())[-3000:]


def _break(path: pathlib.Path, broken: bytes | str) -> None:
    path.unlink()
    if isinstance(broken, bytes):
        path.write_bytes(broken)
    elif broken == "empty":
        path.touch()
    elif broken == "folder":
        path.mkdir()
    elif broken == "pipe":
        os.mkfifo(path)
    elif broken == "link to itself":
        path.symlink_to(path)
    elif broken == "link to /dev/zero":
        path.symlink_to("/dev/zero")


def _limit_memory() -> None:
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + LIMIT_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

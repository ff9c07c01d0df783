"""Ctrl-C at any moment: one line on stderr, exit status 130, and nothing half-written.

Nothing is raised: an exception in the middle of an import or of a native callback is swallowed
there, made into another error, or ends in a crash. The process ends where it is, after the
temporary files are removed; all others are whole, since files and folders appear by rename. Python
runs a handler only between its own instructions, so that a thread watches, too, for what comes in
native code.
"""

import contextlib
import os
import pathlib
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

EXIT_STATUS = 130  # the one that shells give to Ctrl-C
GRACE_S = 0.3  # for the handler, before the thread ends the process

_temporaries: set[pathlib.Path] = set()
_ending = threading.Lock()


class _State:
    """Of this process."""

    installed = False
    received = 0  # by the thread
    handled = 0
    request: "Request | None" = None  # answers the next interrupt
    message: Callable[[], str] = str


def install() -> None:
    """Ends the process in one line from here on; the first thing that a program does."""
    if _State.installed or threading.current_thread() is not threading.main_thread():
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.signal(signal.SIGINT, _interrupt)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader,), name="interrupts", daemon=True).start()
    _State.installed = True


class Request:
    """A context in which the first interrupt is noted, however late, and a second one ends all."""

    def __init__(self):
        self.came = False

    def __enter__(self) -> "Request":
        _State.request = self
        return self

    def __exit__(self, *error) -> None:
        _State.request = None

    def note(self) -> None:
        """Called by the handler of the interrupt."""
        self.came = True
        _State.request = None
        answered()


def answered() -> None:
    """Says that an interrupt is answered, and the program goes on; for handlers of others."""
    _State.handled += 1


@contextlib.contextmanager
def saying(message: Callable[[], str]) -> Iterator[None]:
    """Adds to the line what `message` returns, for an interrupt of the block."""
    _State.message = message
    try:
        yield
    finally:
        _State.message = str


@contextlib.contextmanager
def temporary(path: pathlib.Path) -> Iterator[None]:
    """Removes a temporary file or folder at the end of the block, however that comes."""
    _temporaries.add(path)
    try:
        yield
    finally:
        _remove(path)
        _temporaries.discard(path)


def end(message: str = "") -> None:
    """Says so in one line, and ends the process with EXIT_STATUS."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    _ending.acquire()  # and never released: one line, of whichever thread comes first
    for path in list(_temporaries):
        _remove(path)
    line = "interrupted" + (f": {' '.join(message.split())}" if message else "") + "\n"
    with contextlib.suppress(OSError):
        os.write(2, line.encode("utf-8", "backslashreplace"))
    os._exit(EXIT_STATUS)


def leave() -> None:
    """Ignores interrupts, since all is done; the last thing that a program does."""
    if _State.installed:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    if _State.request is None:
        end(_State.message())
    _State.request.note()


def _watch(reader: int) -> None:
    while numbers := os.read(reader, 64):
        _State.received += numbers.count(signal.SIGINT)
        deadline = time.monotonic() + GRACE_S
        while _State.received > _State.handled:
            ours = signal.getsignal(signal.SIGINT) is _interrupt and _State.request is None
            if ours and time.monotonic() > deadline:
                end(_State.message())
            time.sleep(0.02)


def _remove(path: pathlib.Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)

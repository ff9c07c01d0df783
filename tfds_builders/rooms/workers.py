"""Rendering many rooms in parallel processes."""

import collections
import concurrent.futures
import contextlib
import contextvars
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection

import cv2

from tfds_builders.rooms.room_jobs import RoomJob, render_room_files

# Of the processes that are started: NumPy and the ray caster take one thread each, and where an
# interrupt ends this process at once, the one that cleans up after it does so without a word.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONWARNINGS": "ignore:resource_tracker:UserWarning",
}
# Opens what renders, and says how many rooms at a time.
Opening = Callable[[], AbstractContextManager[tuple[concurrent.futures.Executor, int]]]
_elsewhere: contextvars.ContextVar[Opening | None] = contextvars.ContextVar(
    "elsewhere", default=None
)


@contextlib.contextmanager
def rendered_by(opening: Opening) -> Iterator[None]:
    """Rooms that are rendered within are so by what this opens, such as `jaxreloc.scale.executor`.

    It is opened once there are rooms to render, and has to see the folders of the jobs.
    """
    token = _elsewhere.set(opening)
    try:
        yield
    finally:
        _elsewhere.reset(token)


def is_elsewhere() -> bool:
    """Whether this machine's processes are not those that render."""
    return _elsewhere.get() is not None


def render_in_parallel(
    jobs: list[RoomJob], workers: int | None = None
) -> Iterator[RoomJob]:
    """Renders the rooms and yields the jobs in order, as they are done.

    At most two rooms a worker, finished or not, are under way, so that a slow consumer does not
    fill the disk.

    Args:
      workers: how many processes; None means one a processor that this process may use, or as many
        as `rendered_by` has.

    Raises:
      RuntimeError: a worker's process ended.
      Exception: what rendering raised, with a note that names the room.
    """
    if (opening := _elsewhere.get()) is not None:
        with opening() as (executor, fitting):
            yield from _rendered(jobs, workers or fitting, executor)
        return
    workers = min(workers or _processors(), max(len(jobs), 1))
    context = multiprocessing.get_context("spawn")
    lifeline, parents_end = context.Pipe(duplex=False)
    with _environment(ENVIRONMENT):
        pool = concurrent.futures.ProcessPoolExecutor(workers, context, _start_worker, (lifeline,))
    try:
        yield from _rendered(jobs, workers, pool)
    finally:
        parents_end.close()  # which ends the workers, whatever they are at
        pool.shutdown(cancel_futures=True)
        lifeline.close()


def _rendered(
    jobs: list[RoomJob], workers: int, executor: concurrent.futures.Executor
) -> Iterator[RoomJob]:
    pending: collections.deque[tuple[RoomJob, concurrent.futures.Future]] = collections.deque()
    for job in jobs:
        with _environment(ENVIRONMENT), _without_main():  # of the processes that this may start
            pending.append((job, executor.submit(render_room_files, job)))
        if len(pending) >= 2 * workers:
            yield _finished(*pending.popleft())
    while pending:
        yield _finished(*pending.popleft())


def _finished(job: RoomJob, future: concurrent.futures.Future) -> RoomJob:
    try:
        future.result()
    except concurrent.futures.BrokenExecutor as error:
        raise RuntimeError(
            f"rendering {job.scene} failed: a worker's process ended"
        ) from error
    except Exception as error:
        error.add_note(f"while rendering {job.scene}")
        raise
    return job


@contextlib.contextmanager
def _environment(changes: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(changes)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Processes that are spawned within do not import the script that runs.

    They need nothing of it, and a script that builds rooms as it is imported, which most do that
    call `tfds.load`, would build them in every worker: each waits for the one that started it.
    """
    main = vars(sys.modules["__main__"])
    hidden = {name: main.pop(name) for name in ("__file__", "__spec__") if name in main}
    main["__spec__"] = None
    try:
        yield
    finally:
        del main["__spec__"]
        main.update(hidden)


def _processors() -> int:
    """Those that this process may use, where the system tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _start_worker(lifeline: Connection) -> None:
    """Makes a worker end with its parent's end of the pipe, and leave the cores to the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent, interrupted too, ends it
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, args=(lifeline,), daemon=True).start()


def _end_with_parent(lifeline: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        lifeline.recv()
    os._exit(1)

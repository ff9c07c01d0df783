"""Rendering many rooms in parallel processes.

Each worker is a Python process that runs the module `worker`, so that a caller's script needs no
`if __name__ == "__main__"` and is not imported again.
"""

import collections
import concurrent.futures
import contextlib
import os
import pathlib
import queue
import subprocess
import sys
from collections.abc import Iterator

from tfds_builders.synthetic_rooms.room_jobs import DONE, RoomJob

PROJECT = pathlib.Path(__file__).resolve().parents[2]
WORKER = "tfds_builders.synthetic_rooms.worker"


def render_in_parallel(jobs: list[RoomJob], workers: int | None = None) -> Iterator[RoomJob]:
    """Renders the rooms and yields the jobs in order, as they are done.

    At most two rooms a worker, finished or not, are under way, so that a slow consumer does not
    fill the disk.

    Args:
      workers: how many processes; None means one a processor that this process may use.
    """
    workers = workers or _processors()
    idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
    processes = [_Worker() for _ in range(min(workers, len(jobs)))]
    for process in processes:
        idle.put(process)

    def run(job: RoomJob) -> RoomJob:
        process = idle.get()
        try:
            process.run(job)
        finally:
            idle.put(process)
        return job

    pending: collections.deque[concurrent.futures.Future] = collections.deque()
    pool = concurrent.futures.ThreadPoolExecutor(max(len(processes), 1))
    try:
        for job in jobs:
            pending.append(pool.submit(run, job))
            if len(pending) >= 2 * len(processes):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for process in processes:
            process.stop()
        pool.shutdown(cancel_futures=True)


def _processors() -> int:
    """Those that this process may use, where the system tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Worker:
    """A child process that renders one room at a time."""

    def __init__(self):
        paths = [str(PROJECT), os.environ.get("PYTHONPATH")]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,  # an interrupt is for the parent, which then stops its workers
        )

    def run(self, job: RoomJob) -> None:
        try:
            print(job.to_json(), file=self._process.stdin, flush=True)
            answer = self._process.stdout.readline()
        except (BrokenPipeError, ValueError):
            answer = ""
        if answer.strip() != DONE:
            raise RuntimeError(f"rendering {job.split}-{job.index:03d} failed; see its error above")

    def stop(self) -> None:
        self._process.kill()
        with contextlib.suppress(BrokenPipeError), self._process:  # closes its pipes
            self._process.wait()

"""Rendering many rooms in parallel processes.

Each worker is a Python process of its own that runs this module, so that a caller's script needs
no `if __name__ == "__main__"` and is not imported again. It reads jobs as lines of JSON and answers
each with a line when the room's files are written.
"""

import collections
import concurrent.futures
import dataclasses
import json
import os
import pathlib
import queue
import subprocess
import sys
from collections.abc import Iterator

from tfds_builders.synthetic_rooms.settings import RoomSettings

PROJECT = pathlib.Path(__file__).resolve().parents[2]
DONE = "done"
ROLES = ("database", "query")


@dataclasses.dataclass(frozen=True)
class RoomJob:
    """One room to be rendered into `folder`."""

    settings: RoomSettings
    split: str
    index: int
    folder: pathlib.Path

    @property
    def files(self) -> dict[str, pathlib.Path]:
        """Where the frames of each role are written."""
        return {
            role: self.folder / f"{self.split}-{self.index:03d}-{role}.npz" for role in ROLES
        }


def render_room_files(job: RoomJob) -> None:
    """Renders one room and writes its files."""
    # Imported by the workers only; the parent needs neither.
    from tfds_builders.synthetic_rooms.generation import render_room
    from tfds_builders.synthetic_rooms.room_files import write_frames

    room = render_room(job.settings, job.split, job.index)
    for role, path in job.files.items():
        write_frames(path, getattr(room, role), job.settings.image_format)


def render_in_parallel(jobs: list[RoomJob], workers: int | None = None) -> Iterator[RoomJob]:
    """Renders the rooms and yields the jobs in order, as they are done.

    At most two finished or unfinished rooms a worker are under way, so that a slow consumer does not
    fill the disk.

    Args:
      workers: how many processes; None means one a processor that this process may use.
    """
    workers = workers or len(os.sched_getaffinity(0))
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
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def run(self, job: RoomJob) -> None:
        message = dataclasses.asdict(job) | {"folder": str(job.folder)}
        try:
            print(json.dumps(message), file=self._process.stdin, flush=True)
            answer = self._process.stdout.readline()
        except (BrokenPipeError, ValueError):
            answer = ""
        if answer.strip() != DONE:
            raise RuntimeError(f"rendering {job.split}-{job.index:03d} failed; see its error above")

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


def _serve() -> None:
    import cv2

    cv2.setNumThreads(1)
    for line in sys.stdin:
        message = json.loads(line)
        message["settings"] = RoomSettings.from_json(message["settings"])
        message["folder"] = pathlib.Path(message["folder"])
        render_room_files(RoomJob(**message))
        print(DONE, flush=True)


if __name__ == "__main__":
    _serve()

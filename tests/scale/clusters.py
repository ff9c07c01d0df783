"""A cluster of two nodes on this machine, one of which can be killed, and jobs that run on it."""

import atexit
import contextlib
import functools
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import psutil

from tests.scripts import ROOT

STORE_BYTES = 200 << 20
WAIT_S = 500.0
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_memory_monitor_refresh_ms": "0",  # other programs use this machine's memory, too
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(ROOT),
}


@functools.cache
def short_folder() -> str:
    """Of Ray's sockets, whose paths have 107 bytes at most."""
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def environment() -> dict[str, str]:
    return ENVIRONMENT | {"RAY_TMPDIR": short_folder(), "TMPDIR": short_folder()}


class TwoNodes:
    """The head and another node, with a core each."""

    def __init__(self):
        from ray.cluster_utils import Cluster

        os.environ.update(ENVIRONMENT | {"RAY_TMPDIR": short_folder()})
        node = {"num_cpus": 1, "object_store_memory": STORE_BYTES}
        self._cluster = Cluster(initialize_head=True, head_node_args=node | {"num_cpus": 2})
        self._other = self._cluster.add_node(**node)

    @property
    def address(self) -> str:
        return self._cluster.address

    def kill_other(self) -> list[int]:
        """SIGKILL for the other node and all its workers, at once; returns their numbers."""
        (raylet,) = self._other.all_processes["raylet"]
        root = psutil.Process(raylet.process.pid)
        killed = [*root.children(recursive=True), root]
        for process in killed:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        return [process.pid for process in killed]

    @contextlib.contextmanager
    def third(self, folder: pathlib.Path, customization: str) -> Iterator[None]:
        """One more node, whose Python runs these lines when it starts."""
        (folder / "sitecustomize.py").write_text(customization)
        path = os.pathsep.join([str(folder), ENVIRONMENT["PYTHONPATH"]])
        node = self._cluster.add_node(
            num_cpus=1, object_store_memory=STORE_BYTES, env_vars={"PYTHONPATH": path}
        )
        try:
            yield
        finally:
            self._cluster.remove_node(node)

    def shutdown(self) -> None:
        self._cluster.shutdown()


@contextlib.contextmanager
def two_nodes() -> Iterator[TwoNodes]:
    nodes = TwoNodes()
    try:
        yield nodes
    finally:
        nodes.shutdown()


@contextlib.contextmanager
def job(*arguments: object) -> Iterator[subprocess.Popen]:
    """Python with these arguments; killed if it is still there at the end."""
    process = subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def ended(process: subprocess.Popen) -> tuple[int, str]:
    """Its status, and what it wrote to stderr."""
    _, err = process.communicate(timeout=WAIT_S)
    return process.returncode, "\n".join(x for x in err.splitlines() if x.strip())


def wait_until(what: Callable[[], bool], process: subprocess.Popen | None = None) -> None:
    end = time.monotonic() + WAIT_S
    while not what():
        assert time.monotonic() < end, "nothing happened"
        if process is not None and process.poll() is not None:
            raise AssertionError(process.communicate()[1])
        time.sleep(0.05)


def files_in(folder: pathlib.Path) -> list[str]:
    return sorted(x.relative_to(folder).as_posix() for x in folder.rglob("*") if x.is_file())

"""A cluster of Ray: joined or started here, and looked at before the work begins."""

import contextlib
import logging
import os
import pathlib
import socket
import sys
import warnings
from collections.abc import Iterator, Sequence

import jaxreloc
from jaxreloc.extras import extra
from jaxreloc.usage import UsageError, one_line

with extra("ray"):
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

ANSWER_S = 10.0  # for a first word from the address
PROBE_S = 300.0  # for each node to look at its package and the folders; a busy one starts slowly
# Unless the user says otherwise: no figures to Ray's makers, no bars and no inner log.
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}
START = "start one with `ray start --head`, or leave --address out"


@contextlib.contextmanager
def connected(
    address: str | None, *, shared: Sequence[str | os.PathLike] = (), num_cpus: int | None = None
) -> Iterator[int]:
    """Joins the cluster at `address`, or starts one on this machine; yields how many workers fit.

    There is a worker for each GPU, or else for each core. What a failure of Ray means is said in
    one line of UsageError, within the block too.

    Args:
      shared: paths that every node has to see, as a file system that all of them mount.
      num_cpus: of the cluster that is started; None: the machine's.

    Raises:
      UsageError: nobody answers, the versions of Ray or of this package differ, or a node has no
        package or sees a path not.
    """
    if ray.is_initialized():  # by a caller's `connected`
        yield num_workers()
        return
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if address is not None:
        _check_address(address)
    with worded(address):
        with warnings.catch_warnings(), _quiet_start(), _joining(address):
            # Of JAX, about processes that Ray starts and that then run a program of their own.
            warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
            ray.init(
                address=address or "local",
                num_cpus=None if address else num_cpus,
                include_dashboard=None if address else False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        try:
            _silence()
            check_nodes([os.path.abspath(path) for path in shared])
            yield num_workers()
        finally:
            with _quiet_start():
                ray.shutdown()


@contextlib.contextmanager
def _quiet_start() -> Iterator[None]:
    """Without the lines that Ray's own processes write to stderr; its exceptions are raised."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def num_workers() -> int:
    """As many as there are GPUs, or else cores."""
    resources = ray.cluster_resources()
    return max(1, int(resources.get("GPU", 0) or resources.get("CPU", 1)))


@contextlib.contextmanager
def worded(address: str | None = None) -> Iterator[None]:
    """Says in one line what an error of Ray means, and what to do.

    What a worker raised comes as an error of Ray and of its own class at once.
    """
    try:
        yield
    except ray.exceptions.RayError as error:
        raise UsageError(_meaning(error)) from error
    except RuntimeError as error:
        if "ersion mismatch" in str(error):
            raise UsageError(
                f"{address}: {one_line(error)}; install the same versions on all machines"
            ) from error
        raise


@contextlib.contextmanager
def _joining(address: str | None) -> Iterator[None]:
    try:
        yield
    except (ConnectionError, TimeoutError) as error:
        where = address or "this machine"
        raise UsageError(f"{where}: no cluster of Ray answers; {START}") from error


def _meaning(error: BaseException) -> str:
    text = one_line(str(error))
    if "No module named 'jaxreloc" in text:
        return f"a worker has no package jaxreloc; {_install()}"
    if isinstance(error, ray.exceptions.ObjectStoreFullError):
        return "Ray's object store is full; start the nodes with a larger --object-store-memory"
    if isinstance(error, ray.exceptions.OutOfDiskError) or "No space left on device" in text:
        return (
            "a node's disk is full; free space there, then give the same command again: what is "
            "done is kept"
        )
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return "a node's memory is full; give --workers fewer, or larger machines"
    unwilling = (ray.exceptions.TaskUnschedulableError, ray.exceptions.ActorUnschedulableError)
    if isinstance(error, unwilling):
        return (
            "a machine takes no work: it was lost, or its disk is nearly full (Ray stops at 95%); "
            "free space there, or take it out of the cluster, then give the same command again"
        )
    lost = (ray.exceptions.RayActorError, ray.exceptions.NodeDiedError)
    if isinstance(error, (*lost, ray.exceptions.RaySystemError)):
        return f"the cluster lost a worker and started no other ({text[:200]}); give it again"
    return f"a worker failed: {text[-400:]}"


def _install() -> str:
    return f"pip install 'jaxreloc[ray]=={jaxreloc.__version__}' on each machine"


def _check_address(address: str) -> None:
    """That something listens there: Ray itself would wait for minutes."""
    if address == "auto":
        return
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isdigit()) or "/" in address:
        raise UsageError(
            f"--address={address}: give HOST:PORT, or auto, and run the command on a machine of "
            "the cluster"
        )
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_S).close()
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"{address}: no cluster of Ray answers ({why}); {START}") from error


def _silence() -> None:
    for name in ("ray", "ray.data", "ray.serve"):
        logging.getLogger(name).setLevel(logging.ERROR)


def check_nodes(paths: Sequence[str]) -> None:
    """Raises UsageError unless every node has this package and sees the paths."""

    def look(version: str, paths: list[str]) -> str:
        # Defined here, it travels as it is: a node without the package runs it, too.
        try:
            import jaxreloc
        except ImportError as error:
            return f"has no package jaxreloc ({error})"
        if jaxreloc.__version__ != version:
            return f"has jaxreloc {jaxreloc.__version__}, not {version}"
        for path in paths:
            if not os.path.exists(path):
                return f"sees no {path}"
            if not os.access(path, os.R_OK):
                return f"may not read {path}"
        return ""

    probe = ray.remote(num_cpus=0, max_retries=3)(look)
    nodes = [node for node in ray.nodes() if node["Alive"]]
    asked = [
        probe.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(jaxreloc.__version__, list(paths))
        for node in nodes
    ]
    for node, answer in zip(nodes, asked, strict=True):
        try:
            problem = ray.get(answer, timeout=PROBE_S)
        except ray.exceptions.GetTimeoutError as error:
            raise UsageError(
                f"{node['NodeManagerAddress']}: does not answer within {PROBE_S:g} s; take it out "
                "of the cluster"
            ) from error
        if problem:
            is_path = problem.startswith(("sees", "may not read"))
            remedy = "put it where all machines mount it at this path" if is_path else _install()
            raise UsageError(f"{node['NodeManagerAddress']}: {problem}; {remedy}")


def limit_threads() -> None:
    """Of a worker: as many as the cores that Ray gave it; called before JAX is asked anything."""
    import cv2

    cores = str(max(1, int(ray.get_runtime_context().get_assigned_resources().get("CPU", 1))))
    os.environ.setdefault("OMP_NUM_THREADS", cores)
    os.environ["PJRT_NPROC"] = cores
    cv2.setNumThreads(1)


def as_path(path: str | os.PathLike) -> pathlib.Path:
    """Absolute, as workers with another working folder need it."""
    return pathlib.Path(os.path.abspath(pathlib.Path(path).expanduser()))

"""Ray behind the interface of `concurrent.futures`, for what runs in processes of one machine."""

import concurrent.futures
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from jaxreloc.extras import extra
from jaxreloc.scale.cluster import connected, worded

with extra("ray"):
    import ray

RETRIES = 3  # of what a lost worker or node was at


class RayExecutor(concurrent.futures.Executor):
    """Each call is a task of Ray with a core; the cluster is joined (`cluster.connected`)."""

    def submit(self, fn: Callable, /, *args: Any, **kwargs: Any) -> concurrent.futures.Future:
        """See `concurrent.futures`; a call may run twice where its node was lost."""
        return ray.remote(num_cpus=1, max_retries=RETRIES)(fn).remote(*args, **kwargs).future()


@contextlib.contextmanager
def ray_executor(
    address: str | None, workers: int | None
) -> Iterator[tuple[concurrent.futures.Executor, int]]:
    """Joins the cluster at `address`, or starts one here; yields how many calls it takes at a time.

    Raises:
      UsageError: as `cluster.connected`.
    """
    with connected(address) as fitting, RayExecutor() as executor, worded(address):
        yield executor, workers or fitting

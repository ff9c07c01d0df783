"""Ray behind the interface of `concurrent.futures`, for what runs in processes of one machine."""

import concurrent.futures
from collections.abc import Callable
from typing import Any

from jaxreloc.extras import extra

with extra("ray"):
    import ray

RETRIES = 3  # of what a lost worker or node was at


class RayExecutor(concurrent.futures.Executor):
    """Each call is a task of Ray with a core; the cluster is joined (`cluster.connected`).

      with connected(address), RayExecutor() as executor:
          builder.executor = executor
    """

    def submit(self, fn: Callable, /, *args: Any, **kwargs: Any) -> concurrent.futures.Future:
        """See `concurrent.futures`; a call may run twice where its node was lost."""
        return ray.remote(num_cpus=1, max_retries=RETRIES)(fn).remote(*args, **kwargs).future()

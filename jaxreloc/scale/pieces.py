"""Pieces of a job, done by workers of Ray Data; their results come in order."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from jaxreloc.extras import extra
from jaxreloc.scale.cluster import limit_threads, worded
from jaxreloc.usage import UsageError

with extra("ray"):
    import ray
    import ray.data

QUEUED = 2  # pieces that wait at a worker, so that it never waits for one


class Worker(Protocol):
    """Is made once in each worker's process, and may be made again elsewhere after a failure."""

    def __init__(self, *arguments: Any) -> None: ...

    def __call__(self, piece: Any) -> Any:
        """Does a piece, perhaps a second time; what it takes and gives is JSON.

        Raises:
          UsageError: ends the job with this line.
        """


def done(
    worker: type[Worker], arguments: Sequence[Any], pieces: Sequence[Any], workers: int
) -> Iterator[Any]:
    """What `worker(*arguments)` makes of each piece, in order.

    A piece whose worker or node dies is done by another one.

    Args:
      arguments: are held by this process, and handed to each worker.
      workers: at most; fewer where there are fewer pieces.

    Raises:
      UsageError: a worker raised it, or Ray failed.
    """
    if not pieces:
        return
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    resources = ray.cluster_resources()
    has_gpus = resources.get("GPU", 0) > 0
    workers = max(1, min(workers, len(pieces)))
    with worded():
        rows = [{"piece": json.dumps(piece)} for piece in pieces]
        answers = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            _Guarded,
            batch_size=None,
            num_cpus=0 if has_gpus else 1,
            num_gpus=1 if has_gpus else None,
            compute=ray.data.ActorPoolStrategy(
                min_size=workers, max_size=workers, max_tasks_in_flight_per_actor=QUEUED
            ),
            fn_constructor_args=(worker, [ray.put(tuple(arguments))]),
        )
        for row in answers.iter_rows():
            if row["problem"]:
                raise UsageError(row["problem"])
            yield json.loads(row["result"])


class _Guarded:
    """Makes the worker, and turns its mistakes into rows: Ray would do the piece again."""

    def __init__(self, worker: type[Worker], arguments: list[Any]):
        from jaxreloc.compilation.compilation_cache import use_compilation_cache

        limit_threads()
        use_compilation_cache()
        self._problem = ""
        try:
            self._worker = worker(*ray.get(arguments[0]))
        except (UsageError, OSError) as error:
            self._problem = _said(error)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        results, problem = [], self._problem
        for piece in batch["piece"]:
            result = None
            if not problem:
                try:
                    result = self._worker(json.loads(str(piece)))
                except (UsageError, OSError) as error:
                    problem = _said(error)
            results.append((json.dumps(result), problem))
        return {"result": [x for x, _ in results], "problem": [x for _, x in results]}


def _said(error: Exception) -> str:
    if isinstance(error, UsageError):
        return str(error)
    where = f"{error.filename}: " if getattr(error, "filename", None) else ""
    return f"{where}{getattr(error, 'strerror', None) or error}"

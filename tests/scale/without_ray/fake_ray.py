"""As much of Ray as the pieces of a job ask for, in this process, without the library."""

import contextlib
import importlib
import json
import sys
import types
from collections.abc import Iterator

import numpy as np

PACKAGE = "jaxreloc.scale"


class FakeRay(types.ModuleType):
    """Holds objects, and does pieces by workers in turn.

    Attributes:
      resources: of the cluster.
      asked: the options of each job.
      workers: that were made.
    """

    def __init__(self):
        super().__init__("ray")
        self.resources = {"CPU": 2.0}
        self.asked, self.workers, self._held = [], [], {}
        self.data = types.ModuleType("ray.data")
        context = types.SimpleNamespace(execution_options=types.SimpleNamespace())
        self.data.DataContext = types.SimpleNamespace(get_current=lambda: context)
        self.data.ActorPoolStrategy = types.SimpleNamespace
        self.data.from_items = lambda rows, override_num_blocks: _Rows(self, rows)
        self.exceptions = types.ModuleType("ray.exceptions")
        self.exceptions.RayError = type("RayError", (Exception,), {})
        self.util = types.ModuleType("ray.util")
        self.util.scheduling_strategies = types.ModuleType("ray.util.scheduling_strategies")
        self.util.scheduling_strategies.NodeAffinitySchedulingStrategy = None

    def cluster_resources(self):
        return self.resources

    def put(self, value):
        self._held[len(self._held)] = value
        return len(self._held) - 1

    def get(self, reference):
        return self._held[reference]


class _Rows:
    def __init__(self, ray, rows):
        self._ray, self._rows = ray, rows

    def map_batches(self, worker, *, fn_constructor_args, compute, **options):
        self._ray.asked.append(options | vars(compute))
        self._make = lambda: worker(*fn_constructor_args)
        self._count = compute.max_size
        return self

    def iter_rows(self):
        workers = [self._make() for _ in range(self._count)]
        self._ray.workers += workers
        for k, row in enumerate(self._rows):
            assert json.loads(row["piece"]) is not None
            found = workers[k % len(workers)]({"piece": np.array([row["piece"]])})
            assert all(len(column) == 1 for column in found.values())
            yield {name: column[0] for name, column in found.items()}


@contextlib.contextmanager
def imported_with_fake(monkeypatch, name) -> Iterator[tuple[FakeRay, types.ModuleType]]:
    """The fake, and a module of PACKAGE as it is imported with it; for the time of the block."""
    ray = FakeRay()
    with monkeypatch.context() as patch:
        for known in list(sys.modules):
            if known.split(".")[0] == "ray" or _is_of_package(known):
                patch.delitem(sys.modules, known)
        for module in (ray, ray.data, ray.exceptions, ray.util, ray.util.scheduling_strategies):
            patch.setitem(sys.modules, module.__name__, module)
        patch.setattr(importlib.import_module(f"{PACKAGE}.pieces"), "limit_threads", lambda: None)
        patch.setattr("jaxreloc.compilation.compilation_cache.use_compilation_cache", lambda: None)
        try:
            yield ray, importlib.import_module(f"{PACKAGE}.{name}")
        finally:
            for known in filter(_is_of_package, list(sys.modules)):
                del sys.modules[known]


def _is_of_package(name: str) -> bool:
    return name == PACKAGE or name.startswith(f"{PACKAGE}.")

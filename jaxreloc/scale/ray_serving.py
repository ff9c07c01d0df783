"""`jaxreloc serve --engine=ray`: the server's application in replicas of Ray Serve.

Each replica is the application that one process serves, with maps of its own in memory. Requests
that name their map in the header `client.MODEL_HEADER` go to a replica that has it open. With
shards, what replicas know of the images is in further deployments, which hold a part of each map.
"""

import dataclasses
import logging
import pathlib
import signal
import threading
import time
from collections.abc import Callable, Hashable
from typing import Any

from jaxreloc.compilation.compilation_cache import use_compilation_cache
from jaxreloc.extras import extra
from jaxreloc.localization.localizer import Localizer
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.scale.cluster import connected, limit_threads, worded
from jaxreloc.scale.sharded_map import OpenShards, check_index, shard_starts, sharded
from jaxreloc.serving.answering.map_shelf import MapShelf
from jaxreloc.serving.application import make_application
from jaxreloc.serving.request_limits import Limits
from jaxreloc.usage import UsageError

with extra("ray"):
    import ray
    from ray import serve
    from ray.serve.config import HTTPOptions

logger = logging.getLogger("jaxreloc.serving")
APPLICATION = "jaxreloc"
MAPS_EACH = 16  # that a replica is known to have open; its memory's bound is `memory_bytes`
QUEUE = 4.0  # requests at a replica, on average, beyond which there are to be more replicas
SHARD_CPUS = 0.1  # of a core: a shard mostly reads
PAUSE_S = 0.5  # before a shard that was lost is asked again


@dataclasses.dataclass(frozen=True)
class Served:
    """What the replicas are told.

    Attributes:
      open_localizer: of the map in a folder, or of one that is given as a `SceneMap`.
      replicas: at most; there is one while little is asked. None: one a GPU, or else a core.
      shards: of each map; 0: a replica has all of it.
    """

    maps: pathlib.Path
    open_localizer: Callable[[pathlib.Path | SceneMap], Localizer]
    prepare_search: Callable[[Localizer], bool] | None
    memory_bytes: int
    limits: Limits
    write_token: str | None
    cors_origins: tuple[str, ...]
    replicas: int | None
    shards: int = 0
    min_replicas: int = 1


def serve_on_ray(
    served: Served, *, host: str, port: int, address: str | None, num_cpus: int | None = None
) -> None:
    """Serves until SIGTERM or Ctrl-C, which let requests end.

    Raises:
      UsageError: there is no map, it has fewer segments than shards, the address cannot be
        listened at, or as `cluster.connected`.
    """
    names = MapShelf(served.maps, served.open_localizer, max_bytes=1).names()
    for folder in [served.maps, *(served.maps / name for name in names)]:
        if served.shards and SceneMap.generation(folder) is not None:
            shard_starts(folder, served.shards)
            check_index(folder, served.shards)
    ended = threading.Event()
    with connected(address, shared=[served.maps], num_cpus=num_cpus) as fitting:
        served = dataclasses.replace(served, replicas=served.replicas or fitting)
        if serve.status().proxies:
            raise UsageError(
                f"{address}: runs Ray Serve already; end that with `serve shutdown`, or take "
                "another cluster"
            )
        try:
            # A start waits for all replicas, which a cluster that lost a machine may never have.
            _on_signals(_interrupt)
            start(served, host=host, port=port)
            _on_signals(lambda *_: ended.set())
            logger.info("serving %d map(s) at http://%s:%d", len(names), host, port)
            while not ended.wait(1.0):
                pass
        except KeyboardInterrupt:
            logger.info("ended before all replicas had started")
        finally:
            serve.shutdown()
    logger.info("ended")


def _on_signals(handler: Callable[..., None]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):  # Ray has put its own in their place
        signal.signal(number, handler)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def start(served: Served, *, host: str, port: int) -> None:
    """Starts the deployments on the cluster that this process has joined."""
    with worded():
        try:
            serve.start(http_options=HTTPOptions(host=host, port=port), logging_config=_logging())
            serve.run(
                application(served), name=APPLICATION, blocking=False, logging_config=_logging()
            )
        except (RuntimeError, OSError) as error:
            raise UsageError(
                f"{host}:{port}: Ray Serve does not start ({str(error)[:300]}); choose another "
                "--port, or look at the cluster's log"
            ) from error


def _logging() -> dict[str, str]:
    return {"log_level": "ERROR"}


def application(served: Served) -> "serve.Application":
    """The deployments: shards, if any, and the replicas of the server's application."""

    def build():  # in the replica
        return Replica(served).application

    deployment = serve.deployment(
        serve.ingress(build)(),
        name="maps",
        ray_actor_options={"num_cpus": 1},
        max_ongoing_requests=served.limits.max_waiting + 16,
        autoscaling_config={
            "min_replicas": served.min_replicas,
            "initial_replicas": served.min_replicas,
            "max_replicas": max(served.min_replicas, served.replicas),
            "target_ongoing_requests": QUEUE,
        },
        health_check_timeout_s=60,
        graceful_shutdown_timeout_s=served.limits.answer_s,
    )
    shards = [
        serve.deployment(
            ShardReplica,
            name=_shard_name(number),
            ray_actor_options={"num_cpus": SHARD_CPUS},
            max_ongoing_requests=64,
            health_check_timeout_s=60,
        ).bind(number, served.shards)
        for number in range(served.shards)
    ]
    return deployment.bind(*shards)


class Replica:
    """The application, with what it has in memory."""

    def __init__(self, served: Served):
        limit_threads()
        use_compilation_cache()
        logger.setLevel(logging.INFO)
        self._served = served
        self._shelf = MapShelf(
            served.maps,
            self._open,
            max_bytes=served.memory_bytes,
            prepare_search=served.prepare_search,
        )
        inner = make_application(
            self._shelf,
            limits=served.limits,
            write_token=served.write_token,
            cors_origins=served.cors_origins,
        )

        @serve.multiplexed(max_num_models_per_replica=MAPS_EACH)
        async def note_map(name: str) -> str:
            return name  # so that Serve knows where this map is open

        async def application(scope, receive, send) -> None:
            name = _map_of(scope)
            if name is not None and name in self._shelf.names():
                await note_map(name)
            await inner(scope, receive, send)

        self.application = application

    def _open(self, folder: pathlib.Path) -> Localizer:
        if not self._served.shards:
            return self._served.open_localizer(folder)
        shards = ServedShards(folder, self._served.shards, self._served.limits.answer_s)
        scene_map = SceneMap.open(folder)
        if SceneMap.generation(folder) != shards.generation:
            raise UsageError(f"{folder}: was changed; ask again")
        return self._served.open_localizer(sharded(scene_map, shards))


class ShardReplica:
    """Part `number` of each map that it is asked of."""

    def __init__(self, number: int, total: int):
        limit_threads()
        use_compilation_cache()
        self._shards = OpenShards(number, total)

    def ask(self, folder: str, generation: Hashable, method: str, *arguments: Any) -> Any:
        """See `OpenShards`; a mistake of a user comes back as a value."""
        try:
            return self._shards.ask(folder, generation, method, *arguments)
        except UsageError as error:
            return error


class ServedShards:
    """The shards of a map, as a replica asks them.

    Args:
      answer_s: for which a shard that was lost is asked again: it is started anew elsewhere.
    """

    def __init__(self, folder: pathlib.Path, total: int, answer_s: float):
        self._folder, self.generation = str(folder), SceneMap.generation(folder)
        self._answer_s = answer_s
        self.starts = shard_starts(folder, total)
        self._handles = [
            serve.get_deployment_handle(_shard_name(number), APPLICATION)
            for number in range(total)
        ]

    def ask(self, number: int, method: str, *arguments: Any) -> Any:
        """See `Shards`."""
        end = time.monotonic() + self._answer_s
        while True:
            left = max(1.0, end - time.monotonic())
            try:
                asked = self._handles[number].ask.remote(
                    self._folder, self.generation, method, *arguments
                )
                found = asked.result(timeout_s=left)
            except (ray.exceptions.RayError, TimeoutError):
                if time.monotonic() + PAUSE_S > end:
                    raise
                time.sleep(PAUSE_S)
                continue
            if isinstance(found, UsageError):
                raise found
            return found


def _shard_name(number: int) -> str:
    return f"shard-{number}"


def _map_of(scope: dict[str, Any]) -> str | None:
    """The map that an HTTP request is of, by its path."""
    parts = scope.get("path", "").split("/")
    is_of_map = scope["type"] == "http" and len(parts) > 2 and parts[1] == "maps"
    return parts[2] if is_of_map else None

"""`jaxreloc serve`: answers queries over HTTP."""

import dataclasses
import logging
import os
import pathlib
from typing import Annotated, Literal

from jaxreloc.cli.options import Engine
from jaxreloc.cli.parsing import Listed, flag
from jaxreloc.usage import UsageError

TOKEN_VARIABLE = "JAXRELOC_WRITE_TOKEN"
MAX_TOKEN_BYTES = 4096


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bounds:
    max_megabytes: Annotated[float, flag("Largest request, in megabytes (32).", "N")] = 32.0
    max_megapixels: Annotated[
        float, flag("Largest picture to read, in megapixels (64).", "N")
    ] = 64.0
    upload_seconds: Annotated[float, flag("Time for a request to arrive (30).", "N")] = 30.0
    answer_seconds: Annotated[float, flag("Time from there to its answer (60).", "N")] = 60.0
    max_waiting: Annotated[int, flag("Queries that wait; more are refused (32).", "N")] = 32
    memory_gb: Annotated[float, flag("Memory for open maps, in gigabytes (4).", "N")] = 4.0

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not 0 < value < float("inf"):
                raise UsageError(f"--{field.name}={value:g}: give more than 0")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Access:
    host: Annotated[
        str, flag("Address to listen at (127.0.0.1); 0.0.0.0: all.", "ADDRESS")
    ] = "127.0.0.1"
    port: Annotated[int, flag("Port (8000); 0: a free one.", "N")] = 8000
    write_token_file: Annotated[
        str | None, flag("File with the token that lets clients change maps.", "FILE")
    ] = None
    cors_origins: Annotated[Listed, flag("Other sites whose pages may ask.", "A,B")] = ()

    def __post_init__(self):
        if not 0 <= self.port < 65536:
            raise UsageError(f"--port={self.port}: give 0 to 65535")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Replicas(Engine):
    replicas: Annotated[
        int | None, flag("Most Ray replicas (one per core or GPU).", "N")
    ] = None
    shards: Annotated[int, flag("Parts of each map, apart from the replicas (0).", "N")] = 0

    def __post_init__(self):
        Engine.__post_init__(self)
        if not self.on_ray and (self.replicas is not None or self.shards):
            raise UsageError("--replicas and --shards are of --engine=ray; add that")
        if self.replicas is not None and self.replicas < 1:
            raise UsageError(f"--replicas={self.replicas}: give at least 1")
        if self.shards < 0:
            raise UsageError(f"--shards={self.shards}: give 0 or more")


def serve(
    maps: Annotated[str, flag("Folder of maps, or of one map.", "DIR")],
    mode: Annotated[
        Literal["fast", "default", "precise", "thorough"] | None,
        flag("Of all_matches: fast, default, precise, thorough.", "NAME"),
    ] = None,
    quarter_turns: Annotated[
        bool, flag("Do not try refused pictures again, turned.")
    ] = True,
    access: Access = Access(),
    bounds: Bounds = Bounds(),
    engine: Replicas = Replicas(),
) -> None:
    """Answers queries over HTTP, with a page to look at."""
    from jaxreloc.compilation.compilation_cache import use_compilation_cache
    from jaxreloc.localization.jobs.querying import open_localizer
    from jaxreloc.localization.localizer import Localizer
    from jaxreloc.localization.map.scene_map import SceneMap
    from jaxreloc.serving.answering.map_shelf import MapShelf
    from jaxreloc.serving.request_limits import Limits
    from jaxreloc.serving.running import run_server

    logging.getLogger("jaxreloc.serving").setLevel(logging.INFO)
    token = read_token(access.write_token_file)
    use_compilation_cache()

    def opening(folder: pathlib.Path | SceneMap) -> Localizer:
        localizer = open_localizer(folder, mode=mode, quarter_turns=quarter_turns)
        localizer.warm_up()
        return localizer

    def preparing_search(localizer: Localizer) -> bool:
        if localizer.method.finds_focal_length:
            localizer.warm_up(searching=True)
        return localizer.method.finds_focal_length

    folder = pathlib.Path(maps).expanduser()
    max_bytes = int(1e9 * bounds.memory_gb)
    limits = Limits(
        max_bytes=int(1e6 * bounds.max_megabytes),
        max_pixels=int(1e6 * bounds.max_megapixels),
        body_s=bounds.upload_seconds,
        answer_s=bounds.answer_seconds,
        max_waiting=bounds.max_waiting,
    )
    if engine.on_ray:
        from jaxreloc.scale import cluster, ray_serving

        served = ray_serving.Served(
            cluster.as_path(folder),
            opening,
            preparing_search,
            max_bytes,
            limits,
            token,
            access.cors_origins,
            replicas=engine.replicas or engine.workers,
            shards=engine.shards,
        )
        ray_serving.serve_on_ray(
            served, host=access.host, port=access.port, address=engine.address
        )
        return
    shelf = MapShelf(folder, opening, max_bytes=max_bytes, prepare_search=preparing_search)
    run_server(
        shelf,
        host=access.host,
        port=access.port,
        limits=limits,
        write_token=token,
        cors_origins=access.cors_origins,
    )


def read_token(path: str | None) -> str | None:
    """The token of a file, or else of the environment; None where there is none.

    Raises:
      UsageError: it is not one line of ASCII.
    """
    from jaxreloc import files

    if path is None:
        source, text = f"${TOKEN_VARIABLE}", os.environ.get(TOKEN_VARIABLE)
        if text is None:
            return None
    else:
        source = path
        text = files.read_bytes(os.path.expanduser(path), limit=MAX_TOKEN_BYTES).decode("latin-1")
    text = text.strip()
    if not text or not text.isascii() or not text.isprintable():
        raise UsageError(f"{source}: holds no token; write one line of letters and digits into it")
    return text

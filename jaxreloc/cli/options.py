"""Groups of flags that several subcommands share."""

import contextlib
import dataclasses
import pathlib
from typing import Annotated, Literal

from jaxreloc.cli.parsing import flag
from jaxreloc.usage import UsageError

MIN_LONG_SIDE = 64  # pixels

MaxMegapixels = Annotated[
    float, flag("Largest picture to read, in megapixels (200).", "N")
]


def limit_pictures(max_megapixels: float) -> None:
    """Sets how large a picture may be.

    Raises:
      UsageError: no picture is as small.
    """
    from jaxreloc.images import set_max_pixels

    if not max_megapixels > 0:
        raise UsageError(f"--max_megapixels={max_megapixels:g}: give more than 0")
    set_max_pixels(round(1e6 * max_megapixels))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    workdir: Annotated[
        str | None, flag("Training folder; without it, the shipped network.", "DIR")
    ] = None
    checkpoint: Annotated[str | None, flag("Folder of one saved network instead.", "DIR")] = None
    long_side: Annotated[
        int | None, flag("Image side, shipped network (512; 256 is faster).", "PX")
    ] = None

    def __post_init__(self):
        if self.workdir and self.checkpoint:
            raise UsageError("--workdir and --checkpoint both name a network; give one of them")
        if self.named and self.long_side is not None:
            raise UsageError("--long_side is of the network that ships, not of a trained one")
        if self.long_side is not None and self.long_side < MIN_LONG_SIDE:
            raise UsageError(f"--long_side={self.long_side}: give at least {MIN_LONG_SIDE} pixels")

    @property
    def named(self) -> pathlib.Path | None:
        """The trained network's folder; None means the network that ships."""
        folder = self.workdir or self.checkpoint
        return pathlib.Path(folder) if folder else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Retrieval:
    num_neighbors: Annotated[
        int | None, flag("Neighbours per query (10; 5 for pair methods).", "N")
    ] = None
    min_baseline: Annotated[
        float | None, flag("Least distance between them, for pair methods.", "LENGTH")
    ] = None
    method: Annotated[
        Literal["all_matches", "robust", "paper", "median"] | None,
        flag("all_matches, or of pairs: robust, paper, median.", "NAME"),
    ] = None
    mode: Annotated[
        Literal["fast", "default", "precise", "thorough"] | None,
        flag("Of all_matches: fast, default, precise, thorough.", "NAME"),
    ] = None

    def __post_init__(self):
        if self.num_neighbors is not None and self.num_neighbors < 1:
            raise UsageError(f"--num_neighbors={self.num_neighbors}: give at least 1")
        if self.min_baseline is not None and not self.min_baseline >= 0:
            raise UsageError(f"--min_baseline={self.min_baseline}: give 0 or more")


Viz = Annotated[bool, flag("Write an HTML report: cameras, queries, matches.")]
Rerun = Annotated[str | None, flag("Write this file (.rrd) for the Rerun viewer.", "FILE")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Views:
    viz: Viz = False
    rerun: Rerun = None

    @property
    def recording(self) -> pathlib.Path | None:
        """The file for Rerun."""
        return pathlib.Path(self.rerun).expanduser() if self.rerun else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Engine:
    engine: Annotated[
        Literal["local", "ray"], flag("Where the work runs: local or ray.", "NAME")
    ] = "local"
    address: Annotated[str | None, flag("Ray's HOST:PORT; without it, this machine.", "A")] = None
    workers: Annotated[int | None, flag("Most Ray workers (one per core or GPU).", "N")] = None

    def __post_init__(self):
        given = [x for x in ("address", "workers") if getattr(self, x) is not None]
        if given and not self.on_ray:
            raise UsageError(f"--{given[0]} is of --engine=ray; add that, or leave it out")
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"--workers={self.workers}: give at least 1")

    @property
    def on_ray(self) -> bool:
        """Whether `jaxreloc.scale` does the work."""
        return self.engine == "ray"

    def rendering(self, dataset: str) -> contextlib.AbstractContextManager:
        """Within, rooms that the dataset lacks are rendered by the engine."""
        if not self.on_ray or not dataset.startswith(("synthetic_rooms", "seven_rooms")):
            return contextlib.nullcontext()
        from jaxreloc.scale.executor import ray_executor
        from tfds_builders.rooms.workers import rendered_by

        return rendered_by(lambda: ray_executor(self.address, self.workers))

"""What each part of a pose from all matches adds, and what neighbours cost.

  taskset -c 0 python -m benchmarks.accuracy.pose_ablation --library=FOLDER [--rooms=6]
      [--cache=FOLDER]
  taskset -c 0 python -m benchmarks.accuracy.pose_ablation --images=PHOTOS [--query_every=5]

Rows: the fusion of five pairs, whose neighbours lie apart; one pose from all matches of ten
neighbours that a coarse match has chosen, without depth in the map, with it, and with the pictures
aligned; the other modes; then the number of neighbours, and other sizes of the pictures. Queries
that are refused count as infinitely far off in medians and recalls; "wrong" are answers that are
off by a metre or 20 deg. Milliseconds are medians of the queries that are answered, on as many
cores as the process has.
"""

import os

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import dataclasses
import functools
import pathlib
import sys
from collections.abc import Iterator

import jax
import numpy as np
import tabulate
from absl import flags

from benchmarks.accuracy import held_out
from benchmarks.accuracy.held_out import fused_figures
from jaxreloc.compilation.compilation_cache import use_compilation_cache
from jaxreloc.evaluation import metrics
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.formats.posed_images import read_posed_images
from jaxreloc.formats.query_split import split_frames
from jaxreloc.localization.clock import STAGES
from jaxreloc.localization.localizer import Localizer
from jaxreloc.localization.map.encoding import encode_frames
from jaxreloc.localization.map.map_depth import with_depth
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.networks.loading import pretrained_network
from jaxreloc.localization.query_state import Localization
from jaxreloc.usage import run_script

_LIBRARY = flags.DEFINE_string("library", None, "Prepared furniture library (synthetic_rooms).")
_SPLIT = flags.DEFINE_enum("split", "test", ["validation", "test"], "Of the rooms.")
_ROOMS = flags.DEFINE_integer("rooms", 6, "How many rooms.", lower_bound=1)
_CACHE = flags.DEFINE_string("cache", None, "Folder where the rooms' pictures are kept.")
_IMAGES = flags.DEFINE_string("images", None, "Folder of posed photographs, instead of rooms.")
_EVERY = flags.DEFINE_integer("query_every", 5, "Of the photographs.", lower_bound=2)


@dataclasses.dataclass(frozen=True)
class Row:
    """A way to localize: `options` are the localizer's."""

    name: str
    options: dict[str, object]
    depth: bool = True
    long_side: int = 512


ROWS = (
    Row("fusion of 5 pairs", {"method": "robust"}, depth=False),
    Row("all matches of 10, no depth, not aligned", {"num_neighbors": 10, "mode": "fast"}, False),
    Row("all matches of 10, not aligned", {"num_neighbors": 10, "mode": "fast"}),
    Row("all matches of 10", {"num_neighbors": 10}),
    Row("mode fast", {"mode": "fast"}),
    Row("mode precise", {"mode": "precise"}),
    *(Row(f"all matches of {n}", {"num_neighbors": n}) for n in (1, 2, 5, 20)),
    Row("all matches of 10, 256 px", {"num_neighbors": 10}, long_side=256),
    Row("mode fast, 256 px", {"mode": "fast"}, long_side=256),
    Row("all matches of 10, 1024 px", {"num_neighbors": 10}, long_side=1024),
)


def scenes() -> Iterator[tuple[PosedFrames, PosedFrames]]:
    if _IMAGES.value:
        frames = read_posed_images(_IMAGES.value)
        yield tuple(
            split_frames(frames, part, query_every=_EVERY.value) for part in ("database", "query")
        )
        return
    cache = _CACHE.value and pathlib.Path(_CACHE.value)
    for index in range(_ROOMS.value):
        room = held_out.load_room(_SPLIT.value, index, _LIBRARY.value, cache)
        yield room.database, room.query


def localized(row: Row, scene_map: SceneMap, queries: PosedFrames) -> list[Localization]:
    scene_map = scene_map if row.depth else dataclasses.replace(scene_map, depth=None)
    localizer = Localizer(scene_map, **row.options)
    localizer.warm_up()
    return [localizer(*x) for x in zip(queries.images, queries.intrinsics, strict=True)]


def figures(row: Row, found: list[Localization], truth: np.ndarray) -> dict[str, str]:
    errors = metrics.pose_errors(
        np.stack([x.world_from_query for x in found]), truth, np.array([x.success for x in found])
    )
    columns = fused_figures(errors.position_m, errors.rotation_deg)
    close = np.mean((errors.position_m < 0.25) & (errors.rotation_deg < 2))
    times = [x.stage_ms for x in found if x.success] or [dict.fromkeys(STAGES, np.nan)]
    cells = {name.removeprefix("fused: "): value for name, value in columns.items()}
    cells["cm"] = f"{100 * np.median(errors.position_m):.2f}"
    cells["deg"] = f"{np.median(errors.rotation_deg):.3f}"
    cells["within 25 cm, 2 deg"] = f"{close:.0%}"
    total = np.median([sum(x.values()) for x in times])
    stages = " + ".join(f"{np.median([x[stage] for x in times]):.0f}" for stage in STAGES)
    return {"": row.name} | cells | {"ms": f"{total:.0f}", " + ".join(STAGES): stages}


def main(argv: list[str]) -> None:
    del argv
    use_compilation_cache()
    parts = list(scenes())
    mapped = functools.cache(lambda i, long_side: _map_of(parts[i][0], long_side))
    rows = []
    for row in ROWS:
        if any(row.long_side > database.image_sizes.max() for database, _ in parts):
            continue
        found = [
            x
            for i, (_, queries) in enumerate(parts)
            for x in localized(row, mapped(i, row.long_side), queries)
        ]
        poses = np.concatenate([queries.world_from_cam for _, queries in parts])
        rows.append(figures(row, found, poses))
        print(" | ".join(rows[-1].values()), file=sys.stderr, flush=True)
        jax.clear_caches()  # a process may not hold the compiled programs of all rows
    source = _IMAGES.value or f"{_ROOMS.value} {_SPLIT.value} rooms"
    print(f"{len(poses)} queries of {source}")
    print(tabulate.tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True))


def _map_of(database: PosedFrames, long_side: int) -> SceneMap:
    network = pretrained_network(database.image_sizes, long_side=long_side)
    return with_depth(SceneMap.from_images(network, encode_frames(database, network)))


if __name__ == "__main__":
    run_script(main)

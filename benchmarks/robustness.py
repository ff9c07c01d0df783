"""How well each kind of picture is localized in a map of ordinary ones, beside SIFT.

  python -m benchmarks.robustness --library=FOLDER [--rooms=6] [--split=test] [--cache=FOLDER]

`benchmarks/picture_kinds.py` says what the kinds are: the queries of held-out rooms, taken anew
with one thing changed at a time. The network that ships (`refined`, 512x384) and SIFT with an
essential matrix relate each query to the same five pictures, which the network's descriptors find;
a cell of the table has the figures of both. Medians and recalls are those of fused poses; queries
that are refused count as infinitely far off in them, and "wrong" are answers that are off by a
metre or 20 deg.
"""

import os
import pathlib

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import sys
import time

import numpy as np
import tabulate
from absl import flags

from benchmarks import held_out
from benchmarks.held_out import QueryPoses
from benchmarks.picture_kinds import KINDS, load_pictures
from benchmarks.relating import Answers, Matching, Sift
from jaxreloc.compilation_cache import use_compilation_cache
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.models.shipped_matcher import shipped_matcher
from jaxreloc.training.match_making import encode_scene, joined
from jaxreloc.usage import run_script

_LIBRARY = flags.DEFINE_string("library", None, "Prepared furniture library (synthetic_rooms).")
_SPLIT = flags.DEFINE_enum("split", "test", ["validation", "test"], "Of the rooms.")
_ROOMS = flags.DEFINE_integer("rooms", 6, "How many rooms.", lower_bound=1)
_CACHE = flags.DEFINE_string(
    "cache", None, "Folder where the pictures are kept; empty it when a kind has changed."
)

CANVAS = (384, 512)
METHODS = ("refined", Sift.name)


def room_errors(
    database: PosedFrames, kinds: dict[str, PosedFrames], matching: Matching, sift: Sift
) -> dict[str, dict[str, np.ndarray]]:
    """Errors [2, Q] of position (metres) and rotation (degrees) by kind and method."""
    parts = list(kinds.values())
    queries = joined(parts)
    neighbors = thinned_neighbors(database, parts, matching)
    poses = QueryPoses(database.world_from_cam[neighbors], queries.world_from_cam)
    ends = np.cumsum([len(part) for part in parts])[:-1]
    errors = {name: {} for name in kinds}
    for family in (matching, sift):
        for method, answers in family.relate_scene(database, queries, neighbors).items():
            found = fused_errors(poses, answers)
            for name, part in zip(kinds, np.split(found, ends, axis=1), strict=True):
                errors[name][method] = part
    return errors


def thinned_neighbors(
    database: PosedFrames, parts: list[PosedFrames], matching: Matching
) -> np.ndarray:
    """The five pictures [Q, N] that retrieval finds in what each kind leaves of the map."""
    db = encode_scene(database, matching.network)
    return np.concatenate(
        [
            held_out.nearest_images(encode_scene(frames, matching.network), db, kind.map_step)
            for kind, frames in zip(KINDS, parts, strict=True)
        ]
    )


def fused_errors(poses: QueryPoses, answers: Answers) -> np.ndarray:
    """Position (metres) and rotation (degrees) errors [2, Q]; infinite where refused."""
    return np.stack(held_out.fused_errors(poses, answers.relations, answers.fusion_config))


def table(rooms: list[dict[str, dict[str, np.ndarray]]]) -> list[dict[str, str]]:
    """A row for each kind, of the queries of all rooms; cells have the figures of all METHODS."""
    rows = []
    for kind in rooms[0]:
        errors = [np.concatenate([room[kind][name] for room in rooms], axis=1) for name in METHODS]
        figures = [held_out.fused_figures(*found) for found in errors]
        row = {"pictures": kind, "queries": f"{errors[0].shape[1]}"}
        rows.append(row | {name: " / ".join(f[name] for f in figures) for name in figures[0]})
    return rows


def main(argv: list[str]) -> None:
    del argv
    use_compilation_cache()
    cache = _CACHE.value and pathlib.Path(_CACHE.value)
    matching = Matching(shipped_matcher(CANVAS), {"refined": "refined"})
    sift = Sift(CANVAS)
    rooms = []
    for index in range(_ROOMS.value):
        start = time.perf_counter()
        pictures = load_pictures(_SPLIT.value, index, _LIBRARY.value, cache)
        rooms.append(room_errors(*pictures, matching, sift))
        seconds = time.perf_counter() - start
        print(f"{_SPLIT.value}-{index:03d}: {seconds:.0f} s", file=sys.stderr, flush=True)
    count = f"{_ROOMS.value} {_SPLIT.value} rooms, {held_out.NEIGHBOURS} neighbours each"
    print(f"{count}; {' / '.join(METHODS)}")
    print(tabulate.tabulate(table(rooms), headers="keys", tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    run_script(main)

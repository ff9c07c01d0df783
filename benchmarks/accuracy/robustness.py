"""How well each kind of picture is localized in a map of ordinary ones, beside SIFT.

  python -m benchmarks.accuracy.robustness --library=FOLDER [--rooms=6] [--split=test]
      [--cache=FOLDER] [--kinds=NAME,...] [--nosift]

`picture_kinds` says what the kinds are: the queries of held-out rooms, taken anew
with one thing changed at a time. The localizer with the network that ships (`refined`, 512x384) and
SIFT with an essential matrix relate each query to the same five pictures, which the network's
descriptors find; what the localizer refuses it looks at again, turned, with pictures of its own. A
cell of the table has the figures of both. Medians and recalls are those of fused poses; queries
that are refused count as infinitely far off in them, and "wrong" are answers that are off by a
metre or 20 deg.
"""

import os
import pathlib

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import sys
import time
from collections.abc import Sequence

import numpy as np
import tabulate
from absl import flags

from benchmarks.accuracy import held_out
from benchmarks.accuracy.held_out import QueryPoses
from benchmarks.accuracy.picture_kinds import KINDS, Kind, load_pictures
from benchmarks.accuracy.relating import Answers, Sift
from jaxreloc.compilation.compilation_cache import use_compilation_cache
from jaxreloc.evaluation import metrics
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.localization.localizer import Localizer
from jaxreloc.localization.map.encoding import encode_frames
from jaxreloc.localization.map.map_depth import with_depth
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.networks.match_network import MatchNetwork
from jaxreloc.training.inputs.match_making import joined
from jaxreloc.usage import check_choice, run_script

_LIBRARY = flags.DEFINE_string("library", None, "Prepared furniture library (synthetic_rooms).")
_SPLIT = flags.DEFINE_enum("split", "test", ["validation", "test"], "Of the rooms.")
_ROOMS = flags.DEFINE_integer("rooms", 6, "How many rooms.", lower_bound=1)
_CACHE = flags.DEFINE_string(
    "cache", None, "Folder where the pictures are kept; empty it when a kind has changed."
)

_KINDS = flags.DEFINE_list("kinds", None, "Of pictures, by name; none: all.")
_SIFT = flags.DEFINE_bool("sift", True, "Beside the localizer.")

CANVAS = (384, 512)
LOCALIZER = "localizer"


def room_errors(
    database: PosedFrames,
    pictures: dict[str, PosedFrames],
    kinds: Sequence[Kind],
    network: MatchNetwork,
    sift: Sift | None,
) -> dict[str, dict[str, np.ndarray]]:
    """Errors [2, Q] of position (metres) and rotation (degrees) by kind and method."""
    steps = {kind.map_step for kind in kinds}
    localizers = {step: thinned_localizer(database, step, network) for step in steps}
    found = [localized(localizers[kind.map_step], pictures[kind.name]) for kind in kinds]
    errors = {kind.name: {LOCALIZER: mine} for kind, (mine, _) in zip(kinds, found, strict=True)}
    if sift is None:
        return errors
    neighbors = np.concatenate(
        [kind.map_step * nearest for kind, (_, nearest) in zip(kinds, found, strict=True)]
    )
    parts = [pictures[kind.name] for kind in kinds]
    queries = joined(parts)
    (answers,) = sift.relate_scene(database, queries, neighbors).values()
    poses = QueryPoses(database.world_from_cam[neighbors], queries.world_from_cam)
    ends = np.cumsum([len(part) for part in parts])[:-1]
    of_sift = np.split(fused_errors(poses, answers), ends, axis=1)
    for of_kind, theirs in zip(errors.values(), of_sift, strict=True):
        of_kind[Sift.name] = theirs
    return errors


def thinned_localizer(database: PosedFrames, step: int, network: MatchNetwork) -> Localizer:
    """Of a map of every so many-th picture; the most similar ones are the neighbours."""
    kept = encode_frames(database.select(range(0, len(database), step)), network)
    return Localizer(with_depth(SceneMap.from_images(network, kept)))


def localized(localizer: Localizer, frames: PosedFrames) -> tuple[np.ndarray, np.ndarray]:
    """Errors [2, Q], infinite where refused, and the retrieved pictures [Q, N] of each as given."""
    queries = [localizer.retrieve(*x) for x in zip(frames.images, frames.intrinsics, strict=True)]
    answers = [localizer.localize(query) for query in queries]
    errors = metrics.pose_errors(
        np.stack([answer.world_from_query for answer in answers]),
        frames.world_from_cam,
        np.array([answer.success for answer in answers]),
    )
    return (
        np.stack([errors.position_m, errors.rotation_deg]),
        np.stack([query.neighbors for query in queries]),
    )


def fused_errors(poses: QueryPoses, answers: Answers) -> np.ndarray:
    """Position (metres) and rotation (degrees) errors [2, Q]; infinite where refused."""
    return np.stack(held_out.fused_errors(poses, answers.relations, answers.fusion_config))


def table(rooms: list[dict[str, dict[str, np.ndarray]]]) -> list[dict[str, str]]:
    """A row for each kind, of the queries of all rooms; cells have the figures of all methods."""
    rows = []
    for kind, methods in rooms[0].items():
        errors = [np.concatenate([room[kind][name] for room in rooms], axis=1) for name in methods]
        figures = [held_out.fused_figures(*found) for found in errors]
        row = {"pictures": kind, "queries": f"{errors[0].shape[1]}"}
        rows.append(row | {name: " / ".join(f[name] for f in figures) for name in figures[0]})
    return rows


def _kind(name: str) -> Kind:
    by_name = {kind.name: kind for kind in KINDS}
    check_choice("kind of pictures", name, by_name)
    return by_name[name]


def main(argv: list[str]) -> None:
    del argv
    use_compilation_cache()
    cache = _CACHE.value and pathlib.Path(_CACHE.value)
    network = held_out.matcher(CANVAS)
    sift = Sift(CANVAS) if _SIFT.value else None
    kinds = [_kind(name) for name in _KINDS.value] if _KINDS.value else list(KINDS)
    rooms = []
    for index in range(_ROOMS.value):
        start = time.perf_counter()
        pictures = load_pictures(_SPLIT.value, index, _LIBRARY.value, cache, kinds)
        rooms.append(room_errors(*pictures, kinds, network, sift))
        seconds = time.perf_counter() - start
        print(f"{_SPLIT.value}-{index:03d}: {seconds:.0f} s", file=sys.stderr, flush=True)
    count = f"{_ROOMS.value} {_SPLIT.value} rooms, {held_out.NEIGHBOURS} neighbours each"
    print(f"{count}; {' / '.join(next(iter(rooms[0].values())))}")
    print(tabulate.tabulate(table(rooms), headers="keys", tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    run_script(main)

"""Poses from matches beside what a user would pick instead: hloc's method, with the same pictures.

  taskset -c 0 python -m benchmarks.peers.peer_sfm --library=FOLDER [--rooms=6] [--split=test]
      [--cache=FOLDER]
  taskset -c 0 python -m benchmarks.peers.peer_sfm --images=PHOTOS [--query_every=5]

Queries are those of held-out rooms, or every so many-th of a folder of posed photographs; the rest
is the database. The localizer with the network that ships (512 px) retrieves ten neighbours by each
of its methods; the peers take those of the first, which are re-ranked ones. A peer has triangulated
its keypoints from the known poses beforehand, matches the query with the neighbours at full size,
and finds the pose by PnP (`benchmarks/peers/point_map.py`).

Medians and recalls count a query without an answer as infinitely far off. "wrong" are answers that
are off by a metre or 20 deg. Milliseconds are medians: all of a query for the localizer, everything
but the retrieval for a peer. Peers use one thread; `taskset` holds the localizer to one core, too.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import dataclasses
import pathlib
import sys
import time
from collections.abc import Iterator, Sequence

import numpy as np
import tabulate
from absl import flags
from jaxtyping import Float

from benchmarks.accuracy.held_out import WRONG_DEG, WRONG_M, load_room
from benchmarks.peers.local_features import Detector, known_detectors
from benchmarks.peers.point_map import PointMap
from jaxreloc.compilation.compilation_cache import use_compilation_cache
from jaxreloc.evaluation import metrics
from jaxreloc.evaluation.metrics import PoseErrors
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.formats.posed_images import read_posed_images
from jaxreloc.formats.query_split import DEFAULT_QUERY_EVERY, split_frames
from jaxreloc.localization.localizer import Localizer
from jaxreloc.localization.map.encoding import encode_frames
from jaxreloc.localization.map.map_depth import with_depth
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.networks.loading import pretrained_network
from jaxreloc.usage import run_script

# A test imports this beside other modules that have flags of these names.
_SHARED = {"allow_override": True}
_IMAGES = flags.DEFINE_string(
    "images", None, "Folder of posed photographs, instead of rooms.", **_SHARED
)
_QUERY_EVERY = flags.DEFINE_integer(
    "query_every",
    DEFAULT_QUERY_EVERY,
    "Every so many-th photograph is a query.",
    lower_bound=2,
    **_SHARED,
)
_LIBRARY = flags.DEFINE_string(
    "library", None, "Prepared furniture library (synthetic_rooms).", **_SHARED
)
_CACHE = flags.DEFINE_string("cache", None, "Folder where rendered rooms are kept.", **_SHARED)
_SPLIT = flags.DEFINE_enum("split", "test", ["validation", "test"], "Of the rooms.", **_SHARED)
_ROOMS = flags.DEFINE_integer("rooms", 6, "How many rooms.", lower_bound=1, **_SHARED)

METHODS = ("all_matches", "robust", "paper")  # of the localizer
NEIGHBOURS = 10


@dataclasses.dataclass(frozen=True)
class Answers:
    """What one way of localizing makes of Q queries."""

    errors: PoseErrors
    ms: Float[np.ndarray, "Q"]


def answers(
    queries: PosedFrames, found: Sequence[tuple[Float[np.ndarray, "4 4"] | None, float]]
) -> Answers:
    """Of pairs of `world_from_query` and milliseconds; a pose of None is infinitely far off."""
    poses = np.stack([np.eye(4) if pose is None else pose for pose, _ in found])
    success = np.array([pose is not None for pose, _ in found])
    errors = metrics.pose_errors(poses, queries.world_from_cam, success)
    return Answers(errors, np.array([ms for _, ms in found]))


def scene_answers(
    database: PosedFrames, queries: PosedFrames, detectors: Sequence[Detector]
) -> dict[str, Answers]:
    """Those of the peers with each of `detectors`, and of the localizer by each of METHODS."""
    network = pretrained_network(database.image_sizes)
    scene_map = with_depth(SceneMap.from_images(network, encode_frames(database, network)))
    localizers = [
        Localizer(scene_map, num_neighbors=NEIGHBOURS, method=method) for method in METHODS
    ]
    neighbors = [localizers[0].retrieve(*query).neighbors for query in _each(queries)]
    found = {
        f"peer: {detector.name}": answers(
            queries, list(_of_peer(PointMap.from_frames(database, detector), queries, neighbors))
        )
        for detector in detectors
    }
    for method, localizer in zip(METHODS, localizers, strict=True):
        found[f"jaxreloc: {method}"] = answers(queries, list(_of_localizer(localizer, queries)))
    return found


def _of_peer(
    point_map: PointMap, queries: PosedFrames, neighbors: Sequence[np.ndarray]
) -> Iterator[tuple[np.ndarray | None, float]]:
    for (image, intrinsics), nearest in zip(_each(queries), neighbors, strict=True):
        start = time.perf_counter()
        pose = point_map.locate(image, intrinsics, nearest)
        yield pose, 1e3 * (time.perf_counter() - start)


def _of_localizer(
    localizer: Localizer, queries: PosedFrames
) -> Iterator[tuple[np.ndarray | None, float]]:
    localizer.warm_up()
    for query in _each(queries):
        answer = localizer(*query)
        pose = answer.world_from_query if answer.success else None
        yield pose, sum(answer.stage_ms.values())


def _each(frames: PosedFrames) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Images and intrinsics."""
    return zip((frames.images[i] for i in range(len(frames))), frames.intrinsics, strict=True)


def table(scenes: Sequence[dict[str, Answers]]) -> list[dict[str, str]]:
    """A row for each way of localizing, of the queries of all scenes."""
    rows = []
    for name in scenes[0]:
        parts = [scene[name] for scene in scenes]
        errors = metrics.concatenate([part.errors for part in parts])
        ms = np.concatenate([part.ms for part in parts])
        rows.append({"": name} | figures(errors) | {"ms": f"{np.median(ms):.0f}"})
    return rows


def figures(errors: PoseErrors) -> dict[str, str]:
    """A row's columns of accuracy."""
    summary = metrics.summarize(errors)
    recall = dict(zip(metrics.RECALL_THRESHOLDS, summary.recalls, strict=True))
    off = (errors.position_m > WRONG_M) | (errors.rotation_deg > WRONG_DEG)
    return {
        "median cm": f"{100 * summary.median_position_m:.2f}",
        "deg": f"{summary.median_rotation_deg:.3f}",
        "10 cm, 5 deg": f"{recall[0.10, 5.0]:.0%}",
        "25 cm, 2 deg": f"{recall[0.25, 2.0]:.0%}",
        "5 cm, 5 deg": f"{recall[0.05, 5.0]:.0%}",
        "wrong": f"{np.sum(np.isfinite(errors.position_m) & off)}",
        "refused": f"{summary.num_failed}",
    }


def load_scenes() -> Iterator[tuple[PosedFrames, PosedFrames]]:
    """Databases and queries: of the user's photographs, or of rooms."""
    if _IMAGES.value:
        frames = read_posed_images(_IMAGES.value)
        yield tuple(
            split_frames(frames, split, query_every=_QUERY_EVERY.value)
            for split in ("database", "query")
        )
        return
    cache = _CACHE.value and pathlib.Path(_CACHE.value)
    for index in range(_ROOMS.value):
        room = load_room(_SPLIT.value, index, _LIBRARY.value, cache)
        yield room.database, room.query


def main(argv: list[str]) -> None:
    del argv
    use_compilation_cache()
    detectors = known_detectors()
    scenes = []
    for database, queries in load_scenes():
        start = time.perf_counter()
        scenes.append(scene_answers(database, queries, detectors))
        seconds = time.perf_counter() - start
        count = f"{len(database)} database images, {len(queries)} queries"
        print(f"{queries.scene}: {count}, {seconds:.0f} s", file=sys.stderr, flush=True)
    print(f"{NEIGHBOURS} neighbours each, {len(os.sched_getaffinity(0))} core(s)")
    rows = table(scenes)
    print(tabulate.tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    run_script(main)

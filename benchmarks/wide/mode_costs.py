"""Accuracy against milliseconds: each mode of the localizer, in rooms that are made to be hard.

  taskset -c 0 python -m benchmarks.wide.mode_costs --data_dir=FOLDER [--split=test] [--rooms=6]

Maps are held upright and have depth. Every query of `synthetic_rooms/furnished_hard` is asked held
upright, and as it was taken, by a camera that is rolled at random. Good is right to 10 cm and 5
deg, fair to 50 cm and 10 deg, wrong is off by a metre or 20 deg; strangers are the queries of the
next room, of which any answer is wrong. Milliseconds are of the processor, of own queries, after
warming up: the median, that of answered and of refused ones, and the longest.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import time

import numpy as np
import tabulate
from absl import flags

from benchmarks.accuracy import held_out
from benchmarks.accuracy.held_out import WRONG_DEG, WRONG_M
from benchmarks.wide.hard_rooms import CANVAS, hard_frames, scene_names
from jaxreloc.compilation.compilation_cache import use_compilation_cache
from jaxreloc.evaluation.metrics import pose_errors
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.localization.localizer import Localizer
from jaxreloc.localization.map.encoding import encode_frames
from jaxreloc.localization.map.map_depth import with_depth
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.methods.all_matches_method import MODES
from jaxreloc.usage import run_script

_SHARED = {"allow_override": True}  # a test imports this beside modules with flags of these names
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Prepared datasets.", **_SHARED)
_SPLIT = flags.DEFINE_enum("split", "test", ["validation", "test"], "Of the rooms.", **_SHARED)
_ROOMS = flags.DEFINE_integer("rooms", 6, "How many rooms.", lower_bound=2, **_SHARED)

GOOD, FAIR = (0.1, 5.0), (0.5, 10.0)  # metres, degrees


def asked(localizer: Localizer, queries: PosedFrames) -> np.ndarray:
    """Of each query metres, degrees (infinite where refused) and milliseconds [Q, 3]."""
    poses, success, spent = [], [], []
    for image, intrinsics in zip(queries.images, queries.intrinsics, strict=True):
        start = time.process_time()
        found = localizer(image, intrinsics)
        spent.append(1e3 * (time.process_time() - start))
        poses.append(found.world_from_query)
        success.append(found.success)
    errors = pose_errors(np.stack(poses), queries.world_from_cam, np.array(success))
    return np.column_stack([errors.position_m, errors.rotation_deg, spent])


def row(mode: str, own: np.ndarray, strangers: np.ndarray) -> dict[str, object]:
    """Of `asked` own queries and strangers."""
    metres, degrees, spent = own.T
    answered = np.isfinite(metres)
    wrong = answered & ((metres > WRONG_M) | (degrees > WRONG_DEG))
    figures = {
        "good": (metres < GOOD[0]) & (degrees < GOOD[1]),
        "fair": (metres < FAIR[0]) & (degrees < FAIR[1]),
        "wrong": wrong,
        "refused": ~answered,
    }
    shares = {name: f"{np.mean(x):.0%}" for name, x in figures.items()}
    shares["strangers answered"] = f"{np.isfinite(strangers[:, 0]).sum()} of {len(strangers)}"
    of_time = {
        "ms": np.median(spent),
        "answered": np.median(spent[answered]) if answered.any() else np.nan,
        "refused, ms": np.median(spent[~answered]) if (~answered).any() else np.nan,
        "longest": spent.max(),
    }
    return {"mode": mode} | shares | {name: f"{ms:.0f}" for name, ms in of_time.items()}


def main(argv: list[str]) -> None:
    del argv
    use_compilation_cache()
    network, where = held_out.matcher(CANVAS), _DATA_DIR.value
    scenes, split = scene_names(_SPLIT.value, where)[: _ROOMS.value], _SPLIT.value
    maps = []
    for scene in scenes:
        database = hard_frames(scene, split, where, upright=True)
        scene_map = SceneMap.from_images(network, encode_frames(database, network))
        maps.append(with_depth(scene_map))
    for upright in (True, False):
        queries = [hard_frames(x, f"{split}_query", where, upright=upright) for x in scenes]
        rows = []
        for mode in MODES:
            localizers = [Localizer(scene_map, mode=mode) for scene_map in maps]
            localizers[0].warm_up()
            asked(localizers[0], queries[1].select(range(2)))  # what turns and refusals compile
            own = [asked(*x) for x in zip(localizers, queries, strict=True)]
            others = [*queries[1:], queries[0]]
            strangers = [asked(*x) for x in zip(localizers, others, strict=True)]
            rows.append(row(mode, np.concatenate(own), np.concatenate(strangers)))
        held = "held upright" if upright else "as they were taken"
        print(f"{len(scenes)} {split} rooms, {sum(map(len, queries))} queries {held}")
        print(tabulate.tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    run_script(main)

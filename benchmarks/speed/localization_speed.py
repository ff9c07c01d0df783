"""Localization: milliseconds a query by stage, beside SIFT; queries/s in batches; a long run.

  taskset -c 0 python -m benchmarks.speed.localization_speed [--images=PHOTOS]
  python -m benchmarks.speed.localization_speed --soak=10000

Of a folder of posed photographs, or of a rendered room without one, every fifth picture is a query
and the others are the map. The network is the one that ships. SIFT matches the pictures that the
default retrieved at full size, its features of the map being known. `processor` is the process's
own time, which hardly depends on what else runs; the stages are of the clock. `--soak` localizes
that many queries instead, eight threads at a time and on a small canvas, so that it takes minutes,
and prints the memory that the process takes.
"""

import concurrent.futures
import os
import pathlib
import time
from collections.abc import Callable

import numpy as np
import tabulate
from absl import flags

from benchmarks.speed.video_speed import load_frames
from jaxreloc.compilation.compilation_cache import use_compilation_cache
from jaxreloc.evaluation.baselines.sift import SiftRelator
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.formats.query_split import split_frames
from jaxreloc.localization.clock import STAGES
from jaxreloc.localization.localizer import Localizer
from jaxreloc.localization.map.encoding import encode_frames
from jaxreloc.localization.map.map_depth import with_depth
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.methods.pair_fusion import PairFusion
from jaxreloc.localization.networks.loading import LONG_SIDE, pretrained_network
from jaxreloc.localization.networks.match_network import MatchNetwork
from jaxreloc.localization.query_state import Localization
from jaxreloc.models.weights.network_weights import imagenet_matcher
from jaxreloc.usage import run_script

_SOAK = flags.DEFINE_integer("soak", 0, "queries to localize in a long run, instead")

BATCH_SIZE = 16
THREADS = 8
WAYS = (  # the method, its mode if it has any, the longer side in pixels
    ("robust", None, LONG_SIDE),
    ("robust", None, 256),
    ("all_matches", "default", LONG_SIDE),
    ("all_matches", "fast", 256),
)
SOAK_CANVAS = (96, 128)


def median_row(name: str, answer: Callable[[int], Localization], count: int) -> dict[str, object]:
    """Medians over the queries."""
    answer(0)  # what is left to compile
    found, processor_ms = [], []
    for i in range(count):
        start = time.process_time()
        found.append(answer(i))
        processor_ms.append(1e3 * (time.process_time() - start))
    row = {"": name}
    row |= {stage: np.median([x.stage_ms[stage] for x in found]) for stage in STAGES}
    row["total"] = np.median([sum(x.stage_ms.values()) for x in found])
    row["processor"] = np.median(processor_ms)
    return row | {"localized": np.mean([x.success for x in found])}


def measure(database: PosedFrames, queries: PosedFrames) -> None:
    """Prints the table of stages, and how many queries a second there are."""
    images, cameras = [queries.images[i] for i in range(len(queries))], list(queries.intrinsics)
    rows, maps = [], {}
    for method, mode, side in WAYS:
        if side not in maps:
            network = pretrained_network(database.image_sizes, long_side=side)
            maps[side] = SceneMap.from_images(network, encode_frames(database, network))
        # A map of depths is what `jaxreloc map build` makes; pairs need none.
        scene_map = with_depth(maps[side]) if method == "all_matches" else maps[side]
        localizer = Localizer(scene_map, method=method, mode=mode)
        localizer.warm_up()
        name = ", ".join(str(x) for x in (method, mode, side) if x)
        rows.append(
            median_row(name, lambda i, by=localizer: by(images[i], cameras[i]), len(images))
        )
    sift = SiftRelator(database)
    sift.prefetch(range(len(database)))
    pairs = Localizer(maps[LONG_SIDE], method="robust")
    by_sift = PairFusion(pairs.scene_map, relator=sift)
    retrieved = list(map(pairs.retrieve, images, cameras))
    rows.append(median_row("SIFT", lambda i: pairs.locate(retrieved[i], by_sift), len(images)))
    print(f"{len(os.sched_getaffinity(0))} core(s), milliseconds a query")
    print(tabulate.tabulate(rows, headers="keys", tablefmt="github", floatfmt=".3g"))
    default = Localizer(with_depth(maps[LONG_SIDE]))
    default.warm_up(batch_size=BATCH_SIZE)
    many = (images * BATCH_SIZE)[: 4 * BATCH_SIZE], (cameras * BATCH_SIZE)[: 4 * BATCH_SIZE]
    start = time.perf_counter()
    default.localize_all(*many, batch_size=BATCH_SIZE)
    rate = len(many[0]) / (time.perf_counter() - start)
    start = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(default, *many))
    threaded = len(many[0]) / (time.perf_counter() - start)
    print(f"batches of {BATCH_SIZE}: {rate:.1f} queries/s; {THREADS} threads: {threaded:.1f}")


def soak(localizer: Localizer, queries: PosedFrames, count: int) -> None:
    """Prints the memory while `count` queries are localized."""
    images = [queries.images[i] for i in range(len(queries))]
    localizer.warm_up()
    report_every = max(1, count // 10)
    batch = [i % len(images) for i in range(report_every)]
    start, memory = time.perf_counter(), []
    with concurrent.futures.ThreadPoolExecutor(THREADS) as threads:
        for done in range(0, count + 1, report_every):
            if done:
                for _ in threads.map(lambda i: localizer(images[i], queries.intrinsics[i]), batch):
                    pass
            memory.append(resident_mb())
            seconds = time.perf_counter() - start
            print(f"{done:6d} queries  {seconds:5.0f} s  {memory[-1]:6.0f} MB", flush=True)
    growth = memory[-1] - memory[len(memory) // 2]
    print(f"memory grew by {growth:+.1f} MB in the second half")


def resident_mb() -> float:
    """The memory that this process takes (Linux)."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main(argv: list[str]) -> None:
    del argv
    use_compilation_cache()
    frames = load_frames()
    database, queries = split_frames(frames, "database"), split_frames(frames, "query")
    print(f"{frames.scene}: a map of {len(database)} images, {len(queries)} queries")
    if _SOAK.value:
        small = MatchNetwork(imagenet_matcher(SOAK_CANVAS))
        scene_map = SceneMap.from_images(small, encode_frames(database, small))
        soak(Localizer(scene_map), queries, _SOAK.value)
    else:
        measure(database, queries)


if __name__ == "__main__":
    run_script(main)

"""Localization: milliseconds a query by stage, beside SIFT; queries/s in batches; a long run.

  python -m benchmarks.speed.localization_speed [--images=PHOTOS]
  python -m benchmarks.speed.localization_speed --soak=10000

Of a folder of posed photographs, or of a rendered room without one, every fifth picture is a query
and the others are the map. The network is the one that ships, with its default canvas and with the
one of the fast mode. Its `relate` is one program; the parts of it are differences between programs
that end earlier. SIFT matches the pictures that the default retrieved at full size, its features of
the map being known. `taskset -c 0` before the command gives the figures of one core. `--soak`
localizes that many queries instead, eight threads at a time and on a small canvas, so that it takes
minutes, and prints the memory that the process takes.
"""

import concurrent.futures
import os
import pathlib
import time

import jax
import numpy as np
import tabulate
from absl import app, flags

from jaxreloc.evaluation.baselines.sift import SiftRelator
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.formats.posed_images import read_posed_images
from jaxreloc.formats.query_split import split_frames
from jaxreloc.localization.clock import STAGES
from jaxreloc.localization.localizer import Localizer
from jaxreloc.localization.map.encoding import encode_frames
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.methods.pair_fusion import PairFusion
from jaxreloc.localization.networks.loading import LONG_SIDE, pretrained_network
from jaxreloc.localization.networks.match_network import MatchNetwork
from jaxreloc.localization.query_state import Localization, Query
from jaxreloc.models.weights.network_weights import imagenet_matcher

_IMAGES = flags.DEFINE_string("images", None, "folder of posed photographs")
_SOAK = flags.DEFINE_integer("soak", 0, "queries to localize in a long run, instead")

BATCH_SIZE = 16
THREADS = 8
ROOM = 2  # of the test rooms
LONG_SIDES = (LONG_SIDE, 256)  # the default, then the fast mode
SOAK_CANVAS = (96, 128)


def load_frames() -> PosedFrames:
    """The user's photographs, or a rendered room."""
    if _IMAGES.value:
        return read_posed_images(_IMAGES.value)
    from tfds_builders.rooms.generation import render_room
    from tfds_builders.rooms.settings import RoomSettings

    return render_room(RoomSettings(width=512, height=384), "test", ROOM).database


def localizer_of(network: MatchNetwork, database: PosedFrames) -> Localizer:
    """A localizer in a map of these frames."""
    return Localizer(SceneMap.from_images(network, encode_frames(database, network)))


def stage_row(name: str, found: list[Localization]) -> dict[str, object]:
    """Medians over the queries."""
    row = {"": name}
    row |= {stage: np.median([x.stage_ms[stage] for x in found]) for stage in STAGES}
    row["total"] = np.median([sum(x.stage_ms.values()) for x in found])
    return row | {"localized": np.mean([x.success for x in found])}


def relating_parts(localizer: Localizer, queries: list[Query]) -> dict[str, float]:
    """Medians of what the matching takes, what RANSAC adds, and what the head adds to both."""
    without_head = MatchNetwork(localizer.network.loaded, "matches")
    programs = (localizer.network.match, without_head.relate, localizer.network.relate)
    medians = []
    for program in programs:
        times_ms = []
        for query in (queries[0], *queries):  # the first one compiles
            features = localizer.scene_map.neighbor_features(query.neighbors)
            start = time.perf_counter()
            related = program(*features, query.features, query.network_intrinsics)
            jax.block_until_ready(related)
            times_ms.append(1e3 * (time.perf_counter() - start))
        medians.append(np.median(times_ms[1:]))
    return dict(zip(("matching", "RANSAC", "head"), np.diff(medians, prepend=0), strict=True))


def measure(localizers: dict[str, Localizer], database: PosedFrames, queries: PosedFrames) -> None:
    """Prints the tables of stages, and how many queries a second there are."""
    images, cameras = [queries.images[i] for i in range(len(queries))], list(queries.intrinsics)
    sift = SiftRelator(database)
    sift.prefetch(range(len(database)))
    rows, parts = [], []
    for name, localizer in localizers.items():
        localizer.warm_up()
        retrieved = list(map(localizer.retrieve, images, cameras))
        fusion = PairFusion(localizer.scene_map, min_baseline=0)
        found = [localizer.locate(query, fusion) for query in retrieved]
        rows.append(stage_row(name, found))
        parts.append({"": name} | relating_parts(localizer, retrieved))
    default = next(iter(localizers.values()))
    retrieved = list(map(default.retrieve, images, cameras))
    by_sift = PairFusion(default.scene_map, relator=sift)
    default.locate(retrieved[0], by_sift)
    rows.append(stage_row("SIFT", [default.locate(query, by_sift) for query in retrieved]))
    print(f"{len(os.sched_getaffinity(0))} core(s), milliseconds a query")
    for table in (rows, parts):
        print(tabulate.tabulate(table, headers="keys", floatfmt=".3g"))
    print(f"the default takes {rows[0]['total'] / rows[-1]['total']:.2f} times SIFT's time")
    default.warm_up(batch_size=BATCH_SIZE)
    many = (images * BATCH_SIZE)[: 4 * BATCH_SIZE], (cameras * BATCH_SIZE)[: 4 * BATCH_SIZE]
    start = time.perf_counter()
    default.localize_all(*many, batch_size=BATCH_SIZE)
    rate = len(many[0]) / (time.perf_counter() - start)
    start = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(default, *many))
    threaded = len(many[0]) / (time.perf_counter() - start)
    print(f"batches of {BATCH_SIZE}: {rate:.1f} queries/s")
    print(f"{THREADS} threads: {threaded:.1f} queries/s")


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
    frames = load_frames()
    database, queries = split_frames(frames, "database"), split_frames(frames, "query")
    print(f"{frames.scene}: a map of {len(database)} images, {len(queries)} queries")
    if _SOAK.value:
        small = localizer_of(MatchNetwork(imagenet_matcher(SOAK_CANVAS)), database)
        soak(small, queries, _SOAK.value)
        return
    localizers = {
        f"{side} pixels": localizer_of(
            pretrained_network(database.image_sizes, long_side=side), database
        )
        for side in LONG_SIDES
    }
    measure(localizers, database, queries)


if __name__ == "__main__":
    app.run(main)

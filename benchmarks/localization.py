"""Localization: milliseconds a query by stage, beside SIFT; queries/s in batches; a long run.

  python -m benchmarks.localization [--images=PHOTOS]
  python -m benchmarks.localization --soak=10000

Of a folder of posed photographs, or of a rendered room without one, every fifth picture is a query
and the others are the map. The network is the one that needs no training. SIFT matches the same
retrieved pictures at full size, its features of the map being known. `--soak` localizes that many
queries instead, eight threads at a time and on a small canvas, so that it takes minutes, and
prints the memory that the process takes.
"""

import concurrent.futures
import os
import pathlib
import time

import numpy as np
import tabulate
from absl import app, flags

from jaxreloc.data.datasets import split_frames
from jaxreloc.evaluation.sift import SiftRelator
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.formats.posed_images import read_posed_images
from jaxreloc.localization.clock import STAGES
from jaxreloc.localization.encoding import encode_frames
from jaxreloc.localization.localizer import Localization, Localizer
from jaxreloc.localization.match_network import MatchNetwork
from jaxreloc.localization.pretrained_network import pretrained_network
from jaxreloc.localization.scene_map import SceneMap
from jaxreloc.models.imagenet_matcher import imagenet_matcher

_IMAGES = flags.DEFINE_string("images", None, "folder of posed photographs")
_SOAK = flags.DEFINE_integer("soak", 0, "queries to localize in a long run, instead")

BATCH_SIZE = 16
THREADS = 8
ROOM = 2  # of the test rooms
SOAK_CANVAS = (96, 128)


def load_frames() -> PosedFrames:
    """The user's photographs, or a rendered room."""
    if _IMAGES.value:
        return read_posed_images(_IMAGES.value)
    from tfds_builders.synthetic_rooms.generation import render_room
    from tfds_builders.synthetic_rooms.settings import RoomSettings

    return render_room(RoomSettings(width=512, height=384), "test", ROOM).database


def stage_row(name: str, found: list[Localization]) -> dict[str, object]:
    """Medians over the queries."""
    row = {"": name}
    row |= {stage: np.median([x.stage_ms[stage] for x in found]) for stage in STAGES}
    row["total ms"] = np.median([sum(x.stage_ms.values()) for x in found])
    return row | {"localized": np.mean([x.success for x in found])}


def measure(localizer: Localizer, database: PosedFrames, queries: PosedFrames) -> None:
    """Prints the table of stages, and how many queries a second there are."""
    images, cameras = [queries.images[i] for i in range(len(queries))], list(queries.intrinsics)
    sift = SiftRelator(database)
    sift.prefetch(range(len(database)))
    localizer.warm_up()
    localizer.warm_up(batch_size=BATCH_SIZE)
    localizer.locate(localizer.retrieve(images[0], cameras[0]), sift)
    network, classical = [], []
    for image, camera in zip(images, cameras, strict=True):
        query = localizer.retrieve(image, camera)
        network.append(localizer.locate(query, localizer.relate))
        classical.append(localizer.locate(query, sift))
    rows = [stage_row("network", network), stage_row("SIFT + essential matrix", classical)]
    print(tabulate.tabulate(rows, headers="keys", floatfmt=".3g"))
    ratio = rows[1]["total ms"] / rows[0]["total ms"]
    print(f"the network takes {1 / ratio:.2f} times SIFT's time")
    many = (images * BATCH_SIZE)[: 4 * BATCH_SIZE], (cameras * BATCH_SIZE)[: 4 * BATCH_SIZE]
    start = time.perf_counter()
    localizer.localize_all(*many, batch_size=BATCH_SIZE)
    rate = len(many[0]) / (time.perf_counter() - start)
    start = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(localizer, *many))
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
    if _SOAK.value:
        network = MatchNetwork(imagenet_matcher(SOAK_CANVAS))
    else:
        network = pretrained_network(database.image_sizes)
    localizer = Localizer(SceneMap.from_images(network, encode_frames(database, network)))
    print(f"{frames.scene}: a map of {len(database)} images, {len(queries)} queries")
    if _SOAK.value:
        soak(localizer, queries, _SOAK.value)
    else:
        measure(localizer, database, queries)


if __name__ == "__main__":
    app.run(main)

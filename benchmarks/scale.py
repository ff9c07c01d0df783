"""How cost grows with a map, from 100 images to a million; needs the extra `ray`.

  python -m benchmarks.scale [--map_sizes=100,1000,10000,100000] [--images=FOLDER]

Features are made up, those of one picture of 64 x 96 pixels, with descriptors of places. They are
written as segments of a map by the functions that a build uses, so that everything but encoding and
triangulating is what a build does. Each size says: images written a second, bytes an image, and in
a new process the seconds and megabytes of opening the map, and the milliseconds of a query's
retrieval and of the reading of its neighbours' features. A query's description and matching do not
depend on the map.

With --images=FOLDER (posed images) it also builds that folder's map with one worker of Ray and with
two, and says what Ray's own work for a task takes, by tasks that do nothing.
"""

import dataclasses
import functools
import os
import pathlib
import shutil
import tempfile
import time
from collections.abc import Iterator

import jax
import numpy as np
import tabulate
from absl import flags

from benchmarks.made_up_places import made_up_descriptors
from benchmarks.trust.resources import in_new_process, made_up_frames, peak_bytes
from jaxreloc.compilation.compilation_cache import use_compilation_cache
from jaxreloc.localization.jobs import building
from jaxreloc.localization.jobs.partial_map import PIECE_SIZE
from jaxreloc.localization.map import map_files
from jaxreloc.localization.map.encoding import CellDepth, EncodedImages, encode_frames
from jaxreloc.localization.map.map_manifest import read_manifest, write_manifest
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.neighbors.reranking import RERANKED
from jaxreloc.localization.networks.match_network import MatchNetwork
from jaxreloc.models.weights.network_weights import shipped_matcher
from jaxreloc.usage import run_script

_SIZES = flags.DEFINE_list("map_sizes", ["100", "1000", "10000", "100000"], "Images.")
_IMAGES = flags.DEFINE_string("images", None, "Posed images to build a map of, by workers of Ray.")
_LONG_SIDE = flags.DEFINE_integer("long_side", 256, "Pixels of the built maps' images.")

CANVAS = (64, 96)  # a small one, so that a million images fit on a disk
QUERIES = 48
EMPTY_TASKS = 200


@functools.cache
def template() -> tuple[MatchNetwork, EncodedImages]:
    """The network, and what it makes of an image."""
    network = MatchNetwork(shipped_matcher(CANVAS))
    return network, encode_frames(made_up_frames(np.random.default_rng(0), 1), network)


def made_up_parts(count: int) -> Iterator[EncodedImages]:
    """Images of a map, a segment at a time; poses within a hall, features of one picture."""
    network, one = template()
    rng = np.random.default_rng(0)
    grid = network.cell_pixels().shape[:2]
    for start in range(0, count, building.SEGMENT_SIZE):
        n = min(building.SEGMENT_SIZE, count - start)
        frames = made_up_frames(rng, n)
        yield EncodedImages(
            names=tuple(f"{start + i:08d}.jpg" for i in range(n)),
            world_from_cam=frames.world_from_cam,
            intrinsics=frames.intrinsics,
            image_sizes=frames.image_sizes,
            network_intrinsics=np.repeat(one.network_intrinsics, n, axis=0),
            descriptors=made_up_descriptors(rng, n, one.descriptors.shape[1]).astype(np.float16),
            features=tuple(np.repeat(np.asarray(x), n, axis=0) for x in one.features),
            pictures=list(one.pictures) * n,
            depth=CellDepth(rng.integers(0, 1 << 16, (n, *grid), np.uint16), np.ones(n, "f4")),
        )


def built(folder: pathlib.Path, count: int) -> dict[str, float]:
    """Writes a map, its catalogue and its index.

    Beyond the first segment all are links to it, so that a large map is there in seconds.
    """
    network, _ = template()
    first = min(count, building.SEGMENT_SIZE)
    start = time.perf_counter()
    SceneMap.create(folder, network, made_up_parts(first))
    written = time.perf_counter() - start
    (segment,) = read_manifest(folder).segments
    segments = [segment]
    for number in range(1, count // first):
        name = f"{number:06d}"
        parent = folder / map_files.SEGMENTS
        shutil.copytree(parent / segment.name, parent / name, copy_function=os.link)
        segments.append(dataclasses.replace(segment, name=name))
    manifest = dataclasses.replace(read_manifest(folder), segments=tuple(segments))
    write_manifest(folder, manifest)
    start = time.perf_counter()
    building.keep_up(folder)
    kept = time.perf_counter() - start
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    images = first * len(segments)
    return {
        "images": images,
        "written/s": first / written,
        "catalogue, index s": kept,
        "kB/image": size / images / 1e3,
    }


def opened(small: pathlib.Path, folder: pathlib.Path) -> tuple[float, float]:
    """Seconds and megabytes of opening a map, up to its first query's retrieval.

    In a new process, which has opened a small map before, so that libraries do not count.
    """
    return in_new_process(_open, small, folder)


def _open(small: pathlib.Path, folder: pathlib.Path) -> tuple[float, float]:
    use_compilation_cache()
    jax.config.update("jax_platforms", "cpu")
    len(SceneMap.open(small).index)
    before = peak_bytes()
    start = time.perf_counter()
    len(SceneMap.open(folder).index)
    return time.perf_counter() - start, (peak_bytes() - before) / 1e6


def queried(folder: pathlib.Path) -> dict[str, float]:
    """Medians of the stages of a query that touch the map."""
    scene_map = SceneMap.open(folder)
    rng = np.random.default_rng(1)
    rows = rng.integers(0, len(scene_map), QUERIES)
    asked = [np.asarray(scene_map.descriptor_rows[int(row)], np.float32)[None] for row in rows]
    retrieval, reading = [], []
    for one in asked:
        start = time.perf_counter()
        ranked = scene_map.index.search(one, RERANKED)[0][0]
        found = time.perf_counter()
        jax.tree.map(np.asarray, scene_map.neighbor_features(ranked))
        retrieval.append(found - start)
        reading.append(time.perf_counter() - found)
    half = QUERIES // 2  # the first ones compile, and open files
    return {
        "retrieval ms": 1e3 * float(np.median(retrieval[half:])),
        "features ms": 1e3 * float(np.median(reading[half:])),
    }


def row_of(folder: pathlib.Path, count: int) -> dict[str, float]:
    """All figures of a map of one size."""
    row = built(folder, count)
    small = folder.with_name("small")
    SceneMap.create(small, template()[0], made_up_parts(100))
    opened(small, folder)  # compiles
    seconds, megabytes = opened(small, folder)
    return row | {"open s": seconds, "open MB": megabytes} | queried(folder)


def by_workers(images: str, folder: pathlib.Path) -> list[dict[str, float]]:
    """A map of real images by one worker and by two, after a build that compiles."""
    from jaxreloc.scale import cluster, distributed_building, pieces

    rows = []
    for name, workers in (("compiles", 2), ("one", 1), ("two", 2)):
        start = time.perf_counter()
        line = distributed_building.build_map(
            images, folder / name, long_side=_LONG_SIDE.value, workers=workers, piece_size=16
        )
        rows.append({"": name, "workers": workers, "s": time.perf_counter() - start})
        print(line, flush=True)
    with cluster.connected(None):
        list(pieces.done(Idle, (), list(range(8)), 1))
        start = time.perf_counter()
        list(pieces.done(Idle, (), list(range(EMPTY_TASKS)), 1))
        seconds = time.perf_counter() - start
        start = time.perf_counter()
        list(pieces.done(Idle, (), [0], 1))
        started = time.perf_counter() - start
    each = 1e3 * (seconds - started) / (EMPTY_TASKS - 1)
    print(f"an empty task takes {each:.1f} ms of Ray, after a start of {started:.1f} s; a task of")
    print(f"{PIECE_SIZE} images that takes 100 ms each, {100 * each / (100 * PIECE_SIZE):.2f}%")
    return rows


class Idle:
    """A worker that has nothing to do."""

    def __call__(self, piece: int) -> int:
        return piece


def main(argv: list[str]) -> None:
    del argv
    use_compilation_cache()
    table = []
    for size in map(int, _SIZES.value):
        with tempfile.TemporaryDirectory() as folder:
            table.append(row_of(pathlib.Path(folder) / "map", size))
            print(table[-1], flush=True)
    if table:
        print(tabulate.tabulate(table, headers="keys", tablefmt="github", floatfmt=".3g"))
    if _IMAGES.value:
        with tempfile.TemporaryDirectory() as folder:
            rows = by_workers(_IMAGES.value, pathlib.Path(folder))
        print(tabulate.tabulate(rows, headers="keys", tablefmt="github", floatfmt=".3g"))


if __name__ == "__main__":
    run_script(main)

"""The server beside calls in Python: time of a query, throughput, waiting under load, memory.

  jaxreloc map build --images=PHOTOS --out=MAP
  python -m benchmarks.serving.serving_speed --map=MAP --images=PICTURES [--seconds=600]

It starts `jaxreloc serve` and a localizer of its own in the same map. One is asked after the other,
so that both have the machine's cores. Queries come with the map's first camera, by `Client`.

  start       from starting the process to the first answer
  one query   the median of asking the server less that of decoding and calling `Localizer`
  8 clients   queries a second of 8 that ask without a pause, over those of `localize_all`
  70% load    queries at random times (Poisson), as many as 70% of that: 99th percentile over median
  memory      what the server's process takes in the last quarter of the time, over the second
"""

import collections.abc
import concurrent.futures
import dataclasses
import os
import pathlib
import time

import numpy as np
import tabulate
from absl import app, flags

from benchmarks.serving.server_process import Server, grown
from jaxreloc.compilation.compilation_cache import use_compilation_cache
from jaxreloc.images import PICTURE_SUFFIXES, decode_image
from jaxreloc.localization.localizer import Localizer
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.serving.answering.batching import SIZES
from jaxreloc.usage import UsageError

_MAP = flags.DEFINE_string("map", None, "folder of the map", required=True)
_IMAGES = flags.DEFINE_string("images", None, "folder of the queries", required=True)
_REPEATS = flags.DEFINE_integer("repeats", 32, "queries that are timed one by one")
_SECONDS = flags.DEFINE_float("seconds", 60.0, "of each run with load")

CLIENTS = 8
LOAD = 0.7


@dataclasses.dataclass(frozen=True)
class Queries:
    """Pictures as files, all of one camera."""

    files: tuple[bytes, ...]
    intrinsics: np.ndarray

    def __len__(self) -> int:
        return len(self.files)


class Decoded(collections.abc.Sequence):
    """`count` pictures, decoded as they are asked for."""

    def __init__(self, queries: Queries, count: int):
        self._queries, self._count = queries, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, i: int) -> np.ndarray:
        return decode_image(self._queries.files[i % len(self._queries)], "a query")


def ask(server: Server, queries: Queries, i: int) -> float:
    """The seconds that a query takes."""
    start = time.perf_counter()
    server.client.localize(
        queries.files[i % len(queries)], map=server.map_name, intrinsics=queries.intrinsics
    )
    return time.perf_counter() - start


def ask_without_pause(server: Server, queries: Queries, seconds: float) -> tuple[float, list]:
    """CLIENTS for a time: queries a second, and the memory ten times on the way."""
    end, counts, memory = time.perf_counter() + seconds, [0] * CLIENTS, []

    def client(number: int) -> None:
        while time.perf_counter() < end:
            ask(server, queries, number + CLIENTS * counts[number])
            counts[number] += 1

    start = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as threads:
        running = [threads.submit(client, i) for i in range(CLIENTS)]
        while time.perf_counter() < end:
            memory.append(server.memory_mb())
            time.sleep(seconds / 40)
        for one in running:
            one.result()
    return sum(counts) / (time.perf_counter() - start), memory


def ask_at_random(server: Server, queries: Queries, rate: float, seconds: float) -> np.ndarray:
    """The seconds of each query, of as many a second as `rate`."""
    rng = np.random.default_rng(0)
    with concurrent.futures.ThreadPoolExecutor(64) as threads:
        asked, at = [], time.perf_counter()
        end = at + seconds
        while (at := at + rng.exponential(1 / rate)) < end:
            time.sleep(max(0.0, at - time.perf_counter()))
            asked.append(threads.submit(ask, server, queries, len(asked)))
        return np.array([x.result() for x in asked])


def main(argv: list[str]) -> None:
    del argv
    use_compilation_cache()
    paths = sorted(pathlib.Path(_IMAGES.value).iterdir())
    files = tuple(x.read_bytes() for x in paths if x.suffix.lower() in PICTURE_SUFFIXES)
    if not files:
        raise UsageError(f"{_IMAGES.value}: no picture in this folder")
    scene_map = SceneMap.open(_MAP.value)
    queries = Queries(files, scene_map.intrinsics[0])
    localizer = Localizer(scene_map)
    localizer.warm_up()
    for size in SIZES[1:]:
        localizer.warm_up(batch_size=size)

    start = time.perf_counter()
    server = Server(_MAP.value)
    ask(server, queries, 0)
    start_s = time.perf_counter() - start
    rows = [("start to the first answer", f"{start_s:.1f} s")]
    ask_without_pause(server, queries, 5.0)

    decoded, direct, served = Decoded(queries, len(queries)), [], []
    for i in range(_REPEATS.value):  # by turns, so that a busy machine is busy for both
        start = time.perf_counter()
        localizer(decoded[i % len(queries)], queries.intrinsics)
        direct.append(time.perf_counter() - start)
        served.append(ask(server, queries, i))
    direct_ms, served_ms = 1e3 * np.median(direct), 1e3 * np.median(served)
    more_ms = 1e3 * np.median(np.subtract(served, direct))
    rows += [
        ("one query in Python, median", f"{direct_ms:.1f} ms"),
        ("one query of the server, median", f"{served_ms:.1f} ms"),
        ("the server's more, median of pairs", f"{more_ms:.1f} ms"),
    ]

    count, start, done = 8 * SIZES[-1], time.perf_counter(), 0
    while time.perf_counter() - start < _SECONDS.value / 2:
        localizer.localize_all(
            Decoded(queries, count), [queries.intrinsics] * count, batch_size=SIZES[-1]
        )
        done += count
    batched = done / (time.perf_counter() - start)
    rate, memory = ask_without_pause(server, queries, _SECONDS.value)
    rows += [
        (f"localize_all, batches of {SIZES[-1]}", f"{batched:.2f} queries/s"),
        (f"{CLIENTS} clients", f"{rate:.2f} queries/s"),
        ("clients over localize_all", f"{rate / batched:.0%}"),
        ("the server's memory", f"{memory[-1]:.0f} MB"),
        ("its last quarter over its second", f"{grown(memory) - 1:+.1%}"),
    ]

    seconds = ask_at_random(server, queries, LOAD * rate, _SECONDS.value)
    median, last = np.percentile(seconds, [50, 99])
    rows += [
        (f"at {LOAD:.0%} load, {len(seconds)} queries: median", f"{1e3 * median:.0f} ms"),
        ("99th percentile", f"{1e3 * last:.0f} ms"),
        ("99th percentile over median", f"{last / median:.1f}"),
    ]
    server.end()
    load = os.getloadavg()
    print(f"{len(os.sched_getaffinity(0))} core(s); load of the machine {load[0]:.1f} at the end")
    print(tabulate.tabulate(rows, disable_numparse=True))


if __name__ == "__main__":
    app.run(main)

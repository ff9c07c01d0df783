"""Retrieval: the exact search in JAX beside FAISS, latency, memory and recall by size of the map.

  python -m benchmarks.speed.retrieval_speed [--sizes=1000,26000,1000000] [--dim=512]

Needs the extra `faiss`. The descriptors are made up: places with a hundred
views each, the views of a place at a cosine of 0.8, of which the queries are others. 26,000 is
about the size of 7-Scenes' database. FAISS flat is its exact search and FAISS lists is
`FaissIndex`, what `jaxreloc query --index=faiss` uses. Memory is that of the descriptors or the
index; recall is of the five most similar images of the exact search.
"""

import os
import time
from collections.abc import Callable

import faiss
import numpy as np
import tabulate
from absl import app, flags

from benchmarks.made_up_places import made_up_descriptors
from jaxreloc.localization.neighbors.faiss_index import FaissIndex
from jaxreloc.localization.neighbors.retrieval import ExactIndex, recall

_SIZES = flags.DEFINE_list("sizes", ["1000", "26000", "1000000"], "images in the map")
_DIM = flags.DEFINE_integer("dim", 512, "dimensions of a descriptor")

QUERIES = 64
NEIGHBORS = 5
REPEATS = 15


def measure(search: Callable, queries: np.ndarray, exact: np.ndarray | None) -> dict[str, float]:
    """Milliseconds of one query, of one in a batch of 16, and the recall."""
    batches = [queries[i : i + 16] for i in range(0, QUERIES, 16)]
    found = np.concatenate([search(batch, NEIGHBORS)[0] for batch in batches])
    search(queries[:1], NEIGHBORS)
    one, many = [], []
    for i in range(REPEATS):
        start = time.perf_counter()
        search(queries[i : i + 1], NEIGHBORS)
        one.append(time.perf_counter() - start)
        start = time.perf_counter()
        search(queries[i : i + 16], NEIGHBORS)
        many.append((time.perf_counter() - start) / 16)
    return {
        "ms a query": 1e3 * np.median(one),
        "ms in a batch of 16": 1e3 * np.median(many),
        "recall": 1.0 if exact is None else recall(found, exact),
        "found": found,
    }


def measure_size(count: int, dim: int) -> list[dict[str, object]]:
    """A row for each search."""
    made = made_up_descriptors(np.random.default_rng(0), count + QUERIES, dim)
    rows = np.random.default_rng(1).permutation(len(made))[:QUERIES]
    queries, database = made[rows], np.delete(made, rows, axis=0)
    del made
    table, exact = [], None
    searches = {"JAX, exact": ExactIndex, "FAISS flat": flat, "FAISS lists": FaissIndex.of}
    for name, build in searches.items():
        start = time.perf_counter()
        index = build(database)
        build_s = time.perf_counter() - start
        row = measure(index.search, queries, exact)
        exact = row.pop("found") if exact is None else exact
        row.pop("found", None)
        nbytes = index.nbytes if isinstance(index, FaissIndex) else database.nbytes
        table.append({"images": count, "": name, "build s": build_s, "MB": nbytes / 1e6, **row})
        del index
    return table


def flat(database: np.ndarray):
    """FAISS's exact search behind the order of `Index.search`."""
    index = faiss.IndexFlatIP(database.shape[1])
    index.add(database)

    class Flat:
        def search(self, descriptors, count):
            return index.search(descriptors, count)[::-1]

    return Flat()


def main(argv: list[str]) -> None:
    del argv
    threads = faiss.omp_get_max_threads()
    print(f"{os.cpu_count()} CPUs, FAISS with {threads} threads, {_DIM.value} dimensions")
    table = [row for size in _SIZES.value for row in measure_size(int(size), _DIM.value)]
    print(tabulate.tabulate(table, headers="keys", floatfmt=".3g"))
    for exact, other in zip(table[0::3], table[1::3]):
        ratio = exact["ms a query"] / other["ms a query"]
        print(f"{exact['images']} images: JAX takes {ratio:.2f} times FAISS flat's time a query")


if __name__ == "__main__":
    app.run(main)

"""Kinds of index beside the exact search: recall, time, memory and build time by size of the map.

  python -m benchmarks.speed.index_choice [--sizes=10000,100000,1000000] [--kinds=exact,pq,hnsw,sq]

Needs the extra `faiss`. Descriptors are made up (`made_up_places`), in half precision on disk, of
1280 dimensions as the shipped network's are. Recall is of the twenty most similar images of the
exact search; `milliseconds` are the median of one query alone on one thread. Memory is that of the
index; the descriptors stay on disk, and a query reads those of its candidates. Kinds:

  exact  all descriptors compared, in single precision
  pq     inverted lists of product-quantised codes, candidates ranked exactly: `FaissIndex`
  hnsw   a graph of neighbours over the same axes in a byte each, candidates ranked exactly
  sq     inverted lists with a byte a dimension, as in earlier versions
"""

import pathlib
import tempfile
import time
from collections.abc import Callable

import faiss
import numpy as np
import tabulate
from absl import flags

from benchmarks.made_up_places import made_up_descriptors
from jaxreloc.localization.neighbors import faiss_index
from jaxreloc.localization.neighbors.faiss_index import FaissIndex
from jaxreloc.localization.neighbors.retrieval import recall
from jaxreloc.usage import run_script

_SIZES = flags.DEFINE_list("sizes", ["10000", "100000", "1000000"], "images in the map")
_KINDS = flags.DEFINE_list("kinds", ["exact", "pq", "hnsw", "sq"], "of index")
_DIM = flags.DEFINE_integer("dim", 1280, "dimensions of a descriptor")
_THREADS = flags.DEFINE_integer("threads", 1, "of FAISS")

QUERIES = 64
COUNT = 20
CHUNK = 20_000
HNSW_LINKS, HNSW_DIM, HNSW_SEARCH = 32, 128, 256


def made_up_on_disk(folder: pathlib.Path, count: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Descriptors of a map, mapped from disk, and others of queries."""
    rng = np.random.default_rng(0)
    made = np.lib.format.open_memmap(folder / "made.npy", "w+", np.float16, (count, dim))
    queries = []
    for start in range(0, count, CHUNK):
        n = min(CHUNK, count - start)
        part = made_up_descriptors(rng, n, dim)
        taken = rng.permutation(n)[: -(-QUERIES * CHUNK // count)]
        noise = rng.normal(size=(len(taken), dim)).astype(np.float32)
        # Another view of the same place.
        queries.append(part[taken] + 0.5 * noise / np.sqrt(dim))
        made[start : start + n] = part[rng.permutation(n)]
    made.flush()
    queries = np.concatenate(queries)[:QUERIES]
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    return np.load(folder / "made.npy", mmap_mode="r"), queries


def exact_search(database: np.ndarray, queries: np.ndarray, count: int) -> np.ndarray:
    """The most similar rows, in chunks."""
    kept, rows = [], []
    for start in range(0, len(database), CHUNK):
        cosines = queries @ database[start : start + CHUNK].astype(np.float32).T
        best = np.argpartition(-cosines, count, axis=1)[:, :count]
        kept.append(np.take_along_axis(cosines, best, axis=1))
        rows.append(best + start)
    kept, rows = np.concatenate(kept, axis=1), np.concatenate(rows, axis=1)
    best = np.argsort(-kept, axis=1)[:, :count]
    return np.take_along_axis(rows, best, axis=1)


def by_lists(database: np.ndarray, path: pathlib.Path) -> FaissIndex:
    """`FaissIndex`, written and mapped."""
    return _kept(faiss_index.trained(faiss_index.sample(database), len(database)), database, path)


def by_graph(database: np.ndarray, path: pathlib.Path) -> FaissIndex:
    """A graph (HNSW) in the place of the lists."""
    index = faiss.index_factory(
        database.shape[1], f"PCAR{HNSW_DIM},HNSW{HNSW_LINKS}_SQ8", faiss.METRIC_INNER_PRODUCT
    )
    graph = faiss.downcast_index(index.index).hnsw
    graph.efSearch = HNSW_SEARCH
    index.train(faiss_index.sample(database).astype(np.float32))
    return _kept(index, database, path, mapped=False)


def by_bytes(database: np.ndarray, path: pathlib.Path) -> FaissIndex:
    """Inverted lists with a byte a dimension."""
    name = f"IVF{faiss_index.num_lists(len(database))},SQ8"
    index = faiss.index_factory(database.shape[1], name, faiss.METRIC_INNER_PRODUCT)
    index.train(faiss_index.sample(database).astype(np.float32))
    return _kept(index, database, path)


def _kept(
    index: faiss.Index, database: np.ndarray, path: pathlib.Path, mapped: bool = True
) -> FaissIndex:
    chunks = (database[i : i + CHUNK] for i in range(0, len(database), CHUNK))
    faiss_index.add_rows(index, chunks)
    if not mapped:
        return FaissIndex(index, database)
    faiss_index.write_index(path, index)
    return FaissIndex.open(path, database)


KINDS: dict[str, Callable[[np.ndarray, pathlib.Path], FaissIndex]] = {
    "pq": by_lists,
    "hnsw": by_graph,
    "sq": by_bytes,
}


def size_of(index: FaissIndex, path: pathlib.Path) -> int:
    """Bytes of an index that was written, whose codes are not in memory, or that was not."""
    return path.stat().st_size if path.exists() else index.nbytes


def timed(search: Callable[[np.ndarray, int], object], queries: np.ndarray) -> float:
    """Milliseconds of one query, the median; the first ones warm the disk's cache."""
    seconds = []
    for query in [*queries[:8], *queries]:
        start = time.perf_counter()
        search(query[None], COUNT)
        seconds.append(time.perf_counter() - start)
    return 1e3 * float(np.median(seconds[8:]))


def rows_of(folder: pathlib.Path, count: int) -> list[dict[str, object]]:
    """A row for each kind."""
    database, queries = made_up_on_disk(folder, count, _DIM.value)
    exact, table = exact_search(database, queries, COUNT), []
    for kind in _KINDS.value:
        start = time.perf_counter()
        if kind == "exact":
            whole = database[:].astype(np.float32) if count <= 200_000 else None
            row = {"recall@20": 1.0, "MB": count * _DIM.value * 4 / 1e6, "build s": 0.0}
            if whole is not None:
                def search(query, count, whole=whole):
                    return np.argpartition(-(whole @ query[0]), count)

                row["ms"] = timed(search, queries)
        else:
            index = KINDS[kind](database, folder / "index")
            built = time.perf_counter() - start
            found = index.search(queries, COUNT)[0]
            row = {
                "recall@20": recall(found, exact),
                "MB": size_of(index, folder / "index") / 1e6,
                "build s": built,
                "ms": timed(index.search, queries),
            }
            del index
            (folder / "index").unlink(missing_ok=True)
        table.append({"images": count, "kind": kind, **row})
        print(table[-1], flush=True)
    return table


def main(argv: list[str]) -> None:
    del argv
    faiss.omp_set_num_threads(_THREADS.value)
    table = []
    for size in map(int, _SIZES.value):
        with tempfile.TemporaryDirectory() as folder:
            table += rows_of(pathlib.Path(folder), size)
    print(tabulate.tabulate(table, headers="keys", tablefmt="github", floatfmt=".3g"))


if __name__ == "__main__":
    run_script(main)

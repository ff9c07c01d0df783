"""Approximate retrieval with FAISS, for maps beyond what comparing all images can serve.

An optional extra: `pip install 'jaxreloc[faiss]'`.

An index finds some candidates by short codes; their descriptors, of which no others are read, then
rank them exactly. Kinds were compared by `python -m benchmarks.speed.index_choice`
(docs/experiments/scale.md).
"""

import os
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Array, Float, Int

from jaxreloc import files
from jaxreloc.extras import extra
from jaxreloc.usage import UsageError

with extra("faiss"):
    import faiss

# Under this many images lists are not worth while, and each image is compared.
MIN_IMAGES = 10_000
TRAINING_PER_LIST = 40  # images; FAISS warns of fewer
LISTS_SEARCHED = 32
CODE_DIM = 256  # that descriptors are turned to, whose principal axes these are
CODE_BYTES = 64
ROUNDS = 10, 6  # of k-means: of the lists, of the codes
# Candidates whose descriptors are read: this many times as many as are asked for, at least so many.
CANDIDATES_EACH, FEWEST_CANDIDATES = 5, 120


class FaissIndex:
    """An `Index` of inverted lists of short codes.

    The number of lists grows with the square root of that of the images. A query looks into
    `lists_searched` of them.

    Args:
      index: of FAISS, with all images.
      descriptors: a row an image, perhaps mapped from disk.
    """

    def __init__(
        self,
        index: "faiss.Index",
        descriptors: Sequence[np.ndarray] | Float[np.ndarray, "database dim"],
        *,
        lists_searched: int = LISTS_SEARCHED,
    ):
        self._index, self._descriptors = index, descriptors
        if index.ntotal != len(descriptors):
            raise UsageError(
                f"the index has {index.ntotal} images and the map {len(descriptors)}; make it "
                "again with jaxreloc map index"
            )
        lists = _lists(index)
        if lists is not None:
            lists.nprobe = min(lists_searched, lists.nlist)

    @classmethod
    def of(
        cls, descriptors: Float[Array, "database dim"], *, lists_searched: int = LISTS_SEARCHED
    ) -> "FaissIndex":
        """Of descriptors in memory."""
        descriptors = np.asarray(descriptors)
        index = trained(sample(descriptors), len(descriptors))
        index.add(_plain(descriptors))
        return cls(index, descriptors, lists_searched=lists_searched)

    @classmethod
    def open(cls, path: pathlib.Path, descriptors: Sequence[np.ndarray]) -> "FaissIndex":
        """Of a file, mapped into memory.

        Raises:
          UsageError: it cannot be read, or is of other images.
        """
        return cls(read_index(path, mapped=True), descriptors)

    def __len__(self) -> int:
        return self._index.ntotal

    @property
    def nbytes(self) -> int:
        """The memory that the index takes."""
        return len(faiss.serialize_index(self._index))

    def search(
        self, descriptors: Float[Array, "queries dim"], count: int
    ) -> tuple[Int[np.ndarray, "queries count"], Float[np.ndarray, "queries count"]]:
        """See `retrieval.Index`; where the lists that were searched hold too few, the last image
        found is repeated."""
        asked, count = _plain(descriptors), min(count, len(self))
        wanted = min(max(CANDIDATES_EACH * count, FEWEST_CANDIDATES), len(self))
        _, candidates = self._index.search(asked, wanted)
        found = [
            self._ranked(one, rows[rows >= 0], count)
            for one, rows in zip(asked, candidates, strict=True)
        ]
        return np.stack([rows for rows, _ in found]), np.stack([cosines for _, cosines in found])

    def _ranked(
        self, query: Float[np.ndarray, "D"], rows: Int[np.ndarray, "F"], count: int
    ) -> tuple[Int[np.ndarray, "k"], Float[np.ndarray, "k"]]:
        rows = np.sort(rows) if len(rows) else np.zeros(1, np.int64)  # ties keep their order
        if isinstance(self._descriptors, np.ndarray):
            taken = self._descriptors[rows]
        else:
            taken = np.stack([self._descriptors[int(row)] for row in rows])
        cosines = taken.astype(np.float32) @ query
        best = np.argsort(-cosines, kind="stable")[:count]
        best = np.pad(best, (0, count - len(best)), mode="edge")
        return rows[best], cosines[best]


def trained(descriptors: Float[np.ndarray, "sample dim"], num_images: int) -> "faiss.Index":
    """An empty index for so many images like these."""
    descriptors = _plain(descriptors)
    dim, product = descriptors.shape[1], faiss.METRIC_INNER_PRODUCT
    if num_images < MIN_IMAGES:
        index = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_8bit, product)
    else:
        code_dim = min(CODE_DIM, dim)
        turned = "" if code_dim == dim else f"PCAR{code_dim},"
        code = f"PQ{min(CODE_BYTES, code_dim // 4)}"
        index = faiss.index_factory(dim, f"{turned}IVF{num_lists(num_images)},{code}", product)
        # The candidates are ranked by their descriptors; a few rounds are as good as many.
        lists = _lists(index)
        lists.do_polysemous_training = False  # minutes, for a search of another kind
        lists.cp.niter, lists.pq.cp.niter = ROUNDS
        lists.pq.cp.max_points_per_centroid = TRAINING_PER_LIST
    index.train(descriptors)
    return index


def num_lists(num_images: int) -> int:
    """Of an index of so many images."""
    return max(1, min(int(4 * np.sqrt(num_images)), num_images // TRAINING_PER_LIST))


def sample(descriptors: Sequence[np.ndarray]) -> Float[np.ndarray, "sample dim"]:
    """As many as the training of an index of all of them takes."""
    count = TRAINING_PER_LIST * num_lists(len(descriptors))
    rows = np.sort(np.random.default_rng(0).permutation(len(descriptors))[:count])
    return np.stack([descriptors[int(row)] for row in rows])


def write_index(path: pathlib.Path, index: "faiss.Index") -> None:
    """Writes it by rename."""
    with files.replacing(path) as temporary:
        faiss.write_index(index, os.fspath(temporary))


def read_index(path: pathlib.Path, *, mapped: bool = False) -> "faiss.Index":
    """An index on disk.

    Args:
      mapped: its codes stay there, and are not to be added to.

    Raises:
      UsageError: it cannot be read.
    """
    files.check_regular(path)
    try:
        return faiss.read_index(os.fspath(path), faiss.IO_FLAG_MMAP if mapped else 0)
    except RuntimeError as error:
        raise UsageError(f"{path}: damaged; make it again with jaxreloc map index") from error


def add_rows(index: "faiss.Index", parts: Iterable[Sequence[np.ndarray]]) -> None:
    """Adds the rows of each part."""
    for part in parts:
        index.add(_plain(np.asarray(part)))


def _plain(descriptors: Float[Array, "rows dim"]) -> np.ndarray:
    return np.ascontiguousarray(descriptors, np.float32)


def _lists(index: "faiss.Index") -> "faiss.IndexIVF | None":
    """The inverted lists within; None where all images are compared."""
    inner = faiss.downcast_index(index)
    if isinstance(inner, faiss.IndexPreTransform):
        inner = faiss.downcast_index(inner.index)
    return inner if isinstance(inner, faiss.IndexIVF) else None

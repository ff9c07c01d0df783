"""A map in shards: each holds the features, pictures and depths of some segments.

The query is described once, where the poses of all images are. Each shard finds the most similar of
its own images and compares those that are among the most similar of all; what is known of the
chosen neighbours is then fetched, since all of them are matched on one choice of the query's cells.
"""

import collections
import concurrent.futures
import dataclasses
import functools
import pathlib
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from jaxtyping import Array, Float, Float32, Int, PyTree, UInt8

from jaxreloc.images import decode_grey
from jaxreloc.localization.map.large import kept_index
from jaxreloc.localization.map.large.kept_index import merged
from jaxreloc.localization.map.map_manifest import read_manifest
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.neighbors.retrieval import ExactIndex
from jaxreloc.usage import UsageError

FETCHED = 512  # images whose features a front keeps


class Image(NamedTuple):
    """What a shard knows of an image."""

    leaves: tuple[np.ndarray, ...]
    depth: np.ndarray | None
    jpeg: bytes


class Shard:
    """A part of a map on disk; features, pictures and depths of other parts are not read.

    Its own images are compared exactly where the map's index has no file of just them.

    Args:
      number, total: which of how many parts, as `kept_index.split` divides the segments.

    Raises:
      UsageError: it is no map, or has fewer segments.
    """

    def __init__(self, folder: pathlib.Path, number: int, total: int):
        self._map = SceneMap.open(folder)
        self.rows = np.array(_shard_rows(folder, total)[number])
        for index, rows in getattr(self._map.kept_index, "parts", ()):
            if np.array_equal(np.sort(rows[rows >= 0]), self.rows):
                self._index, self._of_map = index, rows
                return
        rows = self._map.descriptor_rows
        own = np.stack([np.asarray(rows[int(i)], np.float32) for i in self.rows])
        self._index, self._of_map = ExactIndex(own), self.rows

    def search(self, descriptors: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The most similar of its images, as rows of the map."""
        return kept_index.search_part(self._index, self._of_map, descriptors, count)

    def similarity(self, rows: np.ndarray, query_features: PyTree, padded: int) -> np.ndarray:
        """How much of the query some of its images show.

        Args:
          padded: to so many, for which one program compiles.
        """
        all_rows = np.pad(rows, (0, padded - len(rows)), mode="edge")
        return np.asarray(self._map.similarity(all_rows, query_features))[: len(rows)]

    def images(self, rows: Sequence[int]) -> list[Image]:
        """What is known of some of its images."""
        depth = self._map.depth
        return [
            Image(
                tuple(np.asarray(leaf.take(np.array([row]))[0]) for leaf in self._map.features),
                None if depth is None else depth.take(np.array([row]))[0],
                bytes(self._map.pictures[int(row)]),
            )
            for row in rows
        ]


class Shards(Protocol):
    """All shards of a map, wherever they are."""

    starts: Sequence[int]  # the first row of each

    def ask(self, number: int, method: str, *arguments: Any) -> Any:
        """What a shard's method returns."""


class ShardIndex:
    """An `Index` that asks all shards at once."""

    def __init__(self, shards: Shards, num_images: int, run: Callable):
        self._shards, self._length, self._run = shards, num_images, run

    def __len__(self) -> int:
        return self._length

    def search(
        self, descriptors: Float[Array, "queries dim"], count: int
    ) -> tuple[Int[np.ndarray, "queries count"], Float[np.ndarray, "queries count"]]:
        """See `retrieval.Index`."""
        asked = np.asarray(descriptors)
        found = self._run(
            lambda i: self._shards.ask(i, "search", asked, count), range(len(self._shards.starts))
        )
        return merged(list(found), min(count, self._length))


class ShardedPictures(Sequence):
    """The pictures of a map in shards."""

    def __init__(self, fetched: "Fetched"):
        self._fetched = fetched

    def __len__(self) -> int:
        return self._fetched.count

    def __getitem__(self, i: int) -> bytes:
        return self._fetched.take([range(len(self))[i]])[0].jpeg

    def grey(
        self, rows: Sequence[int], size: tuple[int, int]
    ) -> UInt8[np.ndarray, "N height width"] | None:
        """See `Pictures.grey`."""
        images = zip(rows, self._fetched.take(rows), strict=True)
        pictures = [decode_grey(image.jpeg, f"picture {row} of the map") for row, image in images]
        return np.stack(pictures) if all(x.shape == size for x in pictures) else None


class Fetched:
    """Images of shards; those asked for last stay here."""

    def __init__(self, shards: Shards, count: int, run: Callable):
        self._shards, self.count, self._run = shards, count, run
        self._kept: collections.OrderedDict[int, Image] = collections.OrderedDict()
        self._lock = threading.Lock()

    def take(self, rows: Sequence[int]) -> list[Image]:
        """Some images, in their order."""
        rows = [int(row) for row in rows]
        with self._lock:
            found = {row: self._kept[row] for row in set(rows) & self._kept.keys()}
        missing = by_shard(self._shards.starts, np.array(sorted(set(rows) - found.keys()), int))
        asked = self._run(lambda x: self._shards.ask(x[0], "images", x[1].tolist()), missing)
        for (_, those), images in zip(missing, asked, strict=True):
            found |= dict(zip(those.tolist(), images, strict=True))
        with self._lock:
            for row in rows:
                self._kept[row] = found[row]
                self._kept.move_to_end(row)
            while len(self._kept) > FETCHED:
                self._kept.popitem(last=False)
        return [found[row] for row in rows]


def by_shard(
    starts: Sequence[int], rows: Int[np.ndarray, "N"]
) -> list[tuple[int, Int[np.ndarray, "n"]]]:
    """The rows of each shard that has some of them."""
    owner = np.searchsorted(starts, rows, side="right") - 1
    return [(int(i), rows[owner == i]) for i in np.unique(owner)]


@dataclasses.dataclass(frozen=True)
class FetchedDepth:
    """As `CellDepth`, of a map in shards."""

    fetched: Fetched
    measured: bool
    codes: Sequence[np.ndarray]  # of one image, for its shape

    def take(self, rows: Int[np.ndarray, "N"]) -> Float32[np.ndarray, "N h w 2"]:
        """See `CellDepth.take`."""
        return np.stack([image.depth for image in self.fetched.take(rows)])


@dataclasses.dataclass(frozen=True)
class ShardedMap(SceneMap):
    """A map whose images' features are in shards; names and poses of all are here."""

    fetched: Fetched | None = None
    shards: Shards | None = None
    run: Callable = map

    def neighbor_features(self, neighbors: Int[np.ndarray, "N"]) -> tuple[PyTree, np.ndarray]:
        """See `SceneMap`."""
        images = self.fetched.take(neighbors)
        leaves = [np.stack(rows) for rows in zip(*(x.leaves for x in images), strict=True)]
        features = jax.tree.unflatten(self.feature_format, leaves)
        return features, self.network_intrinsics[neighbors]

    def similarity(
        self, rows: Int[np.ndarray, "N"], query_features: PyTree
    ) -> Float32[np.ndarray, "N"]:
        """See `SceneMap`; each shard compares its own images."""
        features = jax.tree.map(np.asarray, query_features)
        parts = by_shard(self.shards.starts, np.unique(rows))
        found = self.run(
            lambda x: self.shards.ask(x[0], "similarity", x[1], features, len(rows)), parts
        )
        known: dict[int, np.float32] = {}
        for (_, those), values in zip(parts, found, strict=True):
            known |= dict(zip(those.tolist(), values, strict=True))
        return np.array([known[int(row)] for row in rows], np.float32)


def sharded(scene_map: SceneMap, shards: Shards) -> ShardedMap:
    """The map, of which all but names and poses is asked of shards."""
    pool = concurrent.futures.ThreadPoolExecutor(max(2, 2 * len(shards.starts)), "shards")
    fetched = Fetched(shards, len(scene_map), pool.map)
    fields = {
        x.name: getattr(scene_map, x.name)
        for x in dataclasses.fields(SceneMap)
        if x.name not in ("kept_index", "pictures", "depth")
    }
    depth = scene_map.depth
    return ShardedMap(
        **fields,
        kept_index=ShardIndex(shards, len(scene_map), pool.map),
        pictures=ShardedPictures(fetched),
        depth=depth and FetchedDepth(fetched, depth.measured, depth.codes),
        fetched=fetched,
        shards=shards,
        run=pool.map,
    )


def check_index(folder: pathlib.Path, total: int) -> None:
    """Raises UsageError where a map has an index that is not of so many shards."""
    if kept_index.has_index(folder) and len(kept_index.read_parts(folder)) != total:
        raise UsageError(
            f"{folder}: its index is not in {total} parts; make it again with jaxreloc map index "
            f"--map={folder} --parts={total}"
        )


def shard_starts(folder: pathlib.Path, total: int) -> list[int]:
    """The first row of each shard of a map."""
    return [rows.start for rows in _shard_rows(folder, total)]


def _shard_rows(folder: pathlib.Path, total: int) -> list[range]:
    groups = kept_index.split(read_manifest(folder).segments, total)
    ends = np.cumsum([0, *(sum(x.num_kept for x in group) for group in groups)]).tolist()
    return [range(start, end) for start, end in zip(ends, ends[1:], strict=False)]


class OpenShards:
    """The shards of one number, of several maps; one that was changed on disk is opened anew."""

    def __init__(self, number: int, total: int, most: int = 8):
        self._number, self._total = number, total
        self._open = functools.lru_cache(most)(self._opened)

    def _opened(self, folder: str, generation: Hashable) -> Shard:
        return Shard(pathlib.Path(folder), self._number, self._total)

    def ask(self, folder: str, generation: Hashable, method: str, *arguments: Any) -> Any:
        """What the method of a map's shard returns.

        Raises:
          UsageError: the map is another one now.
        """
        if SceneMap.generation(folder) != generation:
            raise UsageError(f"{folder}: was changed; ask again")
        return getattr(self._open(folder, generation), method)(*arguments)

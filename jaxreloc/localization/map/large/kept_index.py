"""The index of a map for approximate retrieval, kept beside its segments.

    MAP/index/0123...cdef.faiss   of the images of some segments, removed too (`faiss_index`)
    MAP/index/index.json          which segments each of these files is of, and its digest

A file is named after its digest and appears before index.json names it; files that it does not name
any more are deleted after that. So a reader, or a crash, meets the old index or the new one.

A file is of PART_SIZE images at most, or of as many as a server's shard has. All files have the
lists and codes that the first one was trained with, so that images are added without training.
"""

import dataclasses
import hashlib
import json
import logging
import os
import pathlib
from collections.abc import Collection, Sequence

import numpy as np
from jaxtyping import Array, Float, Int

from jaxreloc import files, interrupts
from jaxreloc.localization.map import map_files
from jaxreloc.localization.map.large.catalogue import SegmentRows
from jaxreloc.localization.map.map_files import SEGMENTS
from jaxreloc.localization.map.map_manifest import UNREADABLE, Manifest, Segment, read_manifest
from jaxreloc.localization.map.map_segments import stored_descriptors
from jaxreloc.localization.neighbors.retrieval import Index
from jaxreloc.usage import UsageError

logger = logging.getLogger(__name__)
FOLDER, ABOUT = "index", "index.json"
PART_SIZE = 1 << 20
PAYS = 100_000  # images, from which on it is made without being asked for
WIDER = 4  # times as many are asked for, where removed images are among those found


@dataclasses.dataclass(frozen=True)
class IndexPart:
    """A file: the segments of its images, by name and digest, in the order of its rows."""

    segments: tuple[tuple[str, str | None, int], ...]
    sha256: str

    @property
    def count(self) -> int:
        """Of its images."""
        return sum(count for _, _, count in self.segments)


def has_index(folder: pathlib.Path) -> bool:
    """Whether there is one, of whatever images."""
    return (folder / FOLDER / ABOUT).exists()


def index_generation(folder: pathlib.Path) -> tuple[int, int] | None:
    """Another one after the index was changed; None where there is none."""
    return map_files.file_generation(folder / FOLDER / ABOUT)


def check_library(asker: str, otherwise: str) -> None:
    """Raises UsageError where FAISS is absent: before work that an index ends.

    Args:
      asker: the flag or the folder that needs it.
      otherwise: what else the user can do.
    """
    try:
        from jaxreloc.localization.neighbors import faiss_index  # noqa: F401
    except UsageError as error:
        raise UsageError(f"{asker} needs FAISS: {error}, or {otherwise}") from error


def write_index(folder: pathlib.Path, num_parts: int | None = None) -> int:
    """Makes the index of a map anew; returns how many files it has.

    Args:
      num_parts: files, as many as a server is to have shards; None: one for PART_SIZE images.

    Raises:
      UsageError: FAISS is absent, or the map has fewer segments than parts.
    """
    from jaxreloc.localization.neighbors import faiss_index

    with map_files.locked(folder):
        segments = read_manifest(folder).segments
        total = sum(segment.num_images for segment in segments)
        groups = split(segments, num_parts or -(-total // PART_SIZE))
        everything = stored_rows(folder, segments)
        empty = faiss_index.trained(faiss_index.sample(everything), total)
        parts = []
        for group in groups:
            faiss_index.add_rows(empty, (stored_descriptors(folder / SEGMENTS, x) for x in group))
            parts.append(_written(folder, empty, _told(group)))
            empty.reset()
        _write_about(folder, parts)
    return len(parts)


def grow_index(folder: pathlib.Path) -> None:
    """Adds the images of segments that the index does not know; the others are not read."""
    with map_files.locked(folder):
        parts = read_parts(folder)
        known = {segment for part in parts for segment in part.segments}
        missing = [x for x in read_manifest(folder).segments if _told([x])[0] not in known]
        if not missing:  # as after images were removed, which needs no FAISS
            return
        from jaxreloc.localization.neighbors import faiss_index

        for segment in missing:
            last = parts[-1]
            index = faiss_index.read_index(_path(folder, last))
            if last.count + segment.num_images > max(PART_SIZE, parts[0].count):
                index.reset()
                last = IndexPart((), "")
                parts.append(last)
            faiss_index.add_rows(index, [stored_descriptors(folder / SEGMENTS, segment)])
            parts[-1] = _written(folder, index, (*last.segments, *_told([segment])))
        _write_about(folder, parts)


def open_index(folder: pathlib.Path, manifest: Manifest) -> "KeptIndex | None":
    """The index of a map; None where there is none of all its images.

    Raises:
      UsageError: it is damaged.
    """
    if not has_index(folder):
        return None
    parts = read_parts(folder)
    known = {segment for part in parts for segment in part.segments}
    missing = [x for x in manifest.segments if _told([x])[0] not in known]
    if missing:
        count = sum(x.num_images for x in missing)
        logger.warning(
            "%s: the index lacks %d images and is not used; jaxreloc map index makes it again",
            folder,
            count,
        )
        return None
    try:
        return KeptIndex(folder, manifest, parts)
    except FileNotFoundError:
        if read_parts(folder) == parts:
            raise UsageError(
                f"{folder / FOLDER}: a file of the index is absent; make it again with jaxreloc "
                "map index"
            ) from None
        return open_index(folder, manifest)  # it was replaced meanwhile
    except UsageError as error:
        if "pip install" not in str(error):
            raise
        logger.warning("%s: its index is not used (%s)", folder, error)
        return None


class KeptIndex:
    """An `Index` of a map on disk.

    Args:
      parts: its files, or those of some of its images.
    """

    def __init__(self, folder: pathlib.Path, manifest: Manifest, parts: Sequence[IndexPart]):
        from jaxreloc.localization.neighbors.faiss_index import FaissIndex

        rows = _rows_of_map(manifest)
        self.parts: list[tuple[Index, np.ndarray]] = []
        for part in parts:
            if not any(name in rows for name, *_ in part.segments):
                continue  # all its images were removed
            path = _path(folder, part)
            if not path.exists():
                raise FileNotFoundError(path)
            with files.open_regular(path) as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != part.sha256:
                    raise UsageError(f"{path}: damaged; make it again with jaxreloc map index")
            segments = [Segment(name, count, (), "", sha) for name, sha, count in part.segments]
            index = FaissIndex.open(path, stored_rows(folder, segments, rows))
            of_map = [rows.get(x.name, np.full(x.num_images, -1)) for x in segments]
            self.parts.append((index, np.concatenate(of_map)))
        self._length = sum(int((x >= 0).sum()) for _, x in self.parts)

    def __len__(self) -> int:
        return self._length

    def search(
        self, descriptors: Float[Array, "queries dim"], count: int
    ) -> tuple[Int[np.ndarray, "queries count"], Float[np.ndarray, "queries count"]]:
        """See `retrieval.Index`; the rows are the map's."""
        found = [search_part(index, rows, descriptors, count) for index, rows in self.parts]
        return merged(found, min(count, len(self)))


def search_part(
    index: Index, rows: Int[np.ndarray, "M"], descriptors: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """What an index of stored images finds, as rows of the map; removed ones come last, as -1."""
    asked = count + int((rows < 0).any())
    while True:
        found, cosines = index.search(np.asarray(descriptors), asked)
        of_map = rows[found]
        if asked >= len(rows) or ((of_map >= 0).sum(axis=1) >= count).all():
            return of_map, np.where(of_map >= 0, cosines, -np.inf)
        asked = min(len(rows), WIDER * asked)


def merged(
    found: Sequence[tuple[np.ndarray, np.ndarray]], count: int
) -> tuple[np.ndarray, np.ndarray]:
    """The most similar of what several indices found; equal ones keep the order of the map.

    Where fewer than `count` images were found, the best one is repeated, or the map's first one.
    """
    rows = np.concatenate([x for x, _ in found], axis=1)
    cosines = np.concatenate([x for _, x in found], axis=1)
    for row, cosine in zip(rows, cosines, strict=True):
        _, first = np.unique(row, return_index=True)
        again = np.ones(len(row), bool)
        again[first] = False
        row[again], cosine[again] = -1, -np.inf
    order = np.lexsort((rows, -cosines), axis=1)[:, :count]
    rows, cosines = (np.take_along_axis(x, order, axis=1) for x in (rows, cosines))
    best = np.maximum(rows[:, :1], 0)
    return np.where(rows >= 0, rows, best), cosines


def split(segments: Sequence[Segment], num_parts: int) -> list[tuple[Segment, ...]]:
    """Groups of about as many images, in order.

    Raises:
      UsageError: there are fewer segments.
    """
    if not 1 <= num_parts <= len(segments):
        raise UsageError(
            f"{num_parts} parts of a map of {len(segments)} segments; give at most that many"
        )
    ends = np.cumsum([segment.num_images for segment in segments])
    group_of = np.minimum((ends - 1) * num_parts // ends[-1], num_parts - 1)
    # None is empty: segments are spread evenly where their sizes would leave one so.
    if len(set(group_of.tolist())) < num_parts:
        group_of = np.arange(len(segments)) * num_parts // len(segments)
    return [
        tuple(x for x, group in zip(segments, group_of) if group == i) for i in range(num_parts)
    ]


def read_parts(folder: pathlib.Path) -> list[IndexPart]:
    """What index.json says.

    Raises:
      UsageError: it is damaged.
    """
    path = folder / FOLDER / ABOUT
    try:
        told = json.loads(files.read_bytes(path, limit=1 << 28))["parts"]
        return [
            IndexPart(
                tuple((str(n), s and str(s), int(c)) for n, s, c in part["segments"]),
                str(part["sha256"]),
            )
            for part in told
        ]
    except UNREADABLE as error:
        raise UsageError(
            f"{path}: damaged ({error!r}); make it again with jaxreloc map index"
        ) from error


def stored_rows(
    folder: pathlib.Path, segments: Sequence[Segment], present: Collection[str] | None = None
) -> SegmentRows:
    """Descriptors of segments, removed rows too, mapped from disk.

    Args:
      present: names of the segments that the map still has, others are zeros; None: all.
    """
    opened: dict[int, np.ndarray] = {}
    there = [i for i, x in enumerate(segments) if present is None or x.name in present]

    def part(i: int) -> np.ndarray:
        if i not in opened and i in there:
            opened[i] = stored_descriptors(folder / SEGMENTS, segments[i])
        elif i not in opened:
            like = part(there[0])[0]
            opened[i] = np.broadcast_to(np.zeros_like(like), (segments[i].num_images, len(like)))
        return opened[i]

    return SegmentRows([segment.num_images for segment in segments], part)


def _rows_of_map(manifest: Manifest) -> dict[str, np.ndarray]:
    """The map's row of each stored image, -1 of removed ones, by segment."""
    rows, first = {}, 0
    for segment in manifest.segments:
        kept = np.setdiff1d(np.arange(segment.num_images), segment.removed)
        rows[segment.name] = np.full(segment.num_images, -1)
        rows[segment.name][kept] = first + np.arange(len(kept))
        first += len(kept)
    return rows


def _told(segments: Sequence[Segment]) -> tuple[tuple[str, str | None, int], ...]:
    return tuple((x.name, x.files_sha256, x.num_images) for x in segments)


def _written(folder: pathlib.Path, index: object, segments: tuple) -> IndexPart:
    from jaxreloc.localization.neighbors import faiss_index

    (folder / FOLDER).mkdir(exist_ok=True)
    temporary = folder / FOLDER / f".{os.getpid()}.new"
    with interrupts.temporary(temporary):
        faiss_index.write_index(temporary, index)
        part = IndexPart(segments, files.sha256(temporary))
        os.replace(temporary, _path(folder, part))
    return part


def _write_about(folder: pathlib.Path, parts: Sequence[IndexPart]) -> None:
    text = json.dumps({"parts": [dataclasses.asdict(part) for part in parts]})
    files.write_text(folder / FOLDER / ABOUT, text)
    named = {_path(folder, part) for part in parts}
    for path in set((folder / FOLDER).glob("*.faiss")) - named:
        path.unlink(missing_ok=True)


def _path(folder: pathlib.Path, part: IndexPart) -> pathlib.Path:
    return folder / FOLDER / f"{part.sha256[:16]}.faiss"

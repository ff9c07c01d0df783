"""The catalogue of a map: poses and names of all images in one file, so that it opens at once.

    MAP/catalogue.npz    arrays of all images that were not removed, in the order of the segments
    MAP/catalogue.json   the digest of that file, and of the segments that it was made of

Everything in it is also in the segments. A catalogue of other segments than the manifest names is
not read, so that it may be absent or old. Features, pictures, depths and descriptors stay in the
segments, whose files are opened when a row of theirs is first asked for.
"""

import bisect
import dataclasses
import functools
import hashlib
import io
import json
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from jaxreloc import files
from jaxreloc.localization.map.encoding import CellDepth, EncodedImages
from jaxreloc.localization.map.map_files import SEGMENTS
from jaxreloc.localization.map.map_manifest import UNREADABLE, Manifest
from jaxreloc.localization.map.map_segments import mapped_rows
from jaxreloc.usage import UsageError

FILE_NAME, ABOUT = "catalogue.npz", "catalogue.json"
MIN_IMAGES = 4096  # of a map that has one
OPENED = 256  # segments whose files are open


def write_catalogue(folder: pathlib.Path, manifest: Manifest, images: EncodedImages) -> None:
    """Writes the catalogue of a map with these images.

    Args:
      images: of all segments, without those that were removed.
    """
    names = [name.encode("utf-8", "surrogatepass") for name in images.names]
    arrays = {
        "names": np.frombuffer(b"".join(names), np.uint8),
        "lengths": np.array([len(name) for name in names], np.int32),
        "world_from_cam": images.world_from_cam,
        "intrinsics": images.intrinsics,
        "image_sizes": images.image_sizes,
        "network_intrinsics": np.asarray(images.network_intrinsics, np.float32),
        "unit": np.zeros(0, np.float32) if images.depth is None else images.depth.unit,
    }
    file = io.BytesIO()
    np.savez(file, **arrays)
    content = file.getvalue()
    files.write_bytes(folder / FILE_NAME, content)
    about = {"sha256": hashlib.sha256(content).hexdigest(), "segments": _key(manifest)}
    files.write_text(folder / ABOUT, json.dumps(about))


def remove_catalogue(folder: pathlib.Path) -> None:
    """What is left is a map all the same."""
    for name in (ABOUT, FILE_NAME):
        (folder / name).unlink(missing_ok=True)


def read_catalogue(folder: pathlib.Path, manifest: Manifest) -> EncodedImages | None:
    """The images of a map; None where there is no catalogue of just its segments.

    Raises:
      UsageError: it is damaged.
    """
    path = folder / FILE_NAME
    if not (folder / ABOUT).exists():
        return None
    try:
        about = json.loads(files.read_bytes(folder / ABOUT, limit=1 << 20))
        if about["segments"] != _key(manifest):
            return None
        content = files.read_bytes(path, limit=path.stat().st_size if path.exists() else 0)
        if hashlib.sha256(content).hexdigest() != about["sha256"]:
            raise ValueError("its checksum is not the one that was written")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            found = dict(arrays)
        ends = np.cumsum(found["lengths"]).tolist()
        joined = found["names"].tobytes()
        names = tuple(
            joined[start:end].decode("utf-8", "surrogatepass")
            for start, end in zip([0, *ends[:-1]], ends, strict=True)
        )
    except UNREADABLE as error:
        raise UsageError(
            f"{path}: damaged ({error}); remove it, the map opens without"
        ) from error
    return _mapped(folder, manifest, names, found)


def _mapped(
    folder: pathlib.Path, manifest: Manifest, names: tuple[str, ...], found: dict
) -> EncodedImages:
    segments = manifest.segments
    opened = functools.lru_cache(OPENED)(
        lambda i: mapped_rows(folder / SEGMENTS, segments[i])
    )
    sizes = [segment.num_kept for segment in segments]

    def rows(of: Callable) -> SegmentRows:
        return SegmentRows(sizes, lambda i: of(opened(i)))

    depth = None
    if all(segment.depth for segment in segments):
        measured = all(segment.depth == "measured" for segment in segments)
        depth = CellDepth(rows(lambda x: x.codes), found["unit"], measured=measured)
    return EncodedImages(
        names=names,
        **{
            name: found[name]
            for name in ("world_from_cam", "intrinsics", "image_sizes", "network_intrinsics")
        },
        descriptors=rows(lambda x: x.descriptors),
        features=tuple(
            rows(lambda x, i=i: x.features[i]) for i in range(len(opened(0).features))
        ),
        pictures=rows(lambda x: x.pictures),
        depth=depth,
    )


class SegmentRows(Sequence):
    """Rows of all segments as one; a segment is opened when a row of it is asked for.

    Args:
      sizes: how many rows each segment has.
      part: the rows of a segment.
    """

    def __init__(self, sizes: Sequence[int], part: Callable[[int], Sequence]):
        self._starts = [0, *np.cumsum(sizes).tolist()]
        self._part = part

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, i: int):
        i = range(len(self))[i]
        part = bisect.bisect_right(self._starts, i) - 1
        return self._part(part)[i - self._starts[part]]

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        """All of it, which may be a lot."""
        whole = np.stack([row for i in range(len(self._starts) - 1) for row in self._part(i)])
        return whole if dtype is None else whole.astype(dtype)


def _key(manifest: Manifest) -> str:
    """Of the segments that a manifest names."""
    told = [dataclasses.asdict(segment) for segment in manifest.segments]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

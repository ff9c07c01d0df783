"""A segment of a scene map on disk: one folder of arrays, each with a row an image.

    frames.json            name, world_from_cam, intrinsics and size of each image
    network_intrinsics.npy, descriptors.npy, feature_000.npy, ...
    pictures/000000.jpg          (thumbnails/ in earlier versions, which are small)
    files.json                   the digests of all these (`file_digests`), from version 2 on
    descriptor_rows.json         digests of the descriptors by row
    depth.npy, depth_unit.npy    of the cells, where it is known; may come later
    depth_files.json             the digests of these two

Arrays are opened by memory-mapping and never unpickled.
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Float64, Int64

from jaxreloc import files
from jaxreloc.formats.frames import Selection, rigid
from jaxreloc.localization.map.encoding import CellDepth, EncodedImages
from jaxreloc.localization.map.file_digests import (
    MAX_BYTES,
    CheckedRows,
    FileDigests,
    read_digests,
    write_digests,
)
from jaxreloc.localization.map.map_manifest import UNREADABLE, Segment
from jaxreloc.new_folder import new_folder
from jaxreloc.usage import UsageError

FRAMES = "frames.json"
NETWORK_INTRINSICS = "network_intrinsics.npy"
DESCRIPTORS = "descriptors.npy"
PICTURES = ("pictures", "thumbnails")  # the second is an earlier version's
DEPTH = "depth.npy"
DEPTH_UNIT = "depth_unit.npy"
DEPTH_DIGESTS = "depth_files.json"
DESCRIPTOR_DIGESTS = "descriptor_rows.json"
NONE = np.zeros(0, "S1")  # digests of no row


def write_segment(parent: pathlib.Path, number: int, images: EncodedImages) -> Segment:
    """Writes `parent/NUMBER`, which appears whole."""
    name = f"{number:06d}"
    with new_folder(parent / name) as folder:
        _write_frames(folder, images)
        np.save(folder / NETWORK_INTRINSICS, images.network_intrinsics)
        np.save(folder / DESCRIPTORS, images.descriptors)
        for i, leaf in enumerate(images.features):
            np.save(folder / f"feature_{i:03d}.npy", leaf)
        (folder / PICTURES[0]).mkdir()
        for i, jpeg in enumerate(images.pictures):
            (folder / PICTURES[0] / f"{i:06d}.jpg").write_bytes(jpeg)
        write_digests(folder, [], {DESCRIPTORS: images.descriptors}, DESCRIPTOR_DIGESTS)
        mapped = {f"feature_{i:03d}.npy": leaf for i, leaf in enumerate(images.features)}
        digest = write_digests(folder, _files_in(folder), mapped)
        of_depth = None if images.depth is None else write_depth(folder, images.depth)
    return Segment(name, len(images.names), (), depth_source(images.depth), digest, of_depth)


def write_depth(folder: pathlib.Path, depth: CellDepth) -> str:
    """Writes the depth of a segment's images, in the order of its rows; returns its digest."""
    arrays = {DEPTH: np.asarray(depth.codes), DEPTH_UNIT: np.asarray(depth.unit)}
    for name, array in arrays.items():
        with files.replacing(folder / name) as temporary, open(temporary, "wb") as file:
            np.save(file, array)
    return write_digests(folder, sorted(arrays), {DEPTH: arrays[DEPTH]}, DEPTH_DIGESTS)


def depth_source(depth: CellDepth | None) -> str:
    """What the manifest says of it."""
    if depth is None:
        return ""
    return "measured" if depth.measured else "triangulated"


def read_segment(parent: pathlib.Path, segment: Segment) -> EncodedImages:
    """The images of a segment without the removed ones.

    Features stay mapped files: only the rows that are asked for are read, and checked.

    Raises:
      UsageError: a file is absent or damaged; it is named.
    """
    folder = parent / segment.name
    digests = _digests(folder, segment)
    names, world_from_cam, intrinsics, image_sizes = _read_frames(folder, segment, digests)
    rows = mapped_rows(parent, segment)
    kept = rows.kept

    def read(path: pathlib.Path) -> np.ndarray:
        return _read_checked(path, segment.num_images, digests)

    return EncodedImages(
        names=tuple(names[row] for row in kept),
        world_from_cam=world_from_cam[kept],
        intrinsics=intrinsics[kept],
        image_sizes=image_sizes[kept],
        network_intrinsics=read(folder / NETWORK_INTRINSICS)[kept],
        descriptors=read(folder / DESCRIPTORS)[kept],
        features=rows.features,
        pictures=rows.pictures,
        depth=_read_depth(folder, segment, rows),
    )


@dataclasses.dataclass(frozen=True)
class MappedRows:
    """What stays on disk of a segment's images, without the removed ones."""

    kept: Int64[np.ndarray, "k"]
    features: tuple[Selection, ...]
    pictures: Selection
    descriptors: Selection
    codes: Selection | None  # of the depths


def mapped_rows(parent: pathlib.Path, segment: Segment) -> MappedRows:
    """Opens a segment's files; only the rows that are asked for are read, and checked.

    Raises:
      UsageError: a file is absent or damaged; it is named.
    """
    folder = parent / segment.name
    digests = _digests(folder, segment)
    kept = np.setdiff1d(np.arange(segment.num_images), segment.removed)
    kind = next((x for x in PICTURES if (folder / x).is_dir()), PICTURES[0])

    def mapped(path: pathlib.Path) -> Sequence[np.ndarray]:
        array = _read_array(path, segment.num_images)
        return array if digests is None else CheckedRows(array, digests.rows[path.name], path)

    return MappedRows(
        kept=kept,
        features=tuple(Selection(mapped(path), kept) for path in _feature_files(folder, digests)),
        pictures=Selection(_PictureFiles(folder, kind, segment.num_images, digests), kept),
        descriptors=Selection(stored_descriptors(parent, segment), kept),
        codes=Selection(_depth_codes(folder, segment), kept) if segment.depth else None,
    )


def stored_descriptors(
    parent: pathlib.Path, segment: Segment
) -> Float[np.ndarray, "N D"] | CheckedRows:
    """Of all images of a segment, removed ones too, mapped into memory.

    Rows are checked as they are read; maps of earlier versions have no digests of them.
    """
    folder = parent / segment.name
    array = _read_array(folder / DESCRIPTORS, segment.num_images)
    digests = _digests(folder, segment)
    if digests is None or DESCRIPTOR_DIGESTS not in digests.files:
        return array
    rows = read_digests(folder, digests.files[DESCRIPTOR_DIGESTS], DESCRIPTOR_DIGESTS).rows
    return CheckedRows(array, rows.get(DESCRIPTORS, NONE), folder / DESCRIPTORS)


@dataclasses.dataclass(frozen=True)
class _PictureFiles(Sequence):
    """JPEG files, read and checked when asked for."""

    folder: pathlib.Path
    kind: str  # of PICTURES
    num_images: int
    digests: FileDigests | None

    def __len__(self) -> int:
        return self.num_images

    def __getitem__(self, row: int) -> bytes:
        name = f"{self.kind}/{row:06d}.jpg"
        if self.digests is None:
            return files.read_bytes(self.folder / name, limit=MAX_BYTES)
        return self.digests.read(name)


def _read_depth(
    folder: pathlib.Path, segment: Segment, rows: MappedRows
) -> CellDepth | None:
    if rows.codes is None:
        return None
    digests = _depth_digests(folder, segment)
    unit = _read_checked(folder / DEPTH_UNIT, segment.num_images, digests)[rows.kept]
    if unit.ndim != 1 or not (np.isfinite(unit).all() and (unit > 0).all()):
        raise UsageError(f"{folder / DEPTH_UNIT}: damaged; build the map again")
    return CellDepth(rows.codes, unit, measured=segment.depth == "measured")


def _depth_codes(folder: pathlib.Path, segment: Segment) -> Sequence[np.ndarray]:
    digests = _depth_digests(folder, segment)
    codes = _read_array(folder / DEPTH, segment.num_images)
    if not (codes.ndim == 3 and codes.dtype == np.uint16 or codes.ndim == 4):
        raise UsageError(f"{folder / DEPTH}: damaged; build the map again")
    return codes if digests is None else CheckedRows(
        codes, digests.rows.get(DEPTH, NONE), folder / DEPTH
    )


def read_names(parent: pathlib.Path, segment: Segment) -> dict[str, int]:
    """The row of each image that was not removed, by its name.

    Raises:
      UsageError: frames.json is absent or damaged.
    """
    folder = parent / segment.name
    names = _read_frames(folder, segment, _digests(folder, segment))[0]
    return {name: row for row, name in enumerate(names) if row not in segment.removed}


def segment_problems(parent: pathlib.Path, segment: Segment) -> list[str]:
    """A line for each file that is absent, or not the one that was written."""
    problems, folder = [], parent / segment.name
    for read in (_digests, _depth_digests) if segment.depth else (_digests,):
        try:
            digests = read(folder, segment)
        except UsageError as error:
            problems.append(str(error))
            continue
        if digests is None:
            problems.append(f"{folder}: cannot be checked, an earlier version wrote it")
        else:
            problems += digests.problems()
    return problems


def _digests(folder: pathlib.Path, segment: Segment) -> FileDigests | None:
    """None: an earlier version wrote the segment."""
    if segment.files_sha256 is None:
        return None
    return read_digests(folder, segment.files_sha256)


def _depth_digests(folder: pathlib.Path, segment: Segment) -> FileDigests | None:
    """None: an earlier version wrote its depth."""
    if segment.depth_sha256 is None:
        return None
    return read_digests(folder, segment.depth_sha256, DEPTH_DIGESTS)


def _files_in(folder: pathlib.Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    )


def _feature_files(folder: pathlib.Path, digests: FileDigests | None) -> list[pathlib.Path]:
    if digests is None:
        return sorted(folder.glob("feature_*.npy"))
    return [folder / name for name in sorted(digests.rows)]


def _write_frames(folder: pathlib.Path, images: EncodedImages) -> None:
    """Raises UsageError for a pose that could not be read again."""
    for name, pose in zip(images.names, images.world_from_cam, strict=True):
        rigid(pose, name)
    fields = images.names, images.world_from_cam, images.intrinsics, images.image_sizes
    frames = [
        {
            "name": name,
            "world_from_cam": world_from_cam.tolist(),
            "intrinsics": intrinsics.tolist(),
            "image_size": image_size.tolist(),
        }
        for name, world_from_cam, intrinsics, image_size in zip(*fields, strict=True)
    ]
    (folder / FRAMES).write_text(json.dumps(frames), encoding="utf-8")


def _read_frames(
    folder: pathlib.Path, segment: Segment, digests: FileDigests | None
) -> tuple[
    tuple[str, ...],
    Float64[np.ndarray, "n 4 4"],
    Float64[np.ndarray, "n 3 3"],
    Int64[np.ndarray, "n 2"],
]:
    path = folder / FRAMES
    try:
        unchecked = digests is None
        content = files.read_bytes(path, limit=MAX_BYTES) if unchecked else digests.read(FRAMES)
        frames = json.loads(content.decode())
        names = tuple(str(frame["name"]) for frame in frames)
        matrices = np.array([frame["world_from_cam"] for frame in frames], np.float64)
        world_from_cam = np.array(
            [rigid(*x) for x in zip(matrices, (f"{path}: {name}" for name in names), strict=True)]
        )
        intrinsics = np.array([frame["intrinsics"] for frame in frames], np.float64)
        image_sizes = np.array([frame["image_size"] for frame in frames], np.int64)
        n = segment.num_images
        if (len(names), intrinsics.shape, image_sizes.shape) != (n, (n, 3, 3), (n, 2)):
            raise ValueError(f"{len(names)} images, not {n}")
        if not np.isfinite(intrinsics).all():
            raise ValueError("NaN or infinite intrinsics")
    except UNREADABLE as error:
        raise UsageError(f"{path}: damaged ({error!r}); build the map again") from error
    return names, world_from_cam, intrinsics, image_sizes


def _read_checked(path: pathlib.Path, rows: int, digests: FileDigests | None) -> np.ndarray:
    """An array that is needed whole, by the digest of its file."""
    if digests is None:
        return _read_array(path, rows)
    with digests.opened(path.name) as file:
        return _parsed_array(path, rows, lambda: np.load(file, allow_pickle=False))


def _read_array(path: pathlib.Path, rows: int) -> np.ndarray:
    """Mapped into memory."""
    files.check_regular(path)
    return _parsed_array(path, rows, lambda: np.load(path, mmap_mode="r", allow_pickle=False))


def _parsed_array(path: pathlib.Path, rows: int, load: Callable[[], np.ndarray]) -> np.ndarray:
    try:
        array = load()
        if array.dtype.kind not in "fiu" or array.ndim < 1 or len(array) != rows:
            raise ValueError(f"{array.dtype} of shape {array.shape}, not {rows} rows of numbers")
        return array
    # NumPy tokenizes a header as Python, and raises whatever that does of a damaged one.
    except Exception as error:
        raise UsageError(f"{path}: damaged ({error}); build the map again") from error

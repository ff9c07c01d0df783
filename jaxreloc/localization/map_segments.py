"""A segment of a scene map on disk: one folder of arrays, each with a row an image.

    frames.json            name, world_from_cam, intrinsics and size of each image
    network_intrinsics.npy, descriptors.npy, feature_000.npy, ...
    thumbnails/000000.jpg
    depth.npy, depth_unit.npy    of the cells, where it is known; may come later

Arrays are opened by memory-mapping and never unpickled.
"""

import json
import pathlib

import numpy as np
from jaxtyping import Float64, Int64

from jaxreloc import files
from jaxreloc.formats.frames import Selection, rigid
from jaxreloc.localization.encoding import CellDepth, EncodedImages
from jaxreloc.localization.map_manifest import Segment
from jaxreloc.localization.new_folder import new_folder
from jaxreloc.usage import UsageError

FRAMES = "frames.json"
NETWORK_INTRINSICS = "network_intrinsics.npy"
DESCRIPTORS = "descriptors.npy"
THUMBNAILS = "thumbnails"
DEPTH = "depth.npy"
DEPTH_UNIT = "depth_unit.npy"


def write_segment(parent: pathlib.Path, number: int, images: EncodedImages) -> Segment:
    """Writes `parent/NUMBER`, which appears whole."""
    name = f"{number:06d}"
    with new_folder(parent / name) as folder:
        _write_frames(folder, images)
        np.save(folder / NETWORK_INTRINSICS, images.network_intrinsics)
        np.save(folder / DESCRIPTORS, images.descriptors)
        for i, leaf in enumerate(images.features):
            np.save(folder / f"feature_{i:03d}.npy", leaf)
        (folder / THUMBNAILS).mkdir()
        for i, thumbnail in enumerate(images.thumbnails):
            (folder / THUMBNAILS / f"{i:06d}.jpg").write_bytes(thumbnail)
        if images.depth is not None:
            write_depth(folder, images.depth)
    return Segment(name, len(images.names), (), depth_source(images.depth))


def write_depth(folder: pathlib.Path, depth: CellDepth) -> None:
    """Writes the depth of a segment's images, in the order of its rows."""
    for name, array in ((DEPTH, depth.values), (DEPTH_UNIT, depth.unit)):
        with files.replacing(folder / name) as temporary, open(temporary, "wb") as file:
            np.save(file, np.asarray(array))


def depth_source(depth: CellDepth | None) -> str:
    """What the manifest says of it."""
    if depth is None:
        return ""
    return "measured" if depth.measured else "triangulated"


def read_segment(parent: pathlib.Path, segment: Segment) -> EncodedImages:
    """The images of a segment without the removed ones.

    Features stay mapped files: only the rows that are asked for are read.

    Raises:
      UsageError: a file is absent or damaged; it is named.
    """
    folder = parent / segment.name
    names, world_from_cam, intrinsics, image_sizes = _read_frames(folder, segment)
    kept = np.setdiff1d(np.arange(segment.num_images), segment.removed)

    def read(path: pathlib.Path) -> np.ndarray:
        return _read_array(path, segment.num_images)

    return EncodedImages(
        names=tuple(names[row] for row in kept),
        world_from_cam=world_from_cam[kept],
        intrinsics=intrinsics[kept],
        image_sizes=image_sizes[kept],
        network_intrinsics=read(folder / NETWORK_INTRINSICS)[kept],
        descriptors=read(folder / DESCRIPTORS)[kept],
        features=tuple(
            Selection(read(path), kept) for path in sorted(folder.glob("feature_*.npy"))
        ),
        thumbnails=[folder / THUMBNAILS / f"{row:06d}.jpg" for row in kept],
        depth=_read_depth(folder, segment, kept),
    )


def _read_depth(
    folder: pathlib.Path, segment: Segment, kept: Int64[np.ndarray, "k"]
) -> CellDepth | None:
    if not segment.depth:
        return None
    values = _read_array(folder / DEPTH, segment.num_images)
    unit = _read_array(folder / DEPTH_UNIT, segment.num_images)[kept]
    if values.ndim != 4 or unit.ndim != 1 or not (np.isfinite(unit).all() and (unit > 0).all()):
        raise UsageError(f"{folder / DEPTH}: damaged; build the map again")
    return CellDepth(Selection(values, kept), unit, measured=segment.depth == "measured")


def read_names(parent: pathlib.Path, segment: Segment) -> dict[str, int]:
    """The row of each image that was not removed, by its name.

    Raises:
      UsageError: frames.json is absent or damaged.
    """
    names = _read_frames(parent / segment.name, segment)[0]
    return {name: row for row, name in enumerate(names) if row not in segment.removed}


def _write_frames(folder: pathlib.Path, images: EncodedImages) -> None:
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
    folder: pathlib.Path, segment: Segment
) -> tuple[
    tuple[str, ...],
    Float64[np.ndarray, "n 4 4"],
    Float64[np.ndarray, "n 3 3"],
    Int64[np.ndarray, "n 2"],
]:
    path = folder / FRAMES
    try:
        frames = json.loads(path.read_text(encoding="utf-8"))
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
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: damaged ({error}); build the map again") from error
    return names, world_from_cam, intrinsics, image_sizes


def _read_array(path: pathlib.Path, rows: int) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if len(array) != rows:
            raise ValueError(f"{len(array)} rows, not {rows}")
    except (OSError, ValueError, TypeError, EOFError) as error:
        raise UsageError(f"{path}: damaged ({error}); build the map again") from error
    return array

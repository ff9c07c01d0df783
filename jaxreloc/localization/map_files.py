"""A scene map on disk: a folder of JSON, NumPy arrays, JPEG thumbnails and the network.

    MAP/manifest.json          version, conventions, the network's fingerprint, the segments
    MAP/network.safetensors    the network that made the map
    MAP/segments/000000/       images added together:
        frames.json            name, world_from_cam, intrinsics and size of each image
        network_intrinsics.npy, descriptors.npy, feature_000.npy, ...   one row an image
        thumbnails/000000.jpg

Only the manifest is ever replaced, by rename; a segment is complete before the manifest names it
and is deleted after the manifest has forgotten it. A crash at any moment therefore leaves the old
map or the new one. Nothing read from a map is executed (arrays are loaded without pickle), and no
path in a manifest is followed outside the map.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from typing import Any

import numpy as np

from jaxreloc import files
from jaxreloc.formats.frames import rigid
from jaxreloc.localization.encoding import EncodedImages
from jaxreloc.models.saved_network import FILE_NAME as NETWORK_FILE
from jaxreloc.usage import UsageError

FORMAT = "jaxreloc scene map"
VERSION = 1
MANIFEST = "manifest.json"
SEGMENTS = "segments"
LOCK = "lock"
CONVENTIONS = {
    "world_from_cam": "4x4, x_world = world_from_cam @ x_cam, metres",
    "camera_axes": "x right, y down, z forward",
    "pixels": "(0, 0) is the centre of the top-left pixel",
}


@dataclasses.dataclass(frozen=True)
class Segment:
    """What the manifest says of a segment."""

    name: str
    num_images: int
    removed: tuple[int, ...]  # rows that `remove` took out


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The content of manifest.json."""

    network_sha256: str
    segments: tuple[Segment, ...]


def create(
    folder: pathlib.Path, save_network: Callable[[pathlib.Path], object], images: EncodedImages
) -> None:
    """Writes a new map; the folder appears whole, by rename.

    Args:
      save_network: writes the network that made the map into a folder, as NETWORK_FILE.

    Raises:
      UsageError: the folder exists, or cannot be written.
    """
    check_new(folder)
    with _new_folder(folder) as temporary:
        save_network(temporary)
        segment = _write_segment(temporary / SEGMENTS, 0, images)
        _write_manifest(temporary, Manifest(_sha256(temporary / NETWORK_FILE), (segment,)))


def check_new(folder: pathlib.Path) -> None:
    """Raises UsageError if there is something where a new map is to be."""
    if folder.exists():
        raise UsageError(f"{folder}: exists; choose another --out, or add to it with `map add`")


def add(folder: pathlib.Path, images: EncodedImages) -> None:
    """Adds a segment.

    Raises:
      UsageError: an image of that name is in the map, or the folder cannot be written.
    """
    with _locked(folder):
        manifest = read_manifest(folder)
        known = {name for s in manifest.segments for name in read_segment(folder, s).names}
        if doubled := sorted(known & set(images.names)):
            raise UsageError(
                f"{folder}: {doubled[0]} (and {len(doubled) - 1} more) is in the map already; "
                "remove it first, or leave it out"
            )
        _delete_forgotten(folder, manifest)
        number = 1 + max((int(segment.name) for segment in manifest.segments), default=-1)
        segment = _write_segment(folder / SEGMENTS, number, images)
        segments = (*manifest.segments, segment)
        _write_manifest(folder, dataclasses.replace(manifest, segments=segments))


def remove(folder: pathlib.Path, names: Collection[str]) -> None:
    """Takes images out by name; the others are not touched.

    Raises:
      UsageError: a name is not in the map, or no image would be left.
    """
    with _locked(folder):
        manifest = read_manifest(folder)
        missing, segments = set(names), []
        for segment in manifest.segments:
            rows = {name: row for row, name in enumerate(_read_frames(folder, segment)[0])}
            present = {name: row for name, row in rows.items() if row not in segment.removed}
            gone = {present[name] for name in missing & set(present)}
            missing -= set(present)
            removed = tuple(sorted(gone | set(segment.removed)))
            if len(removed) < segment.num_images:
                segments.append(dataclasses.replace(segment, removed=removed))
        if missing:
            raise UsageError(f"{folder}: {sorted(missing)[0]} is not in the map; check its name")
        if not segments:
            raise UsageError(f"{folder}: no image would be left; delete the folder instead")
        _write_manifest(folder, dataclasses.replace(manifest, segments=tuple(segments)))
        _delete_forgotten(folder, read_manifest(folder))


def read_manifest(folder: pathlib.Path) -> Manifest:
    """What the map holds.

    Raises:
      UsageError: it is no map, of another version, or damaged.
    """
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"its format is {content['format']!r}")
    except FileNotFoundError as error:
        raise UsageError(f"{folder}: no scene map; make one with run_localize.py map") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: not a map's manifest ({error}); build the map again") from error
    if content.get("version") != VERSION:
        raise UsageError(
            f"{path}: map of version {content.get('version')}, this program reads {VERSION}; "
            "build the map again"
        )
    try:
        return Manifest(
            network_sha256=str(content["network_sha256"]),
            segments=tuple(_parse_segment(entry) for entry in content["segments"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: damaged ({error!r}); build the map again") from error


def network_file(folder: pathlib.Path, manifest: Manifest) -> pathlib.Path:
    """The map's network, after a look at its fingerprint.

    Raises:
      UsageError: it is not the network that made the map.
    """
    path = folder / NETWORK_FILE
    if not path.is_file() or _sha256(path) != manifest.network_sha256:
        raise UsageError(f"{path}: absent, or not the network that made the map; build it again")
    return path


def read_segment(folder: pathlib.Path, segment: Segment) -> EncodedImages:
    """The images of a segment without the removed ones.

    Arrays stay mapped files unless rows were removed from them.

    Raises:
      UsageError: a file is absent or damaged; it is named.
    """
    names, world_from_cam, intrinsics, image_sizes = _read_frames(folder, segment)
    inside = folder / SEGMENTS / segment.name
    kept = np.setdiff1d(np.arange(segment.num_images), segment.removed)

    def rows(path: pathlib.Path) -> np.ndarray:
        array = _read_array(path, segment.num_images)
        return array if len(kept) == segment.num_images else array[kept]

    return EncodedImages(
        names=tuple(names[row] for row in kept),
        world_from_cam=world_from_cam[kept],
        intrinsics=intrinsics[kept],
        image_sizes=image_sizes[kept],
        network_intrinsics=rows(inside / "network_intrinsics.npy"),
        descriptors=rows(inside / "descriptors.npy"),
        features=tuple(rows(path) for path in sorted(inside.glob("feature_*.npy"))),
        thumbnails=[inside / "thumbnails" / f"{row:06d}.jpg" for row in kept],
    )


def _write_segment(parent: pathlib.Path, number: int, images: EncodedImages) -> Segment:
    name = f"{number:06d}"
    with _new_folder(parent / name) as temporary:
        frames = [
            {
                "name": name,
                "world_from_cam": world_from_cam.tolist(),
                "intrinsics": intrinsics.tolist(),
                "image_size": image_size.tolist(),
            }
            for name, world_from_cam, intrinsics, image_size in zip(
                images.names,
                images.world_from_cam,
                images.intrinsics,
                images.image_sizes,
                strict=True,
            )
        ]
        (temporary / "frames.json").write_text(json.dumps(frames), encoding="utf-8")
        np.save(temporary / "network_intrinsics.npy", images.network_intrinsics)
        np.save(temporary / "descriptors.npy", images.descriptors)
        for i, leaf in enumerate(images.features):
            np.save(temporary / f"feature_{i:03d}.npy", leaf)
        (temporary / "thumbnails").mkdir()
        for i, thumbnail in enumerate(images.thumbnails):
            (temporary / "thumbnails" / f"{i:06d}.jpg").write_bytes(thumbnail)
    return Segment(name, len(images.names), ())


def _write_manifest(folder: pathlib.Path, manifest: Manifest) -> None:
    content: dict[str, Any] = {"format": FORMAT, "version": VERSION, "conventions": CONVENTIONS}
    text = json.dumps(content | dataclasses.asdict(manifest), indent=2)
    files.write_text(folder / MANIFEST, text + "\n")


def _parse_segment(entry: dict[str, Any]) -> Segment:
    name, count = str(entry["name"]), int(entry["num_images"])
    removed = tuple(int(row) for row in entry["removed"])
    if not re.fullmatch(r"\d{6}", name):
        raise ValueError(f"segment name {name!r}")
    if count < 1 or any(not 0 <= row < count for row in removed):
        raise ValueError(f"segment {name}: rows out of range")
    return Segment(name, count, removed)


def _read_frames(folder: pathlib.Path, segment: Segment):
    path = folder / SEGMENTS / segment.name / "frames.json"
    try:
        frames = json.loads(path.read_text(encoding="utf-8"))
        names = tuple(str(frame["name"]) for frame in frames)
        world_from_cam = np.array(
            [rigid(np.array(f["world_from_cam"], np.float64), f"{path}: {f['name']}") for f in frames]
        )
        intrinsics = np.array([frame["intrinsics"] for frame in frames], np.float64)
        image_sizes = np.array([frame["image_size"] for frame in frames], np.int64)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: damaged ({error}); build the map again") from error
    shapes = (len(names), intrinsics.shape, image_sizes.shape)
    n = segment.num_images
    if shapes != (n, (n, 3, 3), (n, 2)):
        raise UsageError(f"{path}: damaged ({len(names)} images, not {n}); build the map again")
    return names, world_from_cam, intrinsics, image_sizes


def _read_array(path: pathlib.Path, rows: int) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if len(array) != rows:
            raise ValueError(f"{len(array)} rows, not {rows}")
    except (OSError, ValueError, TypeError, EOFError) as error:
        raise UsageError(f"{path}: damaged ({error}); build the map again") from error
    return array


@contextlib.contextmanager
def _new_folder(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a temporary folder that becomes `folder` when the block succeeds."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = pathlib.Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written ({error.strerror}); choose another folder")
    try:
        yield temporary
        _sync(temporary)
        os.chmod(temporary, 0o777 & ~files.umask())
        os.rename(temporary, folder)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _sync(folder: pathlib.Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())


@contextlib.contextmanager
def _locked(folder: pathlib.Path) -> Iterator[None]:
    """One writer at a time; the lock goes with the process that holds it."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: no scene map; make one with run_localize.py map")
    try:
        handle = open(folder / LOCK, "w")
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written ({error.strerror})") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(f"{folder}: another program is changing it; wait for it") from error
        yield


def _delete_forgotten(folder: pathlib.Path, manifest: Manifest) -> None:
    """Deletes segments that the manifest does not name: removed, or left by a crash."""
    named = {segment.name for segment in manifest.segments}
    for path in (folder / SEGMENTS).iterdir():
        if path.name not in named:
            shutil.rmtree(path, ignore_errors=True)


def _sha256(path: pathlib.Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

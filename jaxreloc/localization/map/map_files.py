"""A scene map on disk: a folder of JSON, NumPy arrays, JPEG pictures and the network.

    MAP/manifest.json          version, conventions, the network's fingerprint, the segments
    MAP/network.safetensors    the network that made the map
    MAP/segments/000000/       images added together

Only the manifest is ever replaced, by rename; a segment is complete before the manifest names it
and is deleted after the manifest has forgotten it. A crash at any moment therefore leaves the old
map or the new one. The manifest has a digest of itself, of the network and of each segment's own
digests, so that a changed bit or another map's file is found when it is read. Nothing read from a
map is executed, and no name or link in it leads outside: a map whose folders are links is not
changed.
"""

import contextlib
import dataclasses
import fcntl
import os
import pathlib
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TypeVar

from jaxreloc import files
from jaxreloc.formats.common.geodesy import GeographicOrigin
from jaxreloc.localization.map.encoding import CellDepth, EncodedImages
from jaxreloc.localization.map.map_manifest import FILE_NAME as MANIFEST
from jaxreloc.localization.map.map_manifest import (
    Manifest,
    MapScale,
    Segment,
    read_manifest,
    write_manifest,
)
from jaxreloc.localization.map.map_segments import (
    depth_source,
    read_names,
    read_segment,
    segment_problems,
    write_depth,
    write_segment,
)
from jaxreloc.models.weights.saved_network import FILE_NAME as NETWORK_FILE
from jaxreloc.new_folder import new_folder
from jaxreloc.usage import UsageError

SEGMENTS = "segments"
LOCK = "lock"
CHANGED = "was changed by another program; run the command again"
MOST_READS = 100

T = TypeVar("T")


def create(
    folder: pathlib.Path,
    save_network: Callable[[pathlib.Path], object],
    parts: Iterable[EncodedImages],
    geographic_origin: GeographicOrigin | None = None,
    scale: MapScale | None = None,
) -> None:
    """Writes a new map; the folder appears whole, by rename.

    Args:
      save_network: writes the network that made the map into a folder, as NETWORK_FILE.
      parts: become a segment each, as they come.
      geographic_origin: of the poses, whose axes are East, North, Up there.
      scale: of poses that came without a unit.

    Raises:
      UsageError: the folder exists, or cannot be written.
    """
    check_new(folder)
    with new_folder(folder) as temporary:
        save_network(temporary)
        segments = _write_segments(temporary, 0, parts)
        network = files.sha256(temporary / NETWORK_FILE)
        write_manifest(temporary, Manifest(network, segments, geographic_origin, scale))


def check_new(folder: pathlib.Path) -> None:
    """Raises UsageError if there is something where a new map is to be."""
    if os.path.lexists(folder):
        raise UsageError(f"{folder}: exists; choose another --out, or add to it with `map add`")


def check_new_names(folder: pathlib.Path, names: Collection[str]) -> None:
    """Raises UsageError if the map has an image of one of these names."""

    def names_in(manifest: Manifest) -> set[str]:
        parts = (read_names(folder / SEGMENTS, segment) for segment in manifest.segments)
        return set().union(*parts)

    known = read_between_changes(folder, names_in)
    if doubled := sorted(known & set(names)):
        others = f" and {len(doubled) - 1} more are" if len(doubled) > 1 else " is"
        raise UsageError(
            f"{folder}: {doubled[0]}{others} in the map already; `map remove` takes them out, or "
            "leave them out"
        )


def add(folder: pathlib.Path, parts: Iterable[EncodedImages]) -> None:
    """Adds a segment for each part, all at once.

    Raises:
      UsageError: an image of one of their names is in the map, or the folder cannot be written.
    """
    with locked(folder):
        manifest = read_manifest(folder)
        _delete_forgotten(folder, manifest)
        number = 1 + max(int(segment.name) for segment in manifest.segments)
        try:
            added = _write_segments(folder, number, parts)
        except BaseException:
            _delete_forgotten(folder, manifest)
            raise
        segments = (*manifest.segments, *added)
        write_manifest(folder, dataclasses.replace(manifest, segments=segments))


def add_depth(folder: pathlib.Path, segment: Segment, depth: CellDepth) -> None:
    """Gives a segment the depth of its images; each of its rows has one.

    Raises:
      UsageError: there is no such segment any more, or the folder cannot be written.
    """
    with locked(folder):
        manifest, name = read_manifest(folder), segment.name
        old = next((x for x in manifest.segments if x.name == name), None)
        if old is None or old.files_sha256 != segment.files_sha256:
            raise UsageError(f"{folder}: {CHANGED}")
        if old.depth:  # forgotten first, so that a crash leaves none and not another's
            manifest = _with_depth(manifest, name, "", None)
            write_manifest(folder, manifest)
        digest = write_depth(folder / SEGMENTS / name, depth)
        write_manifest(folder, _with_depth(manifest, name, depth_source(depth), digest))


def _with_depth(manifest: Manifest, name: str, source: str, digest: str | None) -> Manifest:
    segments = tuple(
        dataclasses.replace(segment, depth=source, depth_sha256=digest)
        if segment.name == name
        else segment
        for segment in manifest.segments
    )
    return dataclasses.replace(manifest, segments=segments)


def remove(folder: pathlib.Path, names: Collection[str]) -> None:
    """Takes images out by name; the others are not touched.

    Raises:
      UsageError: a name is not in the map, or no image would be left.
    """
    with locked(folder):
        manifest = read_manifest(folder)
        missing, segments = set(names), []
        for segment in manifest.segments:
            present = read_names(folder / SEGMENTS, segment)
            gone = {present[name] for name in missing & set(present)}
            missing -= set(present)
            removed = tuple(sorted(gone | set(segment.removed)))
            if len(removed) < segment.num_images:
                segments.append(dataclasses.replace(segment, removed=removed))
        if missing:
            raise UsageError(f"{folder}: {sorted(missing)[0]} is not in the map; check its name")
        if not segments:
            raise UsageError(f"{folder}: no image would be left; delete the folder instead")
        manifest = dataclasses.replace(manifest, segments=tuple(segments))
        write_manifest(folder, manifest)
        _delete_forgotten(folder, manifest)


def read_between_changes(folder: pathlib.Path, read: Callable[[Manifest], T]) -> T:
    """What `read` makes of a manifest and of the files that it names.

    A writer may remove these files in between; what it has left is then read instead. A file that
    is wrong although the manifest was not replaced is damaged.

    Raises:
      UsageError: it is no map, or damaged.
    """
    for _ in range(MOST_READS):
        before = generation(folder)
        try:
            return read(read_manifest(folder))
        except UsageError:
            if generation(folder) == before:
                raise
    raise UsageError(f"{folder}: {CHANGED}")


def generation(folder: pathlib.Path) -> tuple[int, int] | None:
    """Another one after the manifest was replaced; None where there is none."""
    return file_generation(folder / MANIFEST)


def file_generation(path: pathlib.Path) -> tuple[int, int] | None:
    """Another one after a file was replaced; None where there is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # a null byte in its name
        return None
    return status.st_ino, status.st_mtime_ns


def read_parts(folder: pathlib.Path, manifest: Manifest) -> list[EncodedImages]:
    """The images of each segment; see `read_segment`."""
    return [read_segment(folder / SEGMENTS, segment) for segment in manifest.segments]


def check_files(folder: pathlib.Path) -> list[str]:
    """A line for each file of the map that is absent, or not the one that was written.

    Raises:
      UsageError: it is no map.
    """
    problems: list[str] = []

    def check(manifest: Manifest) -> None:
        problems.clear()
        try:
            network_file(folder, manifest)
        except UsageError as error:
            problems.append(str(error))
        for segment in manifest.segments:
            problems.extend(segment_problems(folder / SEGMENTS, segment))
        if problems:
            raise _Problems

    with contextlib.suppress(_Problems):
        read_between_changes(folder, check)
    return problems


class _Problems(UsageError):
    """Some were found; a new reading may find none."""


def network_file(folder: pathlib.Path, manifest: Manifest) -> pathlib.Path:
    """The map's network, after a look at its fingerprint.

    Raises:
      UsageError: it is not the network that made the map.
    """
    path = folder / NETWORK_FILE
    if not os.path.isfile(path) or files.sha256(path) != manifest.network_sha256:
        raise UsageError(f"{path}: absent, or not the network that made the map; build it again")
    return path


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
    """One writer at a time; the lock goes with the process that holds it."""
    if not os.path.isdir(folder):
        raise UsageError(f"{folder}: no scene map; make one with jaxreloc map build")
    if (folder / SEGMENTS).is_symlink():
        raise UsageError(f"{folder / SEGMENTS}: is a link, which may lead anywhere; copy the map")
    try:
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        raise UsageError(
            f"{folder}: cannot be written ({error.strerror}); check its permissions"
        ) from error
    with os.fdopen(handle):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(f"{folder}: another program is changing it; wait for it") from error
        yield


def _write_segments(
    folder: pathlib.Path, first: int, parts: Iterable[EncodedImages]
) -> tuple[Segment, ...]:
    """Writes the parts as segments from number `first`; names are checked against a map's."""
    segments = []
    for number, images in enumerate(parts, first):
        if first:
            check_new_names(folder, images.names)
        segments.append(write_segment(folder / SEGMENTS, number, images))
    return tuple(segments)


def _delete_forgotten(folder: pathlib.Path, manifest: Manifest) -> None:
    """Deletes segments that the manifest does not name: removed, or left by a crash."""
    named = {segment.name for segment in manifest.segments}
    for path in (folder / SEGMENTS).iterdir():
        if path.name not in named and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
    for path in folder.glob(f".{MANIFEST}.*"):  # of writers that were killed
        path.unlink(missing_ok=True)


"""manifest.json of a scene map: what the map holds, and in which conventions."""

import dataclasses
import hashlib
import json
import math
import os
import pathlib
import re
from typing import Any

from jaxreloc import files
from jaxreloc.formats.common.geodesy import GeographicOrigin
from jaxreloc.localization.map.file_digests import MAX_BYTES, changed
from jaxreloc.usage import UsageError

FILE_NAME = "manifest.json"
FORMAT = "jaxreloc scene map"
VERSION = 3
READABLE = (1, 2, 3)  # the first has no digests, the second has features in whole bytes
DEPTHS = ("triangulated", "measured")
SCALES = ("gps", "distance", "network")
CONVENTIONS = {
    "world_from_cam": "4x4, x_world = world_from_cam @ x_cam, in the unit of the given poses",
    "camera_axes": "x right, y down, z forward",
    "pixels": "(0, 0) is the centre of the top-left pixel",
}

# What wrong JSON raises on the way into arrays and fields.
UNREADABLE = (
    *(ValueError, KeyError, TypeError, OverflowError, AttributeError, RecursionError, IndexError),
)


@dataclasses.dataclass(frozen=True)
class Segment:
    """Images that were added together."""

    name: str
    num_images: int
    removed: tuple[int, ...]  # rows that `remove` took out
    depth: str = ""  # of DEPTHS: where the depth of its cells comes from; "": there is none yet
    files_sha256: str | None = None  # of the digests of its files; None: an earlier version's
    depth_sha256: str | None = None  # of those of its depth

    @property
    def num_kept(self) -> int:
        """Of its images, those that were not removed."""
        return self.num_images - len(self.removed)


@dataclasses.dataclass(frozen=True)
class MapScale:
    """Where the metres of a map come from whose poses had no unit."""

    source: str  # of SCALES
    deviation: float | None  # of every length, relative; None: not known


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The content of manifest.json."""

    network_sha256: str
    segments: tuple[Segment, ...]
    geographic_origin: GeographicOrigin | None = None  # where the axes are East, North, Up
    scale: MapScale | None = None  # None: the poses came with their unit

    @property
    def num_kept(self) -> int:
        """Images that were not removed."""
        return sum(segment.num_kept for segment in self.segments)


def read_manifest(folder: pathlib.Path) -> Manifest:
    """What the map in `folder` holds.

    Raises:
      UsageError: it is no map, of another version, or damaged.
    """
    path = folder / FILE_NAME
    if not os.path.lexists(path):
        raise UsageError(f"{folder}: no scene map; make one with jaxreloc map build")
    try:
        content = json.loads(files.read_bytes(path, limit=MAX_BYTES).decode())
        if content["format"] != FORMAT:
            raise ValueError(f"its format is {content['format']!r}")
        version = content["version"]
    except UNREADABLE as error:
        raise UsageError(f"{path}: not a map's manifest ({error}); build the map again") from error
    if version not in READABLE:
        raise UsageError(
            f"{path}: map of version {version}, this program reads {VERSION}; build the map again"
        )
    if version > 1 and content.pop("sha256", None) != _digest(content):
        raise changed(path)
    try:
        segments = tuple(_parse_segment(entry) for entry in content["segments"])
        if not segments or len({segment.name for segment in segments}) != len(segments):
            raise ValueError("segments are absent or doubled")
        origin = content.get("geographic_origin")
        if origin is not None:
            place = {name: float(value) for name, value in origin.items()}
            origin = GeographicOrigin(**place).check(f"{path}: geographic_origin")
        scale = content.get("scale")
        scale = None if scale is None else _parse_scale(scale)
        return Manifest(str(content["network_sha256"]), segments, origin, scale)
    except UNREADABLE as error:
        raise UsageError(f"{path}: damaged ({error!r}); build the map again") from error


def write_manifest(folder: pathlib.Path, manifest: Manifest) -> None:
    """Replaces the manifest by rename."""
    content: dict[str, Any] = {"format": FORMAT, "version": VERSION, "conventions": CONVENTIONS}
    write_content(folder, content | dataclasses.asdict(manifest))


def write_content(folder: pathlib.Path, content: dict[str, Any]) -> None:
    """Replaces the manifest by `content` and its digest, by rename."""
    content = {name: value for name, value in content.items() if name != "sha256"}
    text = json.dumps(content | {"sha256": _digest(content)}, indent=2)
    files.write_text(folder / FILE_NAME, text + "\n")


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _parse_scale(entry: dict[str, Any]) -> MapScale:
    source, deviation = entry["source"], entry["deviation"]
    if source not in SCALES:
        raise ValueError(f"scale by {source!r}")
    if deviation is not None and not 0 <= deviation < math.inf:
        raise ValueError(f"scale deviates by {deviation!r}")
    return MapScale(source, deviation)


def _parse_segment(entry: dict[str, Any]) -> Segment:
    name, count = str(entry["name"]), int(entry["num_images"])
    removed = tuple(int(row) for row in entry["removed"])
    if not re.fullmatch(r"[0-9]{6}", name):
        raise ValueError(f"segment name {name!r}")
    if count < 1 or any(not 0 <= row < count for row in removed):
        raise ValueError(f"segment {name}: rows out of range")
    depth = str(entry.get("depth", ""))
    if depth not in ("", *DEPTHS):
        raise ValueError(f"segment {name}: depth {depth!r}")
    digests = entry.get("files_sha256"), entry.get("depth_sha256")
    for digest in digests:
        if digest is not None and not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise ValueError(f"segment {name}: {digest!r} is no digest")
    return Segment(name, count, removed, depth, *digests)

"""manifest.json of a scene map: what the map holds, and in which conventions."""

import dataclasses
import json
import pathlib
import re
from typing import Any

from jaxreloc import files
from jaxreloc.usage import UsageError

FILE_NAME = "manifest.json"
FORMAT = "jaxreloc scene map"
VERSION = 1
DEPTHS = ("triangulated", "measured")
CONVENTIONS = {
    "world_from_cam": "4x4, x_world = world_from_cam @ x_cam, metres",
    "camera_axes": "x right, y down, z forward",
    "pixels": "(0, 0) is the centre of the top-left pixel",
}


@dataclasses.dataclass(frozen=True)
class Segment:
    """Images that were added together."""

    name: str
    num_images: int
    removed: tuple[int, ...]  # rows that `remove` took out
    depth: str = ""  # of DEPTHS: where the depth of its cells comes from; "": there is none yet


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The content of manifest.json."""

    network_sha256: str
    segments: tuple[Segment, ...]


def read_manifest(folder: pathlib.Path) -> Manifest:
    """What the map in `folder` holds.

    Raises:
      UsageError: it is no map, of another version, or damaged.
    """
    path = folder / FILE_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"its format is {content['format']!r}")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(f"{folder}: no scene map; make one with jaxreloc map build") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: not a map's manifest ({error}); build the map again") from error
    if content.get("version") != VERSION:
        raise UsageError(
            f"{path}: map of version {content.get('version')}, this program reads {VERSION}; "
            "build the map again"
        )
    try:
        segments = tuple(_parse_segment(entry) for entry in content["segments"])
        if not segments or len({segment.name for segment in segments}) != len(segments):
            raise ValueError("segments are absent or doubled")
        return Manifest(str(content["network_sha256"]), segments)
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: damaged ({error!r}); build the map again") from error


def write_manifest(folder: pathlib.Path, manifest: Manifest) -> None:
    """Replaces the manifest by rename."""
    content: dict[str, Any] = {"format": FORMAT, "version": VERSION, "conventions": CONVENTIONS}
    text = json.dumps(content | dataclasses.asdict(manifest), indent=2)
    files.write_text(folder / FILE_NAME, text + "\n")


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
    return Segment(name, count, removed, depth)

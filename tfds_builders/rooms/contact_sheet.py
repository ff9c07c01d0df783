"""A picture of what the rooms look like, one row a room: database views, then query views.

  python -m tfds_builders.rooms.contact_sheet --out=rooms.png [--sources=MANUAL_DIR]

With --sources, the folder of the furnished config, rooms are furnished from there.
"""

import dataclasses
import pathlib
import tempfile

import cv2
import numpy as np
from absl import flags

from jaxreloc.files import replacing
from jaxreloc.usage import run_script
from tfds_builders.rooms.furnishing.library import prepared_library
from tfds_builders.rooms.generation import RenderedRoom, render_room
from tfds_builders.rooms.settings import FURNISHED, PROCEDURAL, SPLITS

DATABASE_VIEWS, QUERY_VIEWS = 4, 2
FRAMES_PER_PATH = 4

_OUT = flags.DEFINE_string("out", None, "the PNG file to write", required=True)
_SOURCES = flags.DEFINE_string("sources", None, "furniture, textures and photographs")
_ROOMS = flags.DEFINE_integer("rooms", 6, "rows", lower_bound=1)
_SPLIT = flags.DEFINE_enum("split", "train", SPLITS, "of which split the rooms are")
_WIDTH = flags.DEFINE_integer("width", 256, "of one view, pixels", lower_bound=16)


def sheet(rooms: list[RenderedRoom]) -> np.ndarray:
    """One RGB picture of views chosen evenly over each room's paths."""
    rows = []
    for room in rooms:
        views = [
            frames.images[i]
            for frames, count in ((room.database, DATABASE_VIEWS), (room.query, QUERY_VIEWS))
            for i in np.linspace(0, len(frames) - 1, count).round().astype(int)
        ]
        height = max(view.shape[0] for view in views)
        width = max(max(view.shape[:2]) for view in views)
        rows.append(np.concatenate([_padded(view, height, width) for view in views], axis=1))
    return np.concatenate(rows)


def _padded(view: np.ndarray, height: int, width: int) -> np.ndarray:
    """`view` in the middle of a white rectangle, with a margin."""
    canvas = np.full((height + 4, width + 4, 3), 255, np.uint8)
    top, left = (np.array(canvas.shape[:2]) - view.shape[:2]) // 2
    canvas[top : top + view.shape[0], left : left + view.shape[1]] = view
    return canvas


def main(_: list[str]) -> None:
    settings = dataclasses.replace(
        FURNISHED if _SOURCES.value else PROCEDURAL,
        width=_WIDTH.value,
        height=_WIDTH.value * 3 // 4,
        frames_per_path=FRAMES_PER_PATH,
    )
    with tempfile.TemporaryDirectory() as cache:
        if _SOURCES.value:
            library = prepared_library(pathlib.Path(_SOURCES.value), pathlib.Path(cache))
            settings = dataclasses.replace(settings, library=str(library))
        rooms = [render_room(settings, _SPLIT.value, i) for i in range(_ROOMS.value)]
    _, encoded = cv2.imencode(".png", sheet(rooms)[..., ::-1])
    with replacing(_OUT.value) as temporary:
        temporary.write_bytes(encoded.tobytes())
    print(f"{len(rooms)} rooms in {_OUT.value}")


if __name__ == "__main__":
    run_script(main)

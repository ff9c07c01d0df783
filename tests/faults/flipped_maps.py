"""Single bits of a whole map are flipped: none may move the pose of a query without a word.

The map is of rendered pictures and of the network that ships, and is opened anew for each bit. One
process does them all, since what it compiles takes minutes.
"""

import dataclasses
import functools
import pathlib

import numpy as np
import pytest
from hypothesis import strategies as st

from jaxreloc.localization.localizer import Localizer
from jaxreloc.localization.map import scene_map
from jaxreloc.localization.map.encoding import encode_frames
from jaxreloc.localization.map.map_depth import with_depth
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.networks.match_network import MatchNetwork
from jaxreloc.models.weights.network_weights import shipped_matcher
from tfds_builders.rooms.generation import render_room
from tfds_builders.rooms.settings import PROCEDURAL

CANVAS = (192, 256)
NEIGHBORS = 4
MOVED_M, MOVED_DEG = 0.01, 0.5
ROOM = dataclasses.replace(PROCEDURAL, database_paths=1, frames_per_path=8)


@functools.cache
def network() -> MatchNetwork:
    """Compiled once: what differs between two maps is their files, and those are checked first."""
    return MatchNetwork(shipped_matcher(CANVAS))


@functools.cache
def queries():
    """Pictures of the map itself, seen a few pixels to the side."""
    frames = render_room(ROOM, "test", 0).database
    images = [np.roll(frames.images[i], 4, axis=1) for i in (1, 5)]
    return images, [frames.intrinsics[i] for i in (1, 5)]


def make(folder: pathlib.Path, rng: np.random.Generator) -> None:
    del rng
    if folder.exists():
        folder.rmdir()
    encoded = encode_frames(render_room(ROOM, "test", 0).database, network())
    depth = with_depth(SceneMap.from_images(network(), encoded)).depth
    SceneMap.create(folder, network(), [dataclasses.replace(encoded, depth=depth)])


def read(folder: pathlib.Path) -> list[np.ndarray | None]:
    """The poses of the queries; None where one is refused.

    Raises:
      UsageError: a file is not the one that was written.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scene_map, "load_network", lambda path: network())
        opened = SceneMap.open(folder)
    locate = Localizer(opened, num_neighbors=NEIGHBORS, quarter_turns=False)
    found = [locate(image, K) for image, K in zip(*queries(), strict=True)]
    return [x.world_from_query if x.success else None for x in found]


def same(found: list, expected: list) -> bool:
    """None of the poses has moved, appeared or gone."""
    for a, b in zip(found, expected, strict=True):
        if (a is None) != (b is None):
            return False
        if a is None:
            continue
        chord = np.linalg.norm(a[:3, :3] - b[:3, :3])
        angle = np.rad2deg(2 * np.arcsin(min(1.0, chord / np.sqrt(8))))
        if np.linalg.norm(a[:3, 3] - b[:3, 3]) > MOVED_M or angle > MOVED_DEG:
            return False
    return any(x is not None for x in expected)


@st.composite
def flipped(draw, content: bytes) -> bytes:
    """The content with one bit flipped."""
    changed = bytearray(content or b"\0")
    place = draw(st.integers(0, len(changed) - 1))
    changed[place] ^= 1 << draw(st.integers(0, 7))
    return bytes(changed)

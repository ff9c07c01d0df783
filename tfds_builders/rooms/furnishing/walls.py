"""The walls of a room and what hangs on them: a door, windows, pictures."""

import dataclasses

import numpy as np
from jaxtyping import Float32, Float64

from tfds_builders.rooms.furnishing.palette import Palette, pick
from tfds_builders.rooms.graphics.illumination import Lamp
from tfds_builders.rooms.graphics.meshes import CELL, Material, Mesh, box, merged, quad


@dataclasses.dataclass(frozen=True)
class Wall:
    """A wall: x runs along it, to the left as seen from inside, y into the room, z up."""

    world_from_wall: Float64[np.ndarray, "4 4"]  # its origin lies on the floor
    length: float

    def placed(self, mesh: Mesh) -> Mesh:
        """`mesh`, given in the wall's axes, in the room's."""
        return mesh.transformed(self.world_from_wall[:3, :3], self.world_from_wall[:3, 3])


def walls(size: Float32[np.ndarray, "3"]) -> list[Wall]:
    """The four walls of a room of this width, depth and height."""
    found = []
    for yaw in np.arange(4) * np.pi / 2:
        cos, sin = np.cos(yaw), np.sin(yaw)
        pose = np.eye(4)
        pose[:2, :2] = [[cos, -sin], [sin, cos]]
        length, depth = np.abs(pose[:2, :2].T @ size[:2])
        pose[:2, 3] = pose[:2, :2] @ (-length / 2, -depth / 2)
        found.append(Wall(pose, length))
    return found


def hangings(
    rng: np.random.Generator, palette: Palette, size: Float32[np.ndarray, "3"]
) -> tuple[list[Mesh], list[Lamp]]:
    """A door, windows with the daylight they let in, pictures and wall boards, none overlapping."""
    hung, daylight, taken = [], [], []
    kinds = [_door] + [_window] * int(rng.integers(0, 3)) + [_picture] * int(rng.integers(8, 20))
    for kind in kinds:
        side = int(rng.integers(4))
        wall = walls(size)[side]
        width, bottom, height = _HANGING_EXTENT[kind](rng, size[2])
        left = rng.uniform(0.05, max(0.06, wall.length - width - 0.05))
        low, high = np.array([left, bottom]), np.array([left + width, bottom + height])
        if high[0] > wall.length or any(
            side == other and (low < top).all() and (high > base).all()
            for other, base, top in taken
        ):
            continue
        taken.append((side, low, high))
        mesh = wall.placed(kind(rng, palette, width, height).moved((left + width / 2, 0, bottom)))
        hung.append(mesh)
        if kind is _window:
            inward = 0.15 * wall.world_from_wall[:3, 1]
            place = (mesh.bounds.mean(0) + inward).astype(np.float32)
            sky = np.array([0.9, 0.96, 1.0]) * rng.uniform(0.3, 2.5)
            daylight.append(Lamp(place, sky.astype(np.float32), radius=0.4))
    return hung, daylight


def _door(rng: np.random.Generator, palette: Palette, width: float, height: float) -> Mesh:
    frame, leaf = palette.wood(rng), palette.wood(rng)
    metal = Material(None, tuple(rng.uniform(0.2, 0.6) * np.ones(3)), gloss=0.6)
    handle = box((0.12, 0.05, 0.02), metal).moved((width * 0.36, 0.06, height * 0.5))
    parts = [box((width, 0.03, height), frame, 0.8, CELL).moved((0, 0.015, 0)), handle]
    panel = box((width - 0.14, 0.045, height - 0.08), leaf, 0.7, CELL)
    return merged([*parts, panel.moved((0, 0.0225, 0.01))])


def _window(rng: np.random.Generator, palette: Palette, width: float, height: float) -> Mesh:
    frame = Material(None, tuple(rng.uniform(0.4, 0.8) * rng.uniform(0.9, 1, 3)))
    view = dataclasses.replace(pick(rng, palette.prints), emission=rng.uniform(0.6, 1.5))
    pane = quad((width / 2, 0.02, 0), (-width, 0, 0), (0, 0, height), view)
    post = box((0.05, 0.05, height), frame, cell=CELL)
    rail = box((width, 0.05, 0.05), frame, cell=CELL)
    posts = [post.moved((x * (width - 0.05), 0.025, 0)) for x in (-0.5, 0, 0.5)]
    rails = [rail.moved((0, 0.025, z * (height - 0.05))) for z in (0, 1)]
    return merged([pane, *posts, *rails])


def _picture(rng: np.random.Generator, palette: Palette, width: float, height: float) -> Mesh:
    deep = rng.uniform(0.05, 0.25) if rng.random() < 0.2 else rng.uniform(0.01, 0.04)
    frame = Material(None, tuple(rng.uniform(0.02, 0.6) * rng.uniform(0.6, 1, 3)))
    board = box((width, deep, height), frame, cell=CELL).moved((0, deep / 2, 0))
    rim = rng.uniform(0, 0.04)
    right, up = (2 * rim - width, 0, 0), (0, 0, height - 2 * rim)
    face = quad(
        (width / 2 - rim, deep + 0.002, rim), right, up, pick(rng, palette.prints), cell=CELL
    )
    return merged([board, face])


# Width, height of the lower edge and height of a hanging, in a room of the given height.
_HANGING_EXTENT = {
    _door: lambda rng, room: (rng.uniform(0.75, 0.95), 0.0, rng.uniform(1.95, 2.1)),
    _window: lambda rng, room: (
        rng.uniform(0.6, 1.6),
        rng.uniform(0.7, 0.9),
        rng.uniform(0.9, 1.3),
    ),
    _picture: lambda rng, room: (
        rng.uniform(0.2, 1.0),
        rng.uniform(0.7, room - 0.9),
        rng.uniform(0.2, 0.8),
    ),
}

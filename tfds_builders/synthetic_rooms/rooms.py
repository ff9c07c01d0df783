"""Building a room: walls, furniture along them, clutter on every surface, lamps."""

import dataclasses
from typing import Protocol

import numpy as np
from jaxtyping import Float32

from tfds_builders.synthetic_rooms.illumination import Lamp
from tfds_builders.synthetic_rooms.meshes import CELL, Material, Mesh, box, merged, quad
from tfds_builders.synthetic_rooms.ray_casting import RayCaster

WALL_GAP = 0.02
FLOOR_GAP = 0.003


class Assets(Protocol):
    """Where a room's materials and furniture come from."""

    def wall(self, rng: np.random.Generator) -> Material: ...

    def floor(self, rng: np.random.Generator) -> Material: ...

    def ceiling(self, rng: np.random.Generator) -> Material: ...

    def rug(self, rng: np.random.Generator) -> Material: ...

    def picture(self, rng: np.random.Generator) -> Material: ...

    def furniture(self, rng: np.random.Generator) -> Mesh: ...

    def clutter(self, rng: np.random.Generator) -> Mesh: ...


@dataclasses.dataclass(frozen=True)
class Room:
    """A furnished room, its floor on z = 0 and centred on the z axis."""

    size: Float32[np.ndarray, "3"]  # width (x), depth (y), height (z)
    mesh: Mesh
    lamps: tuple[Lamp, ...]
    subjects: Float32[np.ndarray, "n 3"]  # points worth looking at, one a piece of furniture


def build_room(rng: np.random.Generator, assets: Assets) -> Room:
    """A room of random size and content."""
    size = rng.uniform((2.8, 2.8, 2.3), (5.5, 5.5, 2.9)).astype(np.float32)
    shell = _shell(rng, assets, size)
    furniture = _furniture(rng, assets, size)
    fixed = shell + furniture + _wall_hangings(rng, assets, size)
    things = _clutter(rng, assets, size, RayCaster(merged(fixed)))
    subjects = np.stack([piece.bounds.mean(0) for piece in furniture + things[::4]])
    lamps, fittings = _lamps(rng, size)
    return Room(size, merged(fixed + things + fittings), lamps, subjects)


def _walls(size: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Origin (lower left, seen from inside), rightward edge and inward normal of each wall."""
    half = np.array([size[0] / 2, size[1] / 2, 0])
    corner = np.array([[-1, 1], [1, 1], [1, -1], [-1, -1]])
    walls = []
    for i in range(4):
        start = np.append(corner[i], 0) * half
        right = np.append(corner[(i + 1) % 4], 0) * half - start
        inward = np.cross(right, (0, 0, 1.0))
        walls.append((start, right, inward / np.linalg.norm(inward)))
    return walls


def _shell(rng, assets: Assets, size: np.ndarray) -> list[Mesh]:
    width, depth, height = size
    paper, period = assets.wall(rng), rng.uniform(0.5, 2.5)
    parts = []
    for origin, right, _ in _walls(size):
        material = paper if rng.random() < 0.7 else assets.wall(rng)
        parts.append(quad(origin, right, (0, 0, height), material, period, CELL))
    corner = (-width / 2, -depth / 2, 0)
    floor_period = rng.uniform(0.6, 2.2)
    parts.append(quad(corner, (width, 0, 0), (0, depth, 0), assets.floor(rng), floor_period, CELL))
    above = (-width / 2, depth / 2, height)
    parts.append(quad(above, (width, 0, 0), (0, -depth, 0), assets.ceiling(rng), 2.0, CELL))
    for _ in range(int(rng.integers(0, 3))):
        extent = rng.uniform((0.7, 0.7), (1.8, 1.4))
        rug = box((*extent, 0.008), assets.rug(rng), rng.uniform(0.5, 1.2), CELL)
        place = rng.uniform(-0.25, 0.25, 2) * size[:2]
        parts.append(rug.moved((*place, FLOOR_GAP * (1 + len(parts))), rng.uniform(0, np.pi)))
    return parts


def _furniture(rng, assets: Assets, size: np.ndarray) -> list[Mesh]:
    """Pieces along the walls, their backs to them, and some that stand free."""
    placed, taken = [], []
    wanted = int(rng.uniform(0.7, 1.1) * size[0] * size[1])
    for _ in range(3 * wanted):
        if len(placed) == wanted:
            break
        piece = assets.furniture(rng).standing()
        if (piece.bounds[1] - piece.bounds[0])[2] > size[2] - 0.1:
            continue
        piece = _against_wall(rng, piece, size) if rng.random() < 0.75 else _free(rng, piece, size)
        if piece is None or not _inside(piece, size) or any(_overlap(piece, t) for t in taken):
            continue
        placed.append(piece)
        taken.append(piece.bounds)
    return placed


def _against_wall(rng, piece: Mesh, size: np.ndarray) -> Mesh | None:
    width, depth, _ = piece.bounds[1] - piece.bounds[0]
    origin, right, inward = _walls(size)[rng.integers(4)]
    length = np.linalg.norm(right)
    if width > length:
        return None
    along = rng.uniform(width / 2, length - width / 2)
    place = origin + right / length * along + inward * (depth / 2 + WALL_GAP)
    yaw = np.arctan2(-inward[0], inward[1])  # turns the piece's front, +y, to face the room
    return piece.moved(place, yaw)


def _free(rng, piece: Mesh, size: np.ndarray) -> Mesh:
    place = np.append(rng.uniform(-0.32, 0.32, 2) * size[:2], 0)
    return piece.moved(place, rng.uniform(0, 2 * np.pi))


def _inside(piece: Mesh, size: np.ndarray) -> bool:
    return bool((np.abs(piece.bounds[:, :2]) < size[:2] / 2).all())


def _overlap(piece: Mesh, taken: np.ndarray, gap: float = 0.04) -> bool:
    low, high = piece.bounds
    return bool((low[:2] < taken[1, :2] + gap).all() and (high[:2] > taken[0, :2] - gap).all())


def _wall_hangings(rng, assets: Assets, size: np.ndarray) -> list[Mesh]:
    """Framed pictures and wall boards that do not overlap one another."""
    hangings, taken = [], []
    for _ in range(int(rng.uniform(3, 6) * 4)):
        side = int(rng.integers(4))
        origin, right, inward = _walls(size)[side]
        length = np.linalg.norm(right)
        width, height = rng.uniform((0.2, 0.2), (1.0, 0.8))
        left = rng.uniform(0.05, length - width - 0.05)
        bottom = rng.uniform(0.7, size[2] - height - 0.1)
        spot = (side, left, left + width, bottom, bottom + height)
        if any(
            side == t[0] and spot[1] < t[2] and spot[2] > t[1] and spot[3] < t[4] and spot[4] > t[3]
            for t in taken
        ):
            continue
        taken.append(spot)
        along = right / length
        deep = rng.uniform(0.05, 0.25) if rng.random() < 0.2 else rng.uniform(0.01, 0.04)
        frame = Material(None, tuple(rng.uniform(0.02, 0.6) * rng.uniform(0.6, 1, 3)))
        back = origin + along * (left + width / 2) + np.array([0, 0, bottom])
        board = box((width, deep, height), frame, cell=CELL).moved((0, deep / 2, 0))
        hangings.append(board.transformed(np.stack([-along, inward, (0, 0, 1.0)], 1), back))
        rim = rng.uniform(0, 0.04)
        corner = back - along * (width / 2 - rim) + inward * (deep + 0.002) + (0, 0, rim)
        face = (along * (width - 2 * rim), (0, 0, height - 2 * rim))
        hangings.append(quad(corner, *face, assets.picture(rng), cell=CELL))
    return hangings


def _clutter(rng, assets: Assets, size: np.ndarray, caster: RayCaster) -> list[Mesh]:
    """Things on whatever lies below random points of the room, where it is level."""
    tries = 400
    start = rng.uniform((-0.48, -0.48, 0.1), (0.48, 0.48, 0.9), (tries, 3)) * size
    offsets = np.array([(0, 0), (0.06, 0), (-0.06, 0), (0, 0.06), (0, -0.06)])
    probes = start[:, None] + np.append(offsets, np.zeros((5, 1)), 1)
    down = np.broadcast_to((0, 0, -1.0), (tries * 5, 3))
    hits = caster.first_hits(probes.reshape(-1, 3), down)
    below = start[:, 2] - hits.distance.reshape(tries, 5)[:, 0]
    level = np.ptp(hits.distance.reshape(tries, 5), axis=1) < 0.003
    level &= (hits.triangle.reshape(tries, 5) >= 0).all(1)
    raised = below > 0.15
    chosen = np.concatenate(
        [
            np.flatnonzero(level & raised)[: rng.integers(25, 50)],
            np.flatnonzero(level & ~raised)[: rng.integers(6, 16)],
        ]
    )
    things, centres = [], np.zeros((0, 3))
    for i in chosen:
        place = np.array([*start[i, :2], below[i] + 0.001])
        thing = assets.clutter(rng).standing()
        if len(centres) and np.linalg.norm(centres - place, axis=1).min() < 0.15:
            continue
        thing = thing.moved(place, rng.uniform(0, 2 * np.pi))
        if _inside(thing, size):
            things.append(thing)
            centres = np.concatenate([centres, place[None]])
    return things


def _lamps(rng, size: np.ndarray) -> tuple[tuple[Lamp, ...], list[Mesh]]:
    """One to three ceiling lamps and their glowing covers."""
    count = int(rng.integers(1, 4))
    warmth = rng.uniform(0, 1)
    colour = np.array([1.0, 1 - 0.12 * warmth, 1 - 0.3 * warmth], np.float32)
    lamps, fittings = [], []
    for _ in range(count):
        drop = rng.uniform(0.05, 0.4)
        place = np.append(rng.uniform(-0.35, 0.35, 2) * size[:2], size[2] - drop)
        strength = rng.uniform(2.0, 5.0) / count
        lamps.append(Lamp(place.astype(np.float32), colour * np.float32(strength)))
        cover = Material(None, tuple(colour.tolist()), emission=4.0)
        disc = box((0.3, 0.3, 0.02), cover).moved(place + (0, 0, 0.03), rng.uniform(0, np.pi))
        fittings.append(disc)
    return tuple(lamps), fittings



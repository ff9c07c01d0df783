"""Building a room: walls, furniture along them, clutter on every surface, lamps."""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from jaxtyping import Float32

from tfds_builders.rooms.furnishing.palette import Palette, ceiling, pick
from tfds_builders.rooms.furnishing.walls import hangings, walls
from tfds_builders.rooms.graphics.illumination import Lamp
from tfds_builders.rooms.graphics.meshes import CELL, Material, Mesh, box, merged, quad
from tfds_builders.rooms.graphics.ray_casting import RayCaster

WALL_GAP = 0.02


class Catalogue(Protocol):
    """Where a room's furniture comes from."""

    def furniture(self, rng: np.random.Generator) -> Mesh:
        """A piece at its height above the floor, centred on the z axis, its front towards +y."""

    def clutter(self, rng: np.random.Generator) -> Mesh:
        """A small thing that stands on z = 0, centred on the z axis."""


@dataclasses.dataclass(frozen=True)
class Room:
    """A furnished room, its floor on z = 0 and centred on the z axis."""

    size: Float32[np.ndarray, "3"]  # width (x), depth (y), height (z)
    mesh: Mesh
    lamps: tuple[Lamp, ...]
    subjects: Float32[np.ndarray, "n 3"]  # points worth looking at, one a piece of furniture


def build_room(
    rng: np.random.Generator,
    palette: Palette,
    catalogue: Catalogue,
    moved_share: float = 0.0,
    moved_furniture: float = 0.0,
) -> tuple[Room, Room]:
    """A room of random size and content, and the same room at a later time.

    Args:
      moved_share: of the small things, how many are gone later, and as many others stand elsewhere.
      moved_furniture: of the furniture, the same; what stood on it is gone, too.
    """
    size = rng.uniform((2.8, 2.8, 2.3), (5.5, 5.5, 2.9)).astype(np.float32)
    furniture = _furniture(rng, catalogue, size)
    hung, daylight = hangings(rng, palette, size)
    lamps, fittings = _ceiling_lamps(rng, size)
    shell, hanging = _shell(rng, palette, size), hung + fittings
    fixed = shell + furniture + hanging
    caster = RayCaster(merged(fixed))
    things = _clutter(rng, catalogue, size, caster)
    subjects = np.stack([piece.bounds.mean(0) for piece in furniture + things[::4]])
    room = Room(size, merged(fixed + things), (*lamps, *daylight), subjects)
    moved, carried = int(moved_share * len(things)), int(moved_furniture * len(furniture))
    if not moved and not carried:
        return room, room
    stay = [things[i] for i in rng.permutation(len(things))[moved:]]
    if carried:
        order = rng.permutation(len(furniture))
        away, kept = ([furniture[i] for i in part] for part in (order[:carried], order[carried:]))
        new = _furniture(rng, catalogue, size, kept, carried)
        stay = [x for x in stay if not any(_overlap(x, piece.bounds, 0) for piece in away + new)]
        fixed = shell + kept + new + hanging
        caster = RayCaster(merged(fixed))
    others = _clutter(rng, catalogue, size, caster)[:moved]
    return room, dataclasses.replace(room, mesh=merged(fixed + stay + others))


def _shell(rng: np.random.Generator, palette: Palette, size: np.ndarray) -> list[Mesh]:
    """Walls with skirting boards, floor with rugs, ceiling."""
    width, depth, height = size
    paper, period = pick(rng, palette.walls), rng.uniform(0.5, 2.5)
    skirting, rise = palette.wood(rng), rng.uniform(0.05, 0.14)
    parts = []
    for wall in walls(size):
        material = paper if rng.random() < 0.7 else pick(rng, palette.walls)
        face = quad(
            (wall.length, 0, 0), (-wall.length, 0, 0), (0, 0, height), material, period, CELL
        )
        board = box((wall.length, 0.015, rise), skirting, 0.6).moved((wall.length / 2, 0.0075, 0))
        parts += [wall.placed(face), wall.placed(board)]
    corner = (-width / 2, -depth / 2, 0)
    floor_period = rng.uniform(0.6, 2.2)
    parts.append(
        quad(corner, (width, 0, 0), (0, depth, 0), pick(rng, palette.floors), floor_period, CELL)
    )
    above = (-width / 2, depth / 2, height)
    parts.append(quad(above, (width, 0, 0), (0, -depth, 0), ceiling(rng), 2.0, CELL))
    for layer in range(1, 1 + int(rng.integers(0, 3))):
        extent = rng.uniform((0.7, 0.7), (1.8, 1.4))
        rug = box((*extent, 0.005 * layer), pick(rng, palette.fabrics), rng.uniform(0.5, 1.2), CELL)
        place = rng.uniform(-0.25, 0.25, 2) * size[:2]
        parts.append(rug.moved((*place, 0), rng.uniform(0, np.pi)))
    return parts


def _furniture(
    rng: np.random.Generator,
    catalogue: Catalogue,
    size: np.ndarray,
    others: Sequence[Mesh] = (),
    wanted: int | None = None,
) -> list[Mesh]:
    """Pieces along the walls, their backs to them, and some that stand free.

    Args:
      others: which are there already.
      wanted: how many, at most; None: as suits the room.
    """
    placed, taken = [], [piece.bounds for piece in others]
    if wanted is None:
        wanted = int(rng.uniform(0.7, 1.1) * size[0] * size[1])
    for _ in range(3 * wanted):
        if len(placed) == wanted:
            break
        piece = catalogue.furniture(rng)
        if (piece.bounds[1] - piece.bounds[0])[2] > size[2] - 0.1:
            continue
        piece = _against_wall(rng, piece, size) if rng.random() < 0.75 else _free(rng, piece, size)
        if piece is None or not _inside(piece, size) or any(_overlap(piece, t) for t in taken):
            continue
        placed.append(piece)
        taken.append(piece.bounds)
    return placed


def _against_wall(rng: np.random.Generator, piece: Mesh, size: np.ndarray) -> Mesh | None:
    width, depth, _ = piece.bounds[1] - piece.bounds[0]
    wall = walls(size)[rng.integers(4)]
    if width > wall.length:
        return None
    along = rng.uniform(width / 2, wall.length - width / 2)
    return wall.placed(piece.moved((along, depth / 2 + WALL_GAP, 0)))


def _free(rng: np.random.Generator, piece: Mesh, size: np.ndarray) -> Mesh:
    place = np.append(rng.uniform(-0.32, 0.32, 2) * size[:2], 0)
    return piece.moved(place, rng.uniform(0, 2 * np.pi))


def _inside(piece: Mesh, size: np.ndarray) -> bool:
    return bool((np.abs(piece.bounds[:, :2]) < size[:2] / 2).all())


def _overlap(piece: Mesh, taken: np.ndarray, gap: float = 0.04) -> bool:
    low, high = piece.bounds
    return bool((low[:2] < taken[1, :2] + gap).all() and (high[:2] > taken[0, :2] - gap).all())


def _clutter(
    rng: np.random.Generator, catalogue: Catalogue, size: np.ndarray, caster: RayCaster
) -> list[Mesh]:
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
    for i in rng.permutation(chosen):
        place = np.array([*start[i, :2], below[i] + 0.001])
        thing = catalogue.clutter(rng)
        if len(centres) and np.linalg.norm(centres - place, axis=1).min() < 0.15:
            continue
        thing = thing.moved(place, rng.uniform(0, 2 * np.pi))
        if _inside(thing, size):
            things.append(thing)
            centres = np.concatenate([centres, place[None]])
    return things


def _ceiling_lamps(
    rng: np.random.Generator, size: np.ndarray
) -> tuple[tuple[Lamp, ...], list[Mesh]]:
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

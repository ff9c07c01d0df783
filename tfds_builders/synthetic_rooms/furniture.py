"""Procedural furniture and clutter: each piece is new, made of boxes, cylinders and textures."""

import numpy as np

from tfds_builders.synthetic_rooms import textures
from tfds_builders.synthetic_rooms.meshes import (
    CELL,
    Material,
    Mesh,
    ball,
    box,
    cylinder,
    merged,
    quad,
)


class ProceduralAssets:
    """Everything a room is made of, from random numbers alone.

    Its palette of materials is drawn once and shared by the room's objects, as real rooms repeat
    their woods and fabrics.
    """

    def __init__(self, rng: np.random.Generator):
        self._surfaces = [_material(rng, textures.surface(rng)) for _ in range(6)]
        self._woods = [_material(rng, textures.wood(rng)) for _ in range(3)]
        self._fabrics = [_material(rng, textures.fabric(rng)) for _ in range(4)]
        self._prints = [Material(textures.printed(rng)) for _ in range(12)]
        self._spines = [Material(textures.spines(rng)) for _ in range(3)]

    def wall(self, rng: np.random.Generator) -> Material:
        return _material(rng, textures.wall(rng), gloss=0.0)

    def floor(self, rng: np.random.Generator) -> Material:
        return _material(rng, textures.floor(rng))

    def ceiling(self, rng: np.random.Generator) -> Material:
        return Material(None, tint=tuple(rng.uniform(0.55, 0.85) * rng.uniform(0.95, 1, 3)))

    def picture(self, rng: np.random.Generator) -> Material:
        return self._prints[rng.integers(len(self._prints))]

    def rug(self, rng: np.random.Generator) -> Material:
        return self._fabrics[rng.integers(len(self._fabrics))]

    def furniture(self, rng: np.random.Generator) -> Mesh:
        """A piece that stands on the floor, 0.3 to 2.2 m wide, its front towards +y."""
        pieces = (_table, _shelf, _cabinet, _chair, _sofa, _bed, _plinth, _lamp, _plant)
        weights = np.array([4, 5, 4, 4, 2, 1, 2, 1, 2.0])
        piece = pieces[rng.choice(len(pieces), p=weights / weights.sum())]
        return piece(rng, self)

    def clutter(self, rng: np.random.Generator) -> Mesh:
        """A thing of 4 to 40 cm that stands on furniture or the floor."""
        pieces = (_parcel, _tin, _ball, _books, _screen, _vase)
        weights = np.array([5, 3, 1, 3, 1, 2.0])
        piece = pieces[rng.choice(len(pieces), p=weights / weights.sum())]
        return piece(rng, self)

    def _pick(self, rng, materials: list[Material]) -> Material:
        return materials[rng.integers(len(materials))]

    def wood(self, rng) -> Material:
        return self._pick(rng, self._woods if rng.random() < 0.7 else self._surfaces)

    def fabric(self, rng) -> Material:
        return self._pick(rng, self._fabrics)

    def surface(self, rng) -> Material:
        return self._pick(rng, self._surfaces)

    def spines(self, rng) -> Material:
        return self._pick(rng, self._spines)


def _material(rng: np.random.Generator, texture: np.ndarray, gloss: float | None = None) -> Material:
    shiny = rng.uniform(0, 0.6) * (rng.random() < 0.4) if gloss is None else gloss
    tint = rng.uniform(0.75, 1.05) * rng.uniform(0.93, 1.0, 3)
    return Material(texture, tuple(tint), gloss=shiny)


def _plain(rng: np.random.Generator) -> Material:
    return Material(None, tuple(rng.uniform(0.03, 0.7) * rng.uniform(0.5, 1, 3)), rng.uniform(0, 0.5))


def _legs(width, depth, height, thickness, material) -> list[Mesh]:
    x, y = width / 2 - thickness, depth / 2 - thickness
    leg = box((thickness, thickness, height), material, period=0.5)
    return [leg.moved((sx * x, sy * y, 0)) for sx in (-1, 1) for sy in (-1, 1)]


def _table(rng, assets) -> Mesh:
    width, depth = rng.uniform(0.5, 1.8), rng.uniform(0.45, 0.9)
    height, board = rng.uniform(0.4, 0.8), rng.uniform(0.02, 0.05)
    wood = assets.wood(rng)
    top = box((width, depth, board), wood, period=rng.uniform(0.4, 1), cell=CELL)
    parts = [top.moved((0, 0, height - board))]
    legs = assets.wood(rng) if rng.random() < 0.5 else _plain(rng)
    parts += _legs(width, depth, height - board, rng.uniform(0.03, 0.08), legs)
    if rng.random() < 0.3:
        cloth = assets.fabric(rng)
        parts.append(box((width * 0.7, depth * 1.01, 0.004), cloth, 0.4, CELL).moved((0, 0, height)))
    return merged(parts)


def _shelf(rng, assets) -> Mesh:
    """An open rack whose boards carry books and boxes."""
    width, depth = rng.uniform(0.5, 1.4), rng.uniform(0.22, 0.4)
    height, levels = rng.uniform(0.7, 2.1), int(rng.integers(2, 6))
    wood, board = assets.wood(rng), 0.025
    side = box((board, depth, height), wood, 0.6, CELL)
    parts = [side.moved((sign * (width - board) / 2, 0, 0)) for sign in (-1, 1)]
    if rng.random() < 0.6:
        back = box((width - board, 0.01, height - 0.01), assets.wood(rng), 0.7, CELL)
        parts.append(back.moved((0, -depth / 2, 0)))
    shelf = box((width - 2 * board, depth * 0.98, board), wood, 0.6, CELL)
    gap = (height - board) / levels
    for level in range(levels + 1):
        bottom = level * gap
        parts.append(shelf.moved((0, 0, bottom)))
        if level < levels and rng.random() < 0.8:
            parts += _shelf_content(rng, assets, width - 3 * board, depth, bottom + board, gap - board)
    return merged(parts)


def _shelf_content(rng, assets, width, depth, bottom, room) -> list[Mesh]:
    parts, left = [], -width / 2
    while left < width / 2 - 0.06:
        span = min(rng.uniform(0.08, 0.45), width / 2 - left)
        height = room * rng.uniform(0.5, 0.92)
        kind = rng.random()
        if kind < 0.6:
            material = assets.spines(rng)
        elif kind < 0.8:
            material = assets.picture(rng)
        else:
            material = _plain(rng)
        block = box((span * 0.95, depth * rng.uniform(0.5, 0.85), height), material)
        if kind < 0.9:
            parts.append(block.moved((left + span / 2, -0.02, bottom)))
        left += span
    return parts


def _cabinet(rng, assets) -> Mesh:
    """A closed chest with doors or drawers and knobs."""
    width, depth, height = rng.uniform(0.4, 1.4), rng.uniform(0.35, 0.6), rng.uniform(0.5, 2.0)
    body = box((width, depth, height), assets.wood(rng), rng.uniform(0.4, 1), CELL)
    fronts = assets.wood(rng)
    knob = box((0.03, 0.03, 0.03), _plain(rng))
    columns, rows = int(rng.integers(1, 4)), int(rng.integers(1, 5))
    parts = [body]
    w, h = width / columns, height / rows
    for column in range(columns):
        for row in range(rows):
            x, z = (column + 0.5) * w - width / 2, row * h + 0.02
            front = box((w * 0.93, 0.02, h - 0.04), fronts, 0.5, CELL)
            parts.append(front.moved((x, depth / 2 + 0.01, z)))
            parts.append(knob.moved((x + w * 0.3, depth / 2 + 0.035, z + h * 0.5)))
    return merged(parts)


def _chair(rng, assets) -> Mesh:
    side, height = rng.uniform(0.38, 0.52), rng.uniform(0.4, 0.5)
    frame = assets.wood(rng) if rng.random() < 0.6 else _plain(rng)
    seat = box((side, side, 0.05), assets.fabric(rng), 0.35).moved((0, 0, height - 0.05))
    back_height = rng.uniform(0.3, 0.5)
    back = box((side, 0.03, back_height), frame, 0.4).moved((0, -side / 2, height + 0.05))
    posts = box((0.03, 0.03, back_height), frame, 0.4)
    parts = [seat, back, *_legs(side, side, height - 0.05, 0.035, frame)]
    parts += [posts.moved((sign * side * 0.45, -side / 2, height - 0.02)) for sign in (-1, 1)]
    return merged(parts)


def _sofa(rng, assets) -> Mesh:
    width, depth, seat = rng.uniform(1.0, 2.1), rng.uniform(0.7, 0.95), rng.uniform(0.36, 0.46)
    fabric, arm = assets.fabric(rng), rng.uniform(0.12, 0.22)
    parts = [
        box((width - 0.04, depth - 0.04, seat), fabric, 0.5, CELL),
        box((width - 0.02, 0.2, rng.uniform(0.7, 0.95)), fabric, 0.5, CELL).moved((0, -depth / 2, 0)),
    ]
    side = box((arm, depth - 0.02, seat + 0.18), fabric, 0.5, CELL)
    parts += [side.moved((sign * (width - arm) / 2, 0, 0)) for sign in (-1, 1)]
    for x in np.linspace(-0.3, 0.3, int(rng.integers(1, 4))) * width:
        cushion = box((0.4, 0.13, 0.38), assets.fabric(rng), 0.4)
        parts.append(cushion.moved((x, -depth / 2 + 0.2, seat), rng.normal(0, 0.15)))
    return merged(parts)


def _bed(rng, assets) -> Mesh:
    width, length = rng.uniform(0.9, 1.6), rng.uniform(1.9, 2.1)
    frame = box((width, length, 0.3), assets.wood(rng), 0.6, CELL)
    cover = box((width * 0.98, length * 0.97, 0.18), assets.fabric(rng), 0.8, CELL)
    board = box((width, 0.05, rng.uniform(0.7, 1.1)), assets.wood(rng), 0.6, CELL)
    pillow = box((0.55, 0.35, 0.12), assets.fabric(rng), 0.5)
    return merged(
        [
            frame,
            cover.moved((0, 0, 0.3)),
            board.moved((0, -length / 2, 0)),
            pillow.moved((0, -length / 2 + 0.3, 0.48), rng.normal(0, 0.2)),
        ]
    )


def _plinth(rng, assets) -> Mesh:
    size = rng.uniform((0.3, 0.3, 0.3), (0.8, 0.6, 1.1))
    return box(size, assets.surface(rng), rng.uniform(0.3, 0.8), CELL)


def _lamp(rng, assets) -> Mesh:
    height = rng.uniform(1.1, 1.7)
    shade = Material(assets.fabric(rng).texture, (1.0, 0.95, 0.8), emission=0.5)
    return merged(
        [
            cylinder(0.15, 0.03, _plain(rng)),
            cylinder(0.015, height, _plain(rng), segments=6),
            cylinder(0.2, 0.3, shade, top_radius=0.12).moved((0, 0, height)),
        ]
    )


def _plant(rng, assets) -> Mesh:
    """A pot with long leaves."""
    pot, tall = rng.uniform(0.1, 0.2), rng.uniform(0.4, 1.2)
    tint = (rng.uniform(0.05, 0.3), rng.uniform(0.3, 0.7), rng.uniform(0.03, 0.2))
    leaf_material = Material(assets.wood(rng).texture, tint, gloss=0.2)
    parts = [cylinder(pot * 0.8, pot * 1.8, assets.surface(rng), top_radius=pot)]
    for azimuth in rng.uniform(0, 2 * np.pi, int(rng.integers(14, 30))):
        lean, length, width = rng.uniform(0.1, 0.9), tall * rng.uniform(0.5, 1), 0.05
        tip = (0, length * np.sin(lean), length * np.cos(lean))
        leaf = quad((-width / 2, 0, 0), (width, 0, 0), tip, leaf_material)
        parts.append(leaf.moved((0, 0, pot * 1.7), azimuth))
    return merged(parts)


def _parcel(rng, assets) -> Mesh:
    size = rng.uniform((0.06, 0.05, 0.04), (0.4, 0.3, 0.35))
    return box(size, assets.picture(rng) if rng.random() < 0.75 else assets.surface(rng))


def _tin(rng, assets) -> Mesh:
    return cylinder(rng.uniform(0.03, 0.09), rng.uniform(0.06, 0.3), assets.picture(rng))


def _ball(rng, assets) -> Mesh:
    return ball(rng.uniform(0.04, 0.13), assets.surface(rng))


def _books(rng, assets) -> Mesh:
    """A pile of books that lie flat."""
    parts, bottom = [], 0.0
    for _ in range(int(rng.integers(1, 6))):
        size = rng.uniform((0.14, 0.18, 0.015), (0.22, 0.3, 0.05))
        cover = assets.picture(rng) if rng.random() < 0.7 else _plain(rng)
        parts.append(box(size, cover).moved((0, 0, bottom), rng.normal(0, 0.2)))
        bottom += float(size[2])
    return merged(parts)


def _screen(rng, assets) -> Mesh:
    width = rng.uniform(0.3, 0.6)
    shown = Material(assets.picture(rng).texture, emission=rng.uniform(0.2, 0.8))
    height = width * 0.6
    glass = quad((-width / 2 + 0.01, 0.016, 0.11), (width - 0.02, 0, 0), (0, 0, height - 0.02), shown)
    case = box((width, 0.03, height), _plain(rng)).moved((0, 0, 0.1))
    return merged([case, glass, box((0.2, 0.15, 0.01), _plain(rng)), box((0.04, 0.03, 0.1), _plain(rng))])


def _vase(rng, assets) -> Mesh:
    radius, height = rng.uniform(0.03, 0.1), rng.uniform(0.1, 0.35)
    material = assets.surface(rng)
    waist = radius * rng.uniform(0.4, 0.9)
    lower = cylinder(radius * 0.7, height / 2, material, top_radius=radius)
    upper = cylinder(radius, height / 2, material, top_radius=waist).moved((0, 0, height / 2))
    return merged([lower, upper])



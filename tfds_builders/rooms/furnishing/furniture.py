"""Procedural furniture and clutter: each piece is new, made of boxes, cylinders and textures."""

import dataclasses

import numpy as np

from tfds_builders.rooms.furnishing.palette import Palette, pick, plain
from tfds_builders.rooms.graphics.meshes import (
    CELL,
    Material,
    Mesh,
    ball,
    box,
    cylinder,
    merged,
    quad,
)


@dataclasses.dataclass(frozen=True)
class ProceduralFurniture:
    """Pieces that are never the same twice, in the materials of a palette."""

    palette: Palette

    def furniture(self, rng: np.random.Generator) -> Mesh:
        """A piece that stands on the floor, 0.3 to 2.2 m wide, its front towards +y."""
        pieces = (_table, _shelf, _cabinet, _chair, _sofa, _bed, _plinth, _lamp, _plant)
        weights = np.array([4, 5, 4, 4, 2, 1, 2, 1, 2.0])
        piece = pieces[rng.choice(len(pieces), p=weights / weights.sum())]
        return piece(rng, self.palette).standing()

    def clutter(self, rng: np.random.Generator) -> Mesh:
        """A thing of 4 to 40 cm that stands on furniture or the floor."""
        pieces = (_parcel, _tin, _ball, _books, _screen, _vase)
        weights = np.array([5, 3, 1, 3, 1, 2.0])
        piece = pieces[rng.choice(len(pieces), p=weights / weights.sum())]
        return piece(rng, self.palette).standing()


def _legs(width, depth, height, thickness, material) -> list[Mesh]:
    x, y = width / 2 - thickness, depth / 2 - thickness
    leg = box((thickness, thickness, height), material, period=0.5)
    return [leg.moved((sx * x, sy * y, 0)) for sx in (-1, 1) for sy in (-1, 1)]


def _table(rng: np.random.Generator, palette: Palette) -> Mesh:
    width, depth = rng.uniform(0.5, 1.8), rng.uniform(0.45, 0.9)
    height, board = rng.uniform(0.4, 0.8), rng.uniform(0.02, 0.05)
    wood = palette.wood(rng)
    top = box((width, depth, board), wood, period=rng.uniform(0.4, 1), cell=CELL)
    parts = [top.moved((0, 0, height - board))]
    legs = palette.wood(rng) if rng.random() < 0.5 else plain(rng)
    parts += _legs(width, depth, height - board, rng.uniform(0.03, 0.08), legs)
    if rng.random() < 0.3:
        cloth = pick(rng, palette.fabrics)
        parts.append(
            box((width * 0.7, depth * 1.01, 0.004), cloth, 0.4, CELL).moved((0, 0, height))
        )
    return merged(parts)


def _shelf(rng: np.random.Generator, palette: Palette) -> Mesh:
    """An open rack whose boards carry books and boxes."""
    width, depth = rng.uniform(0.5, 1.4), rng.uniform(0.22, 0.4)
    height, levels = rng.uniform(0.7, 2.1), int(rng.integers(2, 6))
    wood, board = palette.wood(rng), 0.025
    side = box((board, depth, height), wood, 0.6, CELL)
    parts = [side.moved((sign * (width - board) / 2, 0, 0)) for sign in (-1, 1)]
    if rng.random() < 0.6:
        back = box((width - board, 0.01, height - 0.01), palette.wood(rng), 0.7, CELL)
        parts.append(back.moved((0, -depth / 2, 0)))
    shelf = box((width - 2 * board, depth * 0.98, board), wood, 0.6, CELL)
    gap = (height - board) / levels
    for level in range(levels + 1):
        bottom = level * gap
        parts.append(shelf.moved((0, 0, bottom)))
        if level < levels and rng.random() < 0.8:
            parts += _shelf_content(
                rng, palette, width - 3 * board, depth, bottom + board, gap - board
            )
    return merged(parts)


def _shelf_content(
    rng: np.random.Generator,
    palette: Palette,
    width: float,
    depth: float,
    bottom: float,
    room: float,
) -> list[Mesh]:
    """Books, boxes and gaps side by side, up to `room` metres high."""
    parts, left = [], -width / 2
    while left < width / 2 - 0.06:
        span = min(rng.uniform(0.08, 0.45), width / 2 - left)
        size = (span * 0.95, depth * rng.uniform(0.5, 0.85), room * rng.uniform(0.5, 0.92))
        kind = rng.choice(["books", "box", "crate", "gap"], p=[0.6, 0.2, 0.1, 0.1])
        if kind == "books":
            part = _row_of_books(rng, palette, size)
        else:
            part = box(size, pick(rng, palette.prints) if kind == "box" else plain(rng))
        if kind != "gap":
            parts.append(part.moved((left + span / 2, -0.02, bottom)))
        left += span
    return parts


def _row_of_books(rng: np.random.Generator, palette: Palette, size) -> Mesh:
    """A box with a stretch of book backs, another one each time, about half a metre a texture."""
    row = box(size, pick(rng, palette.spines))
    stretch = np.array([size[0] / rng.uniform(0.4, 0.7), 1.0], np.float32)
    start = np.array([rng.uniform(), 0.0], np.float32)
    return dataclasses.replace(row, uvs=row.uvs * stretch + start)


def _cabinet(rng: np.random.Generator, palette: Palette) -> Mesh:
    """A closed chest with doors or drawers and knobs."""
    width, depth, height = rng.uniform(0.4, 1.4), rng.uniform(0.35, 0.6), rng.uniform(0.5, 2.0)
    body = box((width, depth, height), palette.wood(rng), rng.uniform(0.4, 1), CELL)
    fronts = palette.wood(rng)
    knob = box((0.03, 0.03, 0.03), plain(rng))
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


def _chair(rng: np.random.Generator, palette: Palette) -> Mesh:
    side, height = rng.uniform(0.38, 0.52), rng.uniform(0.4, 0.5)
    frame = palette.wood(rng) if rng.random() < 0.6 else plain(rng)
    seat = box((side, side, 0.05), pick(rng, palette.fabrics), 0.35).moved((0, 0, height - 0.05))
    back_height = rng.uniform(0.3, 0.5)
    back = box((side, 0.03, back_height), frame, 0.4).moved((0, -side / 2, height + 0.05))
    posts = box((0.03, 0.03, back_height), frame, 0.4)
    parts = [seat, back, *_legs(side, side, height - 0.05, 0.035, frame)]
    parts += [posts.moved((sign * side * 0.45, -side / 2, height - 0.02)) for sign in (-1, 1)]
    return merged(parts)


def _sofa(rng: np.random.Generator, palette: Palette) -> Mesh:
    width, depth, seat = rng.uniform(1.0, 2.1), rng.uniform(0.7, 0.95), rng.uniform(0.36, 0.46)
    fabric, arm = pick(rng, palette.fabrics), rng.uniform(0.12, 0.22)
    parts = [
        box((width - 0.04, depth - 0.04, seat), fabric, 0.5, CELL),
        box((width - 0.02, 0.2, rng.uniform(0.7, 0.95)), fabric, 0.5, CELL).moved(
            (0, -depth / 2, 0)
        ),
    ]
    side = box((arm, depth - 0.02, seat + 0.18), fabric, 0.5, CELL)
    parts += [side.moved((sign * (width - arm) / 2, 0, 0)) for sign in (-1, 1)]
    for x in np.linspace(-0.3, 0.3, int(rng.integers(1, 4))) * width:
        cushion = box((0.4, 0.13, 0.38), pick(rng, palette.fabrics), 0.4)
        parts.append(cushion.moved((x, -depth / 2 + 0.2, seat), rng.normal(0, 0.15)))
    return merged(parts)


def _bed(rng: np.random.Generator, palette: Palette) -> Mesh:
    width, length = rng.uniform(0.9, 1.6), rng.uniform(1.9, 2.1)
    frame = box((width, length, 0.3), palette.wood(rng), 0.6, CELL)
    cover = box((width * 0.98, length * 0.97, 0.18), pick(rng, palette.fabrics), 0.8, CELL)
    board = box((width, 0.05, rng.uniform(0.7, 1.1)), palette.wood(rng), 0.6, CELL)
    pillow = box((0.55, 0.35, 0.12), pick(rng, palette.fabrics), 0.5)
    return merged(
        [
            frame,
            cover.moved((0, 0, 0.3)),
            board.moved((0, -length / 2, 0)),
            pillow.moved((0, -length / 2 + 0.3, 0.48), rng.normal(0, 0.2)),
        ]
    )


def _plinth(rng: np.random.Generator, palette: Palette) -> Mesh:
    size = rng.uniform((0.3, 0.3, 0.3), (0.8, 0.6, 1.1))
    return box(size, pick(rng, palette.surfaces), rng.uniform(0.3, 0.8), CELL)


def _lamp(rng: np.random.Generator, palette: Palette) -> Mesh:
    height = rng.uniform(1.1, 1.7)
    shade = Material(pick(rng, palette.fabrics).texture, (1.0, 0.95, 0.8), emission=0.5)
    return merged(
        [
            cylinder(0.15, 0.03, plain(rng)),
            cylinder(0.015, height, plain(rng), segments=6),
            cylinder(0.2, 0.3, shade, top_radius=0.12).moved((0, 0, height)),
        ]
    )


def _plant(rng: np.random.Generator, palette: Palette) -> Mesh:
    """A pot with long leaves."""
    pot, tall = rng.uniform(0.1, 0.2), rng.uniform(0.4, 1.2)
    tint = (rng.uniform(0.05, 0.3), rng.uniform(0.3, 0.7), rng.uniform(0.03, 0.2))
    leaf_material = Material(palette.wood(rng).texture, tint, gloss=0.2)
    parts = [cylinder(pot * 0.8, pot * 1.8, pick(rng, palette.surfaces), top_radius=pot)]
    for azimuth in rng.uniform(0, 2 * np.pi, int(rng.integers(14, 30))):
        lean, length, width = rng.uniform(0.1, 0.9), tall * rng.uniform(0.5, 1), 0.05
        tip = (0, length * np.sin(lean), length * np.cos(lean))
        leaf = quad((-width / 2, 0, 0), (width, 0, 0), tip, leaf_material)
        parts.append(leaf.moved((0, 0, pot * 1.7), azimuth))
    return merged(parts)


def _parcel(rng: np.random.Generator, palette: Palette) -> Mesh:
    size = rng.uniform((0.06, 0.05, 0.04), (0.4, 0.3, 0.35))
    return box(
        size, pick(rng, palette.prints) if rng.random() < 0.75 else pick(rng, palette.surfaces)
    )


def _tin(rng: np.random.Generator, palette: Palette) -> Mesh:
    return cylinder(rng.uniform(0.03, 0.09), rng.uniform(0.06, 0.3), pick(rng, palette.prints))


def _ball(rng: np.random.Generator, palette: Palette) -> Mesh:
    return ball(rng.uniform(0.04, 0.13), pick(rng, palette.surfaces))


def _books(rng: np.random.Generator, palette: Palette) -> Mesh:
    """A pile of books that lie flat."""
    parts, bottom = [], 0.0
    for _ in range(int(rng.integers(1, 6))):
        size = rng.uniform((0.14, 0.18, 0.015), (0.22, 0.3, 0.05))
        cover = pick(rng, palette.prints) if rng.random() < 0.7 else plain(rng)
        parts.append(box(size, cover).moved((0, 0, bottom), rng.normal(0, 0.2)))
        bottom += float(size[2])
    return merged(parts)


def _screen(rng: np.random.Generator, palette: Palette) -> Mesh:
    width = rng.uniform(0.3, 0.6)
    shown = Material(pick(rng, palette.prints).texture, emission=rng.uniform(0.2, 0.8))
    height = width * 0.6
    right, up = (0.02 - width, 0, 0), (0, 0, height - 0.02)
    glass = quad((width / 2 - 0.01, 0.016, 0.11), right, up, shown)
    case = box((width, 0.03, height), plain(rng)).moved((0, 0, 0.1))
    return merged(
        [case, glass, box((0.2, 0.15, 0.01), plain(rng)), box((0.04, 0.03, 0.1), plain(rng))]
    )


def _vase(rng: np.random.Generator, palette: Palette) -> Mesh:
    radius, height = rng.uniform(0.03, 0.1), rng.uniform(0.1, 0.35)
    material = pick(rng, palette.surfaces)
    waist = radius * rng.uniform(0.4, 0.9)
    lower = cylinder(radius * 0.7, height / 2, material, top_radius=radius)
    upper = cylinder(radius, height / 2, material, top_radius=waist).moved((0, 0, height / 2))
    return merged([lower, upper])

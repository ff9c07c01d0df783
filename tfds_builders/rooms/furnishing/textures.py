"""Procedural textures: surfaces that repeat (plaster, wood, fabric) and prints (posters, text)."""

import string

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

SIZE = 256


def surface(rng: np.random.Generator) -> UInt8[np.ndarray, "size size 3"]:
    """A texture of a random kind that repeats without a seam."""
    kinds = [_plaster, _wood, _wood, _bricks, _tiles, _stripes, _fabric, _marble, _dots, _diamonds]
    return kinds[rng.integers(len(kinds))](rng)


def floor(rng: np.random.Generator) -> UInt8[np.ndarray, "size size 3"]:
    """A surface of a kind that floors have."""
    kinds = [_planks, _tiles, _carpet, _marble, _planks, _diamonds]
    return kinds[rng.integers(len(kinds))](rng)


def wall(rng: np.random.Generator) -> UInt8[np.ndarray, "size size 3"]:
    """A surface of a kind that walls have."""
    kinds = [_plaster, _plaster, _bricks, _wallpaper, _stripes, _panels]
    return kinds[rng.integers(len(kinds))](rng)


def wood(rng: np.random.Generator) -> UInt8[np.ndarray, "size size 3"]:
    return _wood(rng)


def fabric(rng: np.random.Generator) -> UInt8[np.ndarray, "size size 3"]:
    kinds = [_fabric, _fabric, _carpet, _stripes, _dots, _diamonds]
    return kinds[rng.integers(len(kinds))](rng)


def printed(rng: np.random.Generator) -> UInt8[np.ndarray, "size size 3"]:
    """A picture that does not repeat: a poster, a painting or a page of text."""
    kinds = [_poster, _painting, _page, _landscape]
    return kinds[rng.integers(len(kinds))](rng)


def spines(rng: np.random.Generator) -> UInt8[np.ndarray, "size size 3"]:
    """A row of book backs."""
    image = np.full((SIZE, SIZE, 3), 25, np.uint8)  # drawn as a pile, then turned upright
    top = 0
    while top < SIZE:
        thickness = int(rng.integers(9, 30))
        colour = _colour(rng)
        ink = _contrasting(rng, colour)
        book = image[top : top + thickness - 1, int(rng.integers(SIZE // 4)) :]
        book[:] = colour
        for band in rng.integers(8, book.shape[1] - 12, 3):
            book[:, band : band + rng.integers(2, 6)] = ink
        baseline = (int(rng.integers(10, 120)), top + thickness * 2 // 3)
        _write(rng, image, baseline, 0.02 * thickness, ink)
        top += thickness
    return _grained(rng, np.ascontiguousarray(image.transpose(1, 0, 2)[::-1]), 6)


def noise(
    rng: np.random.Generator, octaves: range, stretch: int = 0
) -> Float32[np.ndarray, "size size"]:
    """Tiling fractal value noise, of about zero mean and unit deviation.

    Args:
      octaves: exponents k of the grids of 2**k cells that are summed, each with half the weight.
      stretch: how many octaves finer the pattern is down the image than across it.
    """
    total = np.zeros((min(2 ** (octaves[0] + stretch), SIZE), 2 ** octaves[0]), np.float32)
    for weight, octave in enumerate(octaves):
        total = _resized_tile(total, min(2 ** (octave + stretch), SIZE), 2**octave)
        total += 0.5**weight * rng.standard_normal(total.shape, np.float32)
    total = _resized_tile(total, SIZE, SIZE)
    return total / (total.std() + 1e-6)


def _resized_tile(tile: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """`tile` enlarged to rows x columns, whole multiples, interpolating across the seam."""
    step_y, step_x = rows // tile.shape[0], columns // tile.shape[1]
    if step_y == step_x == 1:
        return tile
    pad = 2
    wrapped = cv2.copyMakeBorder(tile, pad, pad, pad, pad, cv2.BORDER_WRAP)
    size = (wrapped.shape[1] * step_x, wrapped.shape[0] * step_y)
    large = cv2.resize(wrapped, size, interpolation=cv2.INTER_CUBIC)
    return large[pad * step_y :, pad * step_x :][:rows, :columns]


def _colour(rng: np.random.Generator, low: int = 30, high: int = 235) -> tuple[int, int, int]:
    """An RGB colour as rooms have them: mostly greyish or muted, warm more often than cold."""
    hue = rng.uniform(0.0, 0.14) if rng.random() < 0.55 else rng.uniform()
    muted = rng.random()
    saturation = rng.uniform(
        *((0, 0.15) if muted < 0.45 else (0.1, 0.4) if muted < 0.85 else (0.4, 0.8))
    )
    offsets = np.array([0.0, 2 / 3, 1 / 3])
    pure = np.clip(np.abs((hue + offsets) % 1 * 6 - 3) - 1, 0, 1)
    return tuple((rng.uniform(low, high) * (1 - saturation * (1 - pure))).astype(int).tolist())


def _contrasting(rng: np.random.Generator, colour) -> tuple[int, int, int]:
    return _colour(rng, 10, 70) if np.mean(colour) > 125 else _colour(rng, 180, 245)


def _blend(a, b, weight: np.ndarray) -> np.ndarray:
    weight = np.clip(weight, 0, 1)[..., None]
    image = np.asarray(a) * (1 - weight) + np.asarray(b) * weight
    return np.clip(image, 0, 255).astype(np.uint8)


def _grained(rng: np.random.Generator, image: np.ndarray, strength: float) -> np.ndarray:
    """`image` with fine and coarse brightness noise, as dirt and paper grain give."""
    grain = noise(rng, range(2, 8)) * strength
    grain += rng.standard_normal((SIZE, SIZE), np.float32) * np.float32(strength / 3)
    return np.clip(image + grain[..., None], 0, 255).astype(np.uint8)


def _coordinates() -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32) / SIZE
    return x, y


def _plaster(rng: np.random.Generator) -> np.ndarray:
    base = np.array(_colour(rng, 140, 225), np.float32)
    image = np.broadcast_to(base, (SIZE, SIZE, 3))
    return _grained(rng, image, rng.uniform(3, 14))


def _carpet(rng: np.random.Generator) -> np.ndarray:
    fine = noise(rng, range(6, 9))
    image = _blend(_colour(rng, 60, 180), _colour(rng, 60, 180), 0.5 + 0.35 * fine)
    return _grained(rng, image, rng.uniform(4, 12))


def _wood(rng: np.random.Generator) -> np.ndarray:
    x, _ = _coordinates()
    warp = noise(rng, range(4), stretch=3)
    rings = np.sin(2 * np.pi * (rng.integers(2, 8) * x.T + rng.uniform(0.1, 0.6) * warp))
    fibres = noise(rng, range(1, 5), stretch=4)
    dark = rng.uniform(50, 140) * np.array([1, rng.uniform(0.66, 0.86), rng.uniform(0.4, 0.75)])
    light = np.minimum(dark * rng.uniform(1.3, 1.9), 245)
    return _blend(dark, light, 0.5 + 0.25 * rings + 0.2 * fibres)


def _planks(rng: np.random.Generator) -> np.ndarray:
    """Boards of one wood, each cut from another place of it."""
    grain = _wood(rng).astype(np.float32)
    boards = int(rng.choice([4, 8]))
    height = SIZE // boards
    image = np.empty_like(grain)
    for i in range(boards):
        rows = np.roll(grain, rng.integers(SIZE), 1)
        start = rng.integers(SIZE - height + 1)
        image[i * height : (i + 1) * height] = rows[start : start + height] * rng.uniform(0.8, 1.15)
        seam = rng.integers(SIZE)
        image[i * height : (i + 1) * height, seam : seam + 2] *= 0.45
        image[i * height : i * height + 2] *= 0.5
    return _grained(rng, image, 3)


def _bricks(rng: np.random.Generator) -> np.ndarray:
    rows = int(rng.choice([4, 8]))
    columns = rows // 2
    height, width = SIZE // rows, SIZE // columns
    image = np.broadcast_to(np.array(_colour(rng, 90, 210)), (SIZE, SIZE, 3)).astype(np.float32)
    brick = np.array(_colour(rng, 60, 200), np.float32)
    joint = int(rng.integers(2, 6))
    for row in range(rows):
        for column in range(columns):
            left = column * width + (row % 2) * width // 2
            across = np.arange(left, left + width - joint) % SIZE
            shade = brick * rng.uniform(0.7, 1.25) + rng.normal(0, 5, 3)
            image[row * height : (row + 1) * height - joint, across] = shade
    return _grained(rng, image, rng.uniform(5, 14))


def _tiles(rng: np.random.Generator) -> np.ndarray:
    count = int(rng.choice([2, 4, 8]))
    cell = SIZE // count
    colours = np.array([_colour(rng), _colour(rng)], np.float32)
    parity = np.add.outer(np.arange(count), np.arange(count)) % 2
    cells = colours[parity] * rng.uniform(0.85, 1.15, (count, count, 1))
    image = np.repeat(np.repeat(cells, cell, 0), cell, 1)
    lines = np.arange(SIZE) % cell < rng.integers(1, 5)
    image[lines] = image[:, lines] = _colour(rng)
    return _grained(rng, image, rng.uniform(3, 10))


def _stripes(rng: np.random.Generator) -> np.ndarray:
    x, y = _coordinates()
    along = x if rng.random() < 0.6 else y
    phase = along * int(rng.integers(3, 14))
    image = _blend(_colour(rng), _colour(rng), (phase % 1 < rng.uniform(0.2, 0.8)) * 1.0)
    narrow = (phase % 1 > 0.9)[..., None]
    image = np.where(narrow, np.array(_colour(rng), np.uint8), image)
    return _grained(rng, image, rng.uniform(2, 8))


def _fabric(rng: np.random.Generator) -> np.ndarray:
    x, y = _coordinates()
    threads = 2 * np.pi * int(rng.integers(24, 64))
    weave = np.sin(x * threads) * np.sin(y * threads)
    blotches = noise(rng, range(2, 6))
    image = _blend(_colour(rng), _colour(rng), 0.5 + 0.2 * weave + 0.2 * blotches)
    return _grained(rng, image, 4)


def _marble(rng: np.random.Generator) -> np.ndarray:
    x, y = _coordinates()
    bands = rng.integers(1, 4) * x + rng.integers(1, 4) * y
    veins = np.abs(np.sin(2 * np.pi * bands + rng.uniform(1, 3) * noise(rng, range(1, 7))))
    image = _blend(_colour(rng, 20, 110), _colour(rng, 150, 240), veins ** rng.uniform(0.25, 0.8))
    return _grained(rng, image, 3)


def _dots(rng: np.random.Generator) -> np.ndarray:
    count = int(rng.choice([4, 8]))
    x, y = _coordinates()
    row = np.floor(y * count)
    distance = np.hypot((x * count + 0.5 * (row % 2)) % 1 - 0.5, (y * count) % 1 - 0.5)
    edge = np.clip((rng.uniform(0.15, 0.4) - distance) * SIZE / count, 0, 1)
    return _grained(rng, _blend(_colour(rng), _colour(rng), edge), rng.uniform(2, 9))


def _diamonds(rng: np.random.Generator) -> np.ndarray:
    count = int(rng.choice([2, 4, 8]))
    x, y = _coordinates()
    a, b = np.floor((x + y) * count), np.floor((x - y) * count)
    image = _blend(_colour(rng), _colour(rng), ((a + b) % 2) * 1.0)
    return _grained(rng, image, rng.uniform(3, 10))


def _wallpaper(rng: np.random.Generator) -> np.ndarray:
    """A small motif repeated on a plain ground."""
    cell = int(rng.choice([64, 128]))
    ground = _colour(rng, 120, 225)
    tile = np.broadcast_to(np.array(ground, np.uint8), (cell, cell, 3)).copy()
    for _ in range(int(rng.integers(3, 8))):
        centre = tuple(int(c) for c in rng.integers(cell // 5, 4 * cell // 5, 2))
        axes = tuple(int(a) for a in rng.integers(3, cell // 5 + 1, 2))
        angle = float(rng.uniform(0, 180))
        cv2.ellipse(tile, centre, axes, angle, 0, 360, _colour(rng), -1, cv2.LINE_AA)
    image = np.tile(tile, (SIZE // cell, SIZE // cell, 1))
    return _grained(rng, image, rng.uniform(2, 7))


def _panels(rng: np.random.Generator) -> np.ndarray:
    """Upright wooden panels with grooves."""
    image = _wood(rng).transpose(1, 0, 2).astype(np.float32)
    count = int(rng.choice([2, 4, 8]))
    panel = np.arange(SIZE) * count // SIZE
    image *= rng.uniform(0.85, 1.15, count)[panel][None, :, None]
    image[:, np.arange(SIZE) % (SIZE // count) < 4] *= 0.55
    return _grained(rng, image, 3)


def _word(rng: np.random.Generator, length: int = 0) -> str:
    letters = string.ascii_uppercase if rng.random() < 0.5 else string.ascii_lowercase
    count = length or int(rng.integers(2, 9))
    return "".join(letters[i] for i in rng.integers(len(letters), size=count))


def _write(rng: np.random.Generator, image, position, scale, colour) -> None:
    font = int(rng.choice([cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_COMPLEX]))
    thickness = max(1, int(scale * 2.2))
    cv2.putText(image, _word(rng), position, font, scale, colour, thickness, cv2.LINE_AA)


def _poster(rng: np.random.Generator) -> np.ndarray:
    ground = _colour(rng)
    image = _blend(ground, _colour(rng), _coordinates()[1] * rng.uniform(0, 1))
    for _ in range(int(rng.integers(6, 22))):
        colour = _colour(rng)
        points = rng.integers(-20, SIZE + 20, (int(rng.integers(3, 6)), 2)).astype(np.int32)
        kind = rng.integers(4)
        if kind == 0:
            radius = int(rng.integers(6, 60))
            cv2.circle(image, points[0].tolist(), radius, colour, -1, cv2.LINE_AA)
        elif kind == 1:
            cv2.fillPoly(image, [points], colour, cv2.LINE_AA)
        elif kind == 2:
            width = int(rng.integers(1, 9))
            cv2.line(image, points[0].tolist(), points[1].tolist(), colour, width, cv2.LINE_AA)
        else:
            corner = points[0] + rng.integers(10, 100, 2)
            cv2.rectangle(image, points[0].tolist(), corner.tolist(), colour, -1)
    for _ in range(int(rng.integers(1, 6))):
        at = (int(rng.integers(5, 90)), int(rng.integers(25, SIZE - 5)))
        _write(rng, image, at, rng.uniform(0.5, 2.2), _contrasting(rng, ground))
    return _grained(rng, image, 3)


def _painting(rng: np.random.Generator) -> np.ndarray:
    """Colour fields with soft borders and brush strokes."""
    height = noise(rng, range(1, 6))
    levels = np.quantile(height, np.linspace(0, 1, int(rng.integers(4, 9)))[1:-1])
    palette = np.array([_colour(rng) for _ in range(len(levels) + 1)], np.float32)
    image = cv2.GaussianBlur(palette[np.digitize(height, levels)], (0, 0), rng.uniform(0.5, 2))
    for _ in range(int(rng.integers(15, 60))):
        start = rng.integers(0, SIZE, 2)
        end = start + rng.integers(-40, 41, 2)
        width = int(rng.integers(1, 6))
        cv2.line(image, start.tolist(), end.tolist(), _colour(rng), width, cv2.LINE_AA)
    return _grained(rng, image, 6)


def _landscape(rng: np.random.Generator) -> np.ndarray:
    """A sky, hills and speckle: a photograph's large structures."""
    x, y = _coordinates()
    image = _blend(_colour(rng, 120, 230), _colour(rng, 120, 230), y).astype(np.float32)
    image += 18 * noise(rng, range(2, 6))[..., None]
    horizon = rng.uniform(0.25, 0.5)
    for _ in range(int(rng.integers(3, 6))):
        ridge = horizon + 0.05 * noise(rng, range(1, 7))[0]
        hill = np.array(_colour(rng, 30, 170)) + 14 * noise(rng, range(3, 8))[..., None]
        image = np.where((y > ridge)[..., None], hill, image)
        horizon += rng.uniform(0.08, 0.2)
    return np.clip(image, 0, 255).astype(np.uint8)


def _page(rng: np.random.Generator) -> np.ndarray:
    paper = _colour(rng, 200, 245)
    image = np.broadcast_to(np.array(paper, np.uint8), (SIZE, SIZE, 3)).copy()
    ink = _contrasting(rng, paper)
    _write(rng, image, (int(rng.integers(10, 60)), 40), rng.uniform(0.8, 1.8), ink)
    scale = rng.uniform(0.25, 0.6)
    step = int(scale * 40) + 4
    for line in range(60, SIZE - 8, step):
        text = " ".join(_word(rng) for _ in range(8))
        cv2.putText(image, text, (12, line), cv2.FONT_HERSHEY_SIMPLEX, scale, ink, 1, cv2.LINE_AA)
    if rng.random() < 0.6:
        side = int(rng.integers(60, 120))
        left, top = (int(v) for v in rng.integers(10, SIZE - side - 10, 2))
        image[top : top + side, left : left + side] = cv2.resize(_poster(rng), (side, side))
    return _grained(rng, image, 3)

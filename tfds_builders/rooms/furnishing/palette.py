"""The materials that one room repeats, as real rooms repeat their woods and fabrics."""

import dataclasses
from typing import Protocol

import numpy as np

from tfds_builders.rooms.furnishing import textures
from tfds_builders.rooms.graphics.meshes import Material

BRIGHTNESS = (70, 200)


@dataclasses.dataclass(frozen=True)
class Palette:
    """Materials by use; each use has several."""

    walls: tuple[Material, ...]
    floors: tuple[Material, ...]
    woods: tuple[Material, ...]
    fabrics: tuple[Material, ...]
    surfaces: tuple[Material, ...]
    prints: tuple[Material, ...]  # pictures, not repeating
    spines: tuple[Material, ...]  # rows of book backs

    def wood(self, rng: np.random.Generator) -> Material:
        """A wood, or now and then another surface."""
        return pick(rng, self.woods if rng.random() < 0.7 else self.surfaces)


def pick(rng: np.random.Generator, materials: tuple[Material, ...]) -> Material:
    """One of `materials`, all alike likely."""
    return materials[rng.integers(len(materials))]


class TextureSource(Protocol):
    """Draws textures by use."""

    def wall(self, rng: np.random.Generator) -> np.ndarray: ...

    def floor(self, rng: np.random.Generator) -> np.ndarray: ...

    def wood(self, rng: np.random.Generator) -> np.ndarray: ...

    def fabric(self, rng: np.random.Generator) -> np.ndarray: ...

    def surface(self, rng: np.random.Generator) -> np.ndarray: ...

    def printed(self, rng: np.random.Generator) -> np.ndarray: ...


def random_palette(rng: np.random.Generator, source: TextureSource) -> Palette:
    """A room's materials, their textures from `source`."""

    def several(draw, count: int, gloss: float | None = None) -> tuple[Material, ...]:
        return tuple(finished(rng, draw(rng), gloss) for _ in range(count))

    return Palette(
        walls=several(source.wall, 2, gloss=0.0),
        floors=several(source.floor, 1),
        woods=several(source.wood, 3),
        fabrics=several(source.fabric, 4, gloss=0.0),
        surfaces=several(source.surface, 6),
        prints=tuple(Material(source.printed(rng)) for _ in range(20)),
        spines=tuple(Material(textures.spines(rng)) for _ in range(3)),
    )


def finished(rng: np.random.Generator, texture: np.ndarray, gloss: float | None = None) -> Material:
    """A material of the texture, tinted a little, at times polished unless `gloss` is given.

    Textures too dark or too bright for a room are brought to a mean display value in BRIGHTNESS.
    """
    polish = rng.uniform(0, 0.6) * (rng.random() < 0.4) if gloss is None else gloss
    mean = max(float(texture.mean()), 1.0)
    tint = (np.clip(mean, *BRIGHTNESS) / mean) ** 2 * rng.uniform(0.75, 1.05)
    tint = tint * rng.uniform(0.93, 1.0, 3)
    return Material(texture, tuple(tint.tolist()), gloss=polish)


def plain(rng: np.random.Generator) -> Material:
    """A material of one colour: paint, plastic or metal."""
    tint = rng.uniform(0.03, 0.7) * rng.uniform(0.5, 1, 3)
    return Material(None, tuple(tint.tolist()), rng.uniform(0, 0.5))


def ceiling(rng: np.random.Generator) -> Material:
    """Whitewash."""
    return Material(None, tuple((rng.uniform(0.55, 0.85) * rng.uniform(0.95, 1, 3)).tolist()))

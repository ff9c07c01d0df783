"""Rooms furnished from a prepared library: real models, photographed surfaces and pictures."""

import dataclasses
from collections.abc import Callable

import numpy as np

from tfds_builders.synthetic_rooms import textures
from tfds_builders.synthetic_rooms.furniture import ProceduralFurniture
from tfds_builders.synthetic_rooms.library import Library
from tfds_builders.synthetic_rooms.meshes import Material, Mesh
from tfds_builders.synthetic_rooms.palette import Palette, pick

MODEL_SHARE = 0.8  # of the furniture; the rest is procedural
CLUTTER_SHARE = 0.6
PHOTOGRAPHED = 0.7  # of the surfaces and pictures; the rest is procedural
PHOTOGRAPHED_WALLS = 0.4
RECOLOURED, RETEXTURED = 0.3, 0.25  # shares of the models
CLUTTER_TRIANGLES = 3000


@dataclasses.dataclass(frozen=True)
class PhotographicTextures:
    """Textures most of which are photographs; the rest, and most walls, are procedural."""

    library: Library

    def wall(self, rng: np.random.Generator) -> np.ndarray:
        return self._draw(rng, PHOTOGRAPHED_WALLS, "textures", textures.wall)

    def floor(self, rng: np.random.Generator) -> np.ndarray:
        return self._draw(rng, PHOTOGRAPHED, "textures", textures.floor)

    def wood(self, rng: np.random.Generator) -> np.ndarray:
        return self._draw(rng, PHOTOGRAPHED, "textures", textures.wood)

    def fabric(self, rng: np.random.Generator) -> np.ndarray:
        return self._draw(rng, PHOTOGRAPHED, "textures", textures.fabric)

    def surface(self, rng: np.random.Generator) -> np.ndarray:
        return self._draw(rng, PHOTOGRAPHED, "textures", textures.surface)

    def printed(self, rng: np.random.Generator) -> np.ndarray:
        return self._draw(rng, PHOTOGRAPHED, "photographs", textures.printed)

    def _draw(
        self,
        rng: np.random.Generator,
        share: float,
        kind: str,
        procedural: Callable[[np.random.Generator], np.ndarray],
    ) -> np.ndarray:
        if rng.random() < share:
            return self.library.random_texture(rng, kind)
        return procedural(rng)


class LibraryFurniture:
    """Furniture and clutter from a library, with some procedural pieces among them."""

    def __init__(self, library: Library, palette: Palette):
        self._library = library
        self._palette = palette
        self._procedural = ProceduralFurniture(palette)
        extent, height = library.sizes[:, :2].max(1), library.sizes[:, 2]
        large = (extent > 0.3) & (extent < 2.6) & (height > 0.25) & (height < 2.4)
        small = (np.maximum(extent, height) < 0.6) & (library.elevations < 0.01)
        small &= library.triangle_counts() < CLUTTER_TRIANGLES
        self._large, self._small = np.flatnonzero(large), np.flatnonzero(small)

    def furniture(self, rng: np.random.Generator) -> Mesh:
        """A piece at its height above the floor, its front towards +y."""
        if rng.random() > MODEL_SHARE:
            return self._procedural.furniture(rng)
        return self._model(rng, rng.choice(self._large), rng.uniform(0.9, 1.1))

    def clutter(self, rng: np.random.Generator) -> Mesh:
        """A small thing."""
        if rng.random() > CLUTTER_SHARE:
            return self._procedural.clutter(rng)
        return self._model(rng, rng.choice(self._small), rng.uniform(0.8, 1.3))

    def _model(self, rng: np.random.Generator, row: int, scale: float) -> Mesh:
        mesh = self._library.mesh(self._library.models[row])
        lift = (0, 0, float(self._library.elevations[row]))
        mesh = dataclasses.replace(mesh, vertices=mesh.vertices * np.float32(scale)).moved(lift)
        draw = rng.random()
        if draw < RECOLOURED:
            return _recoloured(rng, mesh)
        if draw < RECOLOURED + RETEXTURED:
            return _retextured(rng, mesh, pick(rng, self._palette.surfaces))
        return mesh


def _recoloured(rng: np.random.Generator, mesh: Mesh) -> Mesh:
    dye = rng.uniform(0.4, 1.1, 3)
    return dataclasses.replace(
        mesh,
        materials=tuple(
            dataclasses.replace(m, tint=tuple((dye * m.tint).tolist())) for m in mesh.materials
        ),
    )


def _retextured(rng: np.random.Generator, mesh: Mesh, surface: Material) -> Mesh:
    """The mesh with its untextured parts covered by `surface`, projected along each part's normal."""
    bare = np.array([m.texture is None for m in mesh.materials])
    covered = np.zeros(len(mesh.vertices), bool)
    covered[mesh.faces[bare[mesh.material_ids]]] = True
    across = np.array([[1, 2], [0, 2], [0, 1]])[np.abs(mesh.normals).argmax(1)]
    projected = np.take_along_axis(mesh.vertices, across, 1) / np.float32(rng.uniform(0.3, 1))
    return dataclasses.replace(
        mesh,
        uvs=np.where(covered[:, None], projected * np.float32([1, -1]), mesh.uvs),
        materials=tuple(surface if m.texture is None else m for m in mesh.materials),
    )

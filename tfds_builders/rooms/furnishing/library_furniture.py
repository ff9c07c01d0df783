"""Rooms furnished from a prepared library: real models, photographed surfaces and pictures."""

import dataclasses
from collections.abc import Callable

import numpy as np

from tfds_builders.rooms.furnishing import textures
from tfds_builders.rooms.furnishing.furniture import ProceduralFurniture
from tfds_builders.rooms.furnishing.library import Library
from tfds_builders.rooms.furnishing.palette import Palette, pick
from tfds_builders.rooms.graphics.meshes import Material, Mesh

MODEL_SHARE = 0.8  # of the furniture; the rest is procedural
CLUTTER_SHARE = 0.6
PHOTOGRAPHED = 0.7  # of the surfaces and pictures; the rest is procedural
PHOTOGRAPHED_WALLS = 0.4
RECOLOURED, RETEXTURED = 0.25, 0.4  # shares of the models


@dataclasses.dataclass(frozen=True)
class PhotographicTextures:
    """Textures most of which are photographs; the rest, and most walls, are procedural.

    Attributes:
      pictured_share: of all but the pictures, which are photographs of places, as a poster is.
    """

    library: Library
    pictured_share: float = 0.0

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
        if self.pictured_share and rng.random() < self.pictured_share:
            kind, share = "photographs", 1.0
        if rng.random() < share:
            return self.library.random_texture(rng, kind)
        return procedural(rng)


@dataclasses.dataclass(frozen=True)
class LibraryFurniture:
    """Furniture and clutter from a library, with some procedural pieces among them."""

    library: Library
    palette: Palette

    def furniture(self, rng: np.random.Generator) -> Mesh:
        """A piece at its height above the floor, its front towards +y."""
        if rng.random() > MODEL_SHARE:
            return ProceduralFurniture(self.palette).furniture(rng)
        return self._model(rng, self.library.furniture, (0.9, 1.1))

    def clutter(self, rng: np.random.Generator) -> Mesh:
        """A small thing."""
        if rng.random() > CLUTTER_SHARE:
            return ProceduralFurniture(self.palette).clutter(rng)
        return self._model(rng, self.library.clutter, (0.8, 1.3))

    def _model(
        self, rng: np.random.Generator, numbers: np.ndarray, scales: tuple[float, float]
    ) -> Mesh:
        mesh = self.library.mesh(int(rng.choice(numbers)))
        mesh = dataclasses.replace(mesh, vertices=mesh.vertices * np.float32(rng.uniform(*scales)))
        draw = rng.random()
        if draw < RECOLOURED:
            return _recoloured(rng, mesh)
        if draw < RECOLOURED + RETEXTURED:
            return _retextured(rng, mesh, pick(rng, self.palette.surfaces))
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
    """The mesh with its untextured parts covered by `surface`, projected along the normals."""
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

"""Textured triangle meshes: the struct, its primitives and rigid placement."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Int32, UInt8


@dataclasses.dataclass(frozen=True, eq=False)
class Material:
    """How a surface reflects: texture times tint, plus a highlight and its own glow.

    Materials are compared by identity.
    """

    texture: UInt8[np.ndarray, "size size 3"] | None = None  # display-encoded; None is white
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)  # linear factors of the albedo
    gloss: float = 0.0  # strength of the highlight, 0 to 1
    emission: float = 0.0  # radiance emitted, in units of the albedo


WHITE = Material()


@dataclasses.dataclass(frozen=True, eq=False)
class Mesh:
    """T triangles with texture coordinates and materials; metres, z up."""

    corners: Float32[np.ndarray, "T 3 3"]  # triangle, corner, xyz
    uvs: Float32[np.ndarray, "T 3 2"]  # in texture widths, repeating; v runs down the image
    material_ids: Int32[np.ndarray, "T"]  # index into materials
    materials: tuple[Material, ...]

    def __len__(self) -> int:
        return len(self.corners)

    @property
    def bounds(self) -> Float32[np.ndarray, "2 3"]:
        """The lowest and the highest corner of the axis-aligned box around the mesh."""
        points = self.corners.reshape(-1, 3)
        return np.stack([points.min(0), points.max(0)])

    def moved(self, translation: Sequence[float], yaw: float = 0.0) -> "Mesh":
        """The mesh turned by `yaw` radians about z, then translated."""
        rotation = rotation_about_z(yaw)
        return self.transformed(rotation, translation)

    def transformed(self, rotation: np.ndarray, translation: Sequence[float]) -> "Mesh":
        """The mesh under x -> rotation @ x + translation (a 3x3 matrix; scaling is allowed)."""
        corners = self.corners @ np.asarray(rotation, np.float32).T
        return dataclasses.replace(self, corners=corners + np.asarray(translation, np.float32))

    def standing(self) -> "Mesh":
        """The mesh shifted so that its box is centred on the z axis and stands on z = 0."""
        low, high = self.bounds
        middle = (low + high) / 2
        return self.moved((-middle[0], -middle[1], -low[2]))


def rotation_about_z(angle: float) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]], np.float32)


def merged(meshes: Sequence[Mesh]) -> Mesh:
    """All triangles in one mesh; a material used by several meshes appears once."""
    materials = list(dict.fromkeys(m for mesh in meshes for m in mesh.materials))
    index = {material: i for i, material in enumerate(materials)}
    ids = [
        np.array([index[m] for m in mesh.materials], np.int32)[mesh.material_ids] for mesh in meshes
    ]
    return Mesh(
        corners=np.concatenate([mesh.corners for mesh in meshes]),
        uvs=np.concatenate([mesh.uvs for mesh in meshes]),
        material_ids=np.concatenate(ids),
        materials=tuple(materials),
    )


def quad(
    origin: Sequence[float],
    right: Sequence[float],
    up: Sequence[float],
    material: Material,
    period: float | None = None,
    cell: float | None = None,
) -> Mesh:
    """A parallelogram from its lower left corner and two edges, facing right x up.

    Args:
      period: metres that one texture width covers; None stretches the texture over the quad once.
      cell: the longest edge allowed before the quad is cut into a grid (light is stored at corners).
    """
    origin, right, up = (np.asarray(v, np.float32) for v in (origin, right, up))
    width, height = np.linalg.norm(right), np.linalg.norm(up)
    columns, rows = (1, 1) if cell is None else (int(np.ceil(s / cell)) for s in (width, height))
    s, t = np.meshgrid(np.linspace(0, 1, columns + 1), np.linspace(0, 1, rows + 1))
    points = origin + s[..., None] * right + t[..., None] * up
    repeats = (1.0, 1.0) if period is None else (width / period, height / period)
    uvs = np.stack([s * repeats[0], (1 - t) * repeats[1]], -1)
    return _single(_grid_triangles(points), _grid_triangles(uvs), material)


def box(
    size: Sequence[float], material: Material, period: float | None = None, cell: float | None = None
) -> Mesh:
    """A box of the given width, depth and height (x, y, z), standing centred on z = 0."""
    x, y, z = (float(s) for s in size)
    low = np.array([-x / 2, -y / 2, 0])
    high = np.array([x / 2, y / 2, z])
    ex, ey, ez = np.diag([x, y, z])
    faces = [
        (low, ex, ez),
        (low + ex, ey, ez),
        (high - ez, -ex, ez),
        (low + ey, -ey, ez),
        (low + ez, ex, ey),
        (low + ey, ex, -ey),
    ]
    return merged([quad(*face, material, period, cell) for face in faces])


def cylinder(
    radius: float,
    height: float,
    material: Material,
    top_radius: float | None = None,
    segments: int = 14,
) -> Mesh:
    """An upright cylinder or cone frustum with a lid, standing on z = 0."""
    top_radius = radius if top_radius is None else top_radius
    angles = np.linspace(0, 2 * np.pi, segments + 1)
    circle = np.stack([np.cos(angles), np.sin(angles), np.zeros_like(angles)], -1)
    lid_height = np.array([0, 0, height])
    rings = np.stack([circle * radius, circle * top_radius + lid_height, np.zeros_like(circle)])
    rings[2] += lid_height
    u = np.broadcast_to(angles / (2 * np.pi), (2, segments + 1))
    side_uvs = np.stack([u, np.broadcast_to([[1.0], [0.0]], u.shape)], -1)
    lid_uvs = np.stack([circle[:, :2] / 2 + 0.5, np.full_like(circle[:, :2], 0.5)])
    side = _single(_grid_triangles(rings[:2]), _grid_triangles(side_uvs), material)
    lid = _single(_grid_triangles(rings[1:])[::2], _grid_triangles(lid_uvs)[::2], material)
    return merged([side, lid])


def ball(radius: float, material: Material, segments: int = 12) -> Mesh:
    """A sphere standing on z = 0."""
    longitude = np.linspace(0, 2 * np.pi, segments + 1)
    latitude = np.linspace(-np.pi / 2, np.pi / 2, segments // 2 + 1)
    longitude, latitude = np.meshgrid(longitude, latitude)
    points = radius * np.stack(
        [
            np.cos(latitude) * np.cos(longitude),
            np.cos(latitude) * np.sin(longitude),
            np.sin(latitude) + 1,
        ],
        -1,
    )
    uvs = np.stack([longitude / (2 * np.pi), 0.5 - latitude / np.pi], -1)
    return _single(_grid_triangles(points), _grid_triangles(uvs), material)


def _grid_triangles(values: np.ndarray) -> np.ndarray:
    """Two triangles for each cell of a grid of values [rows, columns, k]: [T, 3, k]."""
    a, b = values[:-1, :-1], values[:-1, 1:]
    c, d = values[1:, 1:], values[1:, :-1]
    cells = np.stack([np.stack([a, b, c], -2), np.stack([a, c, d], -2)], 2)
    return cells.reshape(-1, 3, values.shape[-1])


def _single(corners: np.ndarray, uvs: np.ndarray, material: Material) -> Mesh:
    return Mesh(
        corners=corners.astype(np.float32),
        uvs=uvs.astype(np.float32),
        material_ids=np.zeros(len(corners), np.int32),
        materials=(material,),
    )

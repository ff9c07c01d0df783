"""Textured triangle meshes: the struct, its primitives and rigid placement."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Int32, UInt8

CELL = 0.1  # metres: the grid into which large surfaces are cut, since light is stored at vertices


@dataclasses.dataclass(frozen=True, eq=False)
class Material:
    """How a surface looks: texture times tint, plus a highlight and a glow of its own.

    Materials are told apart by identity.
    """

    texture: UInt8[np.ndarray, "size size 3"] | None = None  # display-encoded; None is white
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)  # linear factors of the albedo
    gloss: float = 0.0  # strength of the highlight, 0 to 1
    emission: float = 0.0  # radiance emitted, in units of the albedo


@dataclasses.dataclass(frozen=True, eq=False)
class Mesh:
    """V vertices and T triangles with texture coordinates and materials; metres, z up."""

    vertices: Float32[np.ndarray, "V 3"]
    normals: Float32[np.ndarray, "V 3"]  # unit; light is computed on this side
    uvs: Float32[np.ndarray, "V 2"]  # in texture widths, repeating; v runs down the image
    faces: Int32[np.ndarray, "T 3"]  # indices of vertices
    material_ids: Int32[np.ndarray, "T"]  # indices of materials
    materials: tuple[Material, ...]

    def __len__(self) -> int:
        return len(self.faces)

    @property
    def bounds(self) -> Float32[np.ndarray, "2 3"]:
        """The lowest and the highest corner of the axis-aligned box around the mesh."""
        return np.stack([self.vertices.min(0), self.vertices.max(0)])

    def moved(self, translation: Sequence[float], yaw: float = 0.0) -> "Mesh":
        """The mesh turned by `yaw` radians about z, then translated."""
        cos, sin = np.cos(yaw), np.sin(yaw)
        rotation = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
        return self.transformed(rotation, translation)

    def transformed(self, rotation: np.ndarray, translation: Sequence[float]) -> "Mesh":
        """The mesh under x -> rotation @ x + translation."""
        rotation = np.asarray(rotation, np.float32)
        return dataclasses.replace(
            self,
            vertices=self.vertices @ rotation.T + np.asarray(translation, np.float32),
            normals=self.normals @ rotation.T,
        )

    def standing(self) -> "Mesh":
        """The mesh shifted so that its box is centred on the z axis and stands on z = 0."""
        low, high = self.bounds
        middle = (low + high) / 2
        return self.moved((-middle[0], -middle[1], -low[2]))


def merged(meshes: Sequence[Mesh]) -> Mesh:
    """All triangles in one mesh; a material used by several meshes appears once."""
    materials = list(dict.fromkeys(m for mesh in meshes for m in mesh.materials))
    index = {material: i for i, material in enumerate(materials)}
    ids = [
        np.array([index[m] for m in mesh.materials], np.int32)[mesh.material_ids] for mesh in meshes
    ]
    first = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes])
    return Mesh(
        vertices=np.concatenate([mesh.vertices for mesh in meshes]),
        normals=np.concatenate([mesh.normals for mesh in meshes]),
        uvs=np.concatenate([mesh.uvs for mesh in meshes]),
        faces=np.concatenate([mesh.faces + np.int32(i) for mesh, i in zip(meshes, first)]),
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
      cell: the longest edge allowed before the quad is cut into a grid.
    """
    origin, right, up = (np.asarray(v, np.float64) for v in (origin, right, up))
    width, height = np.linalg.norm(right), np.linalg.norm(up)
    columns, rows = (1, 1) if cell is None else (int(np.ceil(s / cell)) for s in (width, height))
    s, t = np.meshgrid(np.linspace(0, 1, columns + 1), np.linspace(0, 1, rows + 1))
    points = origin + s[..., None] * right + t[..., None] * up
    repeats = (1.0, 1.0) if period is None else (width / period, height / period)
    normal = np.cross(right, up)
    normals = np.broadcast_to(normal / np.linalg.norm(normal), points.shape)
    uvs = np.stack([s * repeats[0], (1 - t) * repeats[1]], -1)
    return _grid_mesh(points, normals, uvs, material)


def box(
    size: Sequence[float],
    material: Material,
    period: float | None = None,
    cell: float | None = None,
) -> Mesh:
    """A box of the given width, depth and height (x, y, z), standing centred on z = 0.

    Args:
      period: metres that one texture width covers; None stretches the texture over each side once.
      cell: as for `quad`.
    """
    x, y, z = (float(s) for s in size)
    if cell is not None and max(x, y, z) > cell:
        return merged([quad(*side, material, period, cell) for side in _box_sides(x, y, z)])
    extent = np.array([x, y, z])
    repeats = 1.0 if period is None else _BOX_SPANS @ extent / period
    return dataclasses.replace(
        _UNIT_BOX,
        vertices=(_UNIT_BOX.vertices * extent).astype(np.float32),
        uvs=(_UNIT_BOX.uvs * repeats).astype(np.float32),
        materials=(material,),
    )


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
    top = np.array([0, 0, height])
    u = angles / (2 * np.pi)
    side = _grid_mesh(
        np.stack([circle * radius, circle * top_radius + top]),
        np.stack([circle, circle]),
        np.stack([np.stack([u, np.ones_like(u)], -1), np.stack([u, np.zeros_like(u)], -1)]),
        material,
    )
    middle = np.zeros_like(circle)
    lid = _grid_mesh(
        np.stack([circle * top_radius, middle]) + top,
        np.broadcast_to((0.0, 0.0, 1.0), (2, *circle.shape)),
        np.stack([circle[:, :2], middle[:, :2]]) / 2 + 0.5,
        material,
    )
    return merged([side, lid])


def ball(radius: float, material: Material, segments: int = 12) -> Mesh:
    """A sphere standing on z = 0."""
    longitude, latitude = np.meshgrid(
        np.linspace(0, 2 * np.pi, segments + 1),
        np.linspace(-np.pi / 2, np.pi / 2, segments // 2 + 1),
    )
    cos = np.cos(latitude)
    normals = np.stack([cos * np.cos(longitude), cos * np.sin(longitude), np.sin(latitude)], -1)
    uvs = np.stack([longitude / (2 * np.pi), 0.5 - latitude / np.pi], -1)
    return _grid_mesh(radius * (normals + (0, 0, 1)), normals, uvs, material)


def _box_sides(x: float, y: float, z: float) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Lower left corner, rightward and upward edge of each side: front, right, back, left, top,
    bottom."""
    low = np.array([-x / 2, -y / 2, 0])
    high = np.array([x / 2, y / 2, z])
    ex, ey, ez = np.diag([x, y, z])
    return [
        (low, ex, ez),
        (low + ex, ey, ez),
        (high - ez, -ex, ez),
        (low + ey, -ey, ez),
        (low + ez, ex, ey),
        (low + ey, ex, -ey),
    ]


def _grid_mesh(
    points: np.ndarray, normals: np.ndarray, uvs: np.ndarray, material: Material
) -> Mesh:
    """A mesh from grids [rows, columns, k] that face the viewer who sees rows run upwards."""
    rows, columns = points.shape[:2]
    index = np.arange(rows * columns, dtype=np.int32).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    faces = np.stack([np.stack([a, b, c], -1), np.stack([a, c, d], -1)], 2).reshape(-1, 3)
    return Mesh(
        vertices=points.reshape(-1, 3).astype(np.float32),
        normals=normals.reshape(-1, 3).astype(np.float32),
        uvs=uvs.reshape(-1, 2).astype(np.float32),
        faces=faces,
        material_ids=np.zeros(len(faces), np.int32),
        materials=(material,),
    )


_WHITE = Material()
_UNIT_BOX = merged([quad(*side, _WHITE) for side in _box_sides(1, 1, 1)])
# Which edges of the box u and v run along, for the four vertices of each side.
_BOX_SPANS = np.repeat(
    np.array(
        [[[1, 0, 0], [0, 0, 1]], [[0, 1, 0], [0, 0, 1]]] * 2
        + [[[1, 0, 0], [0, 1, 0]], [[1, 0, 0], [0, 1, 0]]]
    ),
    4,
    axis=0,
)

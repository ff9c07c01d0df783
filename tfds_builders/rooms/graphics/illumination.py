"""Light baked once a room at the mesh's vertices: lamps with soft shadows, and bounced light."""

import dataclasses

import numpy as np
from jaxtyping import Float32, Int64

from tfds_builders.rooms.graphics.meshes import Mesh
from tfds_builders.rooms.graphics.ray_casting import RayCaster
from tfds_builders.rooms.graphics.texture_atlas import TextureAtlas

LAMP_SAMPLES = 5  # shadow rays from a vertex to each lamp
SKY_SAMPLES = 16  # rays from a vertex that gather the light of other surfaces
BOUNCES = 3
INSET = 0.15  # share of the way from a vertex to its triangles' middles where light is measured
LIFT = 2e-3  # metres off the surface
FAR = 20.0  # metres, more than any room
CLUSTER = 0.06  # metres: vertices within one cell of such a grid share their rays,
NORMAL_STEPS = 2  # if their normals agree when rounded to this fraction of one
MAX_ALBEDO = 0.85  # of bounces, so that they die out


@dataclasses.dataclass(frozen=True)
class Lamp:
    """A disc that shines alike in all directions."""

    position: Float32[np.ndarray, "3"]
    intensity: Float32[np.ndarray, "3"]  # RGB irradiance at one metre, facing it
    radius: float = 0.15  # metres; sets the width of the shadows' borders


@dataclasses.dataclass(frozen=True)
class Illumination:
    """The light that falls on each vertex."""

    lamps: tuple[Lamp, ...]
    direct: Float32[np.ndarray, "lamps V"]  # share of each lamp's intensity that arrives
    bounced: Float32[np.ndarray, "V 3"]  # RGB irradiance by way of other surfaces

    def irradiance(self, dimming: Float32[np.ndarray, "lamps"]) -> Float32[np.ndarray, "V 3"]:
        """RGB irradiance at the vertices with the lamps' intensities multiplied by `dimming`.

        The bounced light is dimmed by the mean factor.
        """
        intensity = np.stack([lamp.intensity for lamp in self.lamps]) * dimming[:, None]
        return self.direct.T @ intensity + self.bounced * np.float32(dimming.mean())


def bake(
    mesh: Mesh, lamps: tuple[Lamp, ...], caster: RayCaster, atlas: TextureAtlas
) -> Illumination:
    """Measures the light at the vertices by casting rays.

    Rays are cast from one vertex of each cluster of close vertices with like normals. All vertices
    with one normal use the same directions: an estimate from few rays then varies smoothly over a
    plane instead of being noisy.
    """
    chosen, cluster = _clusters(mesh)
    points, normals = _measuring_points(mesh)[chosen], mesh.normals[chosen]
    seen_share = [_visible_share(lamp, points, normals, caster)[cluster] for lamp in lamps]
    direct = np.stack([share * _unshadowed(lamp, mesh) for lamp, share in zip(lamps, seen_share)])
    lit = direct.T @ np.stack([lamp.intensity for lamp in lamps])
    bounced = _bounced(mesh, points, normals, cluster, lit, caster, atlas)
    return Illumination(lamps, direct, bounced)


def _clusters(mesh: Mesh) -> tuple[Int64[np.ndarray, "clusters"], Int64[np.ndarray, "V"]]:
    """One vertex of each cluster, and the cluster of each vertex."""
    place = np.floor(mesh.vertices / CLUSTER).astype(np.int64)
    place -= place.min(0)
    facing = np.rint(mesh.normals * NORMAL_STEPS).astype(np.int64) + NORMAL_STEPS
    key = np.zeros(len(mesh.vertices), np.int64)
    for column in (*place.T, *facing.T):
        key = key * (column.max() + 1) + column
    _, chosen, cluster = np.unique(key, return_index=True, return_inverse=True)
    return chosen, cluster


def _measuring_points(mesh: Mesh) -> Float32[np.ndarray, "V 3"]:
    """The vertices, drawn off edges and the surface lest adjoining surfaces cover them."""
    middles = _face_means(mesh, mesh.vertices)
    corner, count = mesh.faces.reshape(-1), len(mesh.vertices)
    uses = np.maximum(np.bincount(corner, minlength=count), 1)
    inner = np.stack(
        [np.bincount(corner, np.repeat(m, 3), minlength=count) / uses for m in middles.T], -1
    )
    inset = INSET * (inner - mesh.vertices)
    return (mesh.vertices + inset + LIFT * mesh.normals).astype(np.float32)


def _visible_share(
    lamp: Lamp, points: np.ndarray, normals: np.ndarray, caster: RayCaster
) -> Float32[np.ndarray, "n"]:
    """The share of the lamp that each point sees."""
    share = np.zeros(len(points), np.float32)
    for angle in np.arange(LAMP_SAMPLES) * 2 * np.pi / LAMP_SAMPLES:
        sample = lamp.position + lamp.radius * np.array([np.cos(angle), np.sin(angle), 0])
        to_lamp = sample.astype(np.float32) - points
        facing = np.flatnonzero(np.einsum("ij,ij->i", to_lamp, normals) > 0)
        share[facing] += ~caster.occluded(points[facing], to_lamp[facing])
    return share / LAMP_SAMPLES


def _unshadowed(lamp: Lamp, mesh: Mesh) -> Float32[np.ndarray, "V"]:
    """The share of the lamp's intensity that arrives at each vertex if nothing is in between."""
    to_lamp = lamp.position - mesh.vertices
    squared = np.einsum("ij,ij->i", to_lamp, to_lamp) + np.float32(lamp.radius**2)
    cosine = np.einsum("ij,ij->i", to_lamp, mesh.normals)
    return np.maximum(cosine, 0) / (squared * np.sqrt(squared))


def _bounced(
    mesh: Mesh,
    points: np.ndarray,
    normals: np.ndarray,
    cluster: np.ndarray,
    lit: np.ndarray,
    caster: RayCaster,
    atlas: TextureAtlas,
) -> Float32[np.ndarray, "V 3"]:
    """E(p) = mean over cosine-distributed directions of albedo * light at what p sees."""
    tint = np.array([material.tint for material in mesh.materials], np.float32)
    albedo = np.minimum(atlas.mean_albedo() * tint, MAX_ALBEDO)[mesh.material_ids]
    seen = np.stack(
        [
            caster.first_hits(points, FAR * _leaning(normals, direction)).triangle
            for direction in _cosine_directions(SKY_SAMPLES)
        ]
    )
    bounced = np.zeros((len(points), 3), np.float32)
    for _ in range(BOUNCES):
        radiance = albedo * _face_means(mesh, lit + bounced[cluster])
        radiance = np.concatenate([radiance, np.zeros((1, 3), np.float32)])  # of triangle -1
        bounced = sum(np.take(radiance, row, axis=0) for row in seen) / np.float32(len(seen))
    return bounced[cluster]


def _face_means(mesh: Mesh, values: Float32[np.ndarray, "V k"]) -> Float32[np.ndarray, "T k"]:
    """The mean of the values at each triangle's vertices."""
    return sum(np.take(values, corner, axis=0) for corner in mesh.faces.T) / np.float32(3)


def _cosine_directions(count: int) -> Float32[np.ndarray, "count 3"]:
    """Directions about +z, their density proportional to the cosine: a sunflower on the disc."""
    radius = np.sqrt((np.arange(count) + 0.5) / count)
    angle = np.arange(count) * np.pi * (3 - np.sqrt(5))
    z = np.sqrt(1 - radius**2)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), z], -1).astype(np.float32)


def _leaning(normals: np.ndarray, direction: np.ndarray) -> Float32[np.ndarray, "V 3"]:
    """`direction`, given about +z, turned so that it is about each of `normals`."""
    sign = np.where(normals[:, 2] < 0, np.float32(-1), np.float32(1))
    a = -1 / (sign + normals[:, 2])
    b = normals[:, 0] * normals[:, 1] * a
    first = np.stack([1 + sign * normals[:, 0] ** 2 * a, sign * b, -sign * normals[:, 0]], -1)
    second = np.stack([b, sign + normals[:, 1] ** 2 * a, -normals[:, 1]], -1)
    return direction[0] * first + direction[1] * second + direction[2] * normals

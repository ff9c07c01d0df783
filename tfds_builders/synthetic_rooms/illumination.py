"""Light baked once a room at the mesh's vertices: lamps with soft shadows, and bounced light."""

import dataclasses

import numpy as np
from jaxtyping import Float32

from tfds_builders.synthetic_rooms.meshes import Mesh
from tfds_builders.synthetic_rooms.ray_casting import RayCaster
from tfds_builders.synthetic_rooms.texture_atlas import TextureAtlas

LAMP_SAMPLES = 5  # shadow rays from a vertex to each lamp
SKY_SAMPLES = 16  # rays from a vertex that gather the light of other surfaces
BOUNCES = 3
INSET = 0.15  # share of the way from a vertex to its triangles' middles where light is measured
LIFT = 2e-3  # metres off the surface
FAR = 20.0  # metres, more than any room


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
    """Measures the light at each vertex by casting rays.

    All vertices with one normal use the same directions: an estimate from few rays then varies
    smoothly over a plane instead of being noisy.
    """
    points = _measuring_points(mesh)
    direct = np.stack([_direct(lamp, points, mesh.normals, caster) for lamp in lamps])
    lit = direct.T @ np.stack([lamp.intensity for lamp in lamps])
    return Illumination(lamps, direct, _bounced(mesh, points, lit, caster, atlas))


def _measuring_points(mesh: Mesh) -> Float32[np.ndarray, "V 3"]:
    """The vertices, drawn off edges and the surface so that adjoining surfaces do not cover them."""
    middles = mesh.vertices[mesh.faces].mean(1)
    count = np.bincount(mesh.faces.reshape(-1), minlength=len(mesh.vertices))[:, None]
    total = np.stack(
        [
            np.bincount(
                mesh.faces.reshape(-1), np.repeat(middles[:, k], 3), minlength=len(mesh.vertices)
            )
            for k in range(3)
        ],
        -1,
    )
    inner = total / np.maximum(count, 1)
    inset = np.where(count > 0, INSET * (inner - mesh.vertices), 0)
    return (mesh.vertices + inset + LIFT * mesh.normals).astype(np.float32)


def _direct(lamp: Lamp, points: np.ndarray, normals: np.ndarray, caster: RayCaster) -> np.ndarray:
    total = np.zeros(len(points), np.float32)
    angles = np.arange(LAMP_SAMPLES) * 2 * np.pi / LAMP_SAMPLES
    for angle in angles:
        sample = lamp.position + lamp.radius * np.array([np.cos(angle), np.sin(angle), 0])
        to_lamp = sample.astype(np.float32) - points
        cosine = np.einsum("ij,ij->i", to_lamp, normals)
        facing = np.flatnonzero(cosine > 0)
        towards = to_lamp[facing]
        squared = np.einsum("ij,ij->i", towards, towards) + np.float32(1e-2)
        visible = ~caster.occluded(points[facing], towards)
        total[facing] += visible * cosine[facing] / (squared * np.sqrt(squared))
    return total / LAMP_SAMPLES


def _bounced(
    mesh: Mesh, points: np.ndarray, lit: np.ndarray, caster: RayCaster, atlas: TextureAtlas
) -> Float32[np.ndarray, "V 3"]:
    """Irradiance E(p) = mean over cosine-distributed directions of albedo * light at what p sees."""
    tint = np.array([material.tint for material in mesh.materials], np.float32)
    albedo = (atlas.mean_albedo() * tint)[mesh.material_ids]
    seen = np.stack(
        [
            caster.first_hits(points, FAR * _leaning(mesh.normals, direction)).triangle
            for direction in _cosine_directions(SKY_SAMPLES)
        ]
    )
    bounced = np.zeros_like(lit)
    for _ in range(BOUNCES):
        radiance = albedo * (lit + bounced)[mesh.faces].mean(1)
        radiance = np.concatenate([radiance, np.zeros((1, 3), np.float32)])  # of index -1
        bounced = np.mean([radiance[row] for row in seen], axis=0)
    return bounced


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

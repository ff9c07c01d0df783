"""Rays against a mesh, by Embree."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32

from jaxreloc.extras import extra
from tfds_builders.rooms.graphics.meshes import Mesh

with extra("rooms"):
    from embreex.mesh_construction import TriangleMesh
    from embreex.rtcore_scene import EmbreeScene


@dataclasses.dataclass(frozen=True)
class Hits:
    """Where n rays first meet the mesh."""

    triangle: Int32[np.ndarray, "n"]  # -1 where the ray leaves the scene
    distance: Float32[np.ndarray, "n"]  # in lengths of the ray's direction
    u: Float32[np.ndarray, "n"]  # weight of the triangle's second vertex
    v: Float32[np.ndarray, "n"]  # weight of its third


class RayCaster:
    """A mesh in Embree."""

    def __init__(self, mesh: Mesh):
        self._scene = EmbreeScene()
        self._geometry = TriangleMesh(self._scene, mesh.vertices, mesh.faces)

    def first_hits(
        self, origins: Float32[np.ndarray, "*n 3"], directions: Float32[np.ndarray, "n 3"]
    ) -> Hits:
        """The nearest hit of each ray, from one origin or one for each."""
        result = self._scene.run(*_contiguous(origins, directions), output=True)
        return Hits(result["primID"], result["tfar"], result["u"], result["v"])

    def occluded(
        self, origins: Float32[np.ndarray, "*n 3"], directions: Float32[np.ndarray, "n 3"]
    ) -> Bool[np.ndarray, "n"]:
        """Whether anything lies between each origin and origin + direction."""
        origins, directions = _contiguous(origins, directions)
        reach = np.ones(len(directions), np.float32)
        return self._scene.run(origins, directions, dists=reach, query="OCCLUDED") != -1


def even_directions(count: int) -> Float64[np.ndarray, "count 3"]:
    """Unit directions spread evenly over the sphere (a Fibonacci lattice), the upper half first."""
    z = 1 - 2 * (np.arange(count) + 0.5) / count
    angle = np.arange(count) * np.pi * (3 - np.sqrt(5))
    radius = np.sqrt(1 - z**2)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), z], 1)


def _contiguous(origins, directions) -> tuple[np.ndarray, np.ndarray]:
    directions = np.ascontiguousarray(directions, np.float32)
    origins = np.broadcast_to(np.asarray(origins, np.float32), directions.shape)
    return np.ascontiguousarray(origins), directions

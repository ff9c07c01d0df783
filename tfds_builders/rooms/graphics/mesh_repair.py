"""Making found meshes fit for baked light: cut large triangles, turn normals outwards."""

import dataclasses

import numpy as np

from jaxreloc.extras import extra
from tfds_builders.rooms.graphics.meshes import Mesh
from tfds_builders.rooms.graphics.ray_casting import RayCaster, even_directions

with extra("rooms"):
    import trimesh

ROUNDS = 8  # of halving edges
LIFT = 1e-3  # metres off a surface where rays start
RAYS = 6  # to each side of a triangle


def subdivided(mesh: Mesh, max_edge: float) -> Mesh:
    """The mesh with each triangle cut until its edges are at most `max_edge` metres long."""
    vertices, faces, ids = mesh.vertices, mesh.faces, mesh.material_ids
    attributes = np.concatenate([mesh.normals, mesh.uvs], 1)
    for _ in range(ROUNDS):
        edges = vertices[faces] - vertices[np.roll(faces, 1, axis=1)]
        long = np.flatnonzero((np.linalg.norm(edges, axis=2) > max_edge).any(1))
        if not len(long):
            break
        kept = np.delete(ids, long)
        vertices, faces, named = trimesh.remesh.subdivide(
            vertices, faces, long, vertex_attributes={"shading": attributes}
        )
        attributes = named["shading"]
        ids = np.concatenate([kept, np.repeat(ids[long], 4)])
    normals = (
        attributes[:, :3] / np.maximum(np.linalg.norm(attributes[:, :3], axis=1), 1e-12)[:, None]
    )
    return dataclasses.replace(
        mesh,
        vertices=vertices.astype(np.float32),
        normals=normals.astype(np.float32),
        uvs=attributes[:, 3:].astype(np.float32),
        faces=faces.astype(np.int32),
        material_ids=ids.astype(np.int32),
    )


def facing_out(mesh: Mesh) -> Mesh:
    """The mesh with normals on the side of each surface from which more of the outside is seen.

    Models are drawn with either winding; light is stored on the side of the normals only.
    """
    corners = mesh.vertices[mesh.faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    flat = cross / np.maximum(np.linalg.norm(cross, axis=1, keepdims=True), 1e-12)
    shading = mesh.normals[mesh.faces].sum(1)
    flat *= np.where((flat * shading).sum(1) < 0, -1, 1)[:, None]
    caster = RayCaster(mesh)
    size = 2 * np.linalg.norm(mesh.bounds[1] - mesh.bounds[0])
    escapes = np.zeros((2, len(mesh)))
    for direction in even_directions(2 * RAYS)[:RAYS]:  # a half space, mirrored below
        side = np.where(flat @ direction < 0, -1.0, 1.0)
        for row, sign in enumerate((1, -1)):
            starts = corners.mean(1) + sign * LIFT * flat
            away = sign * side[:, None] * direction * size
            escapes[row] += ~caster.occluded(starts, away)
    inward = (escapes[1] > escapes[0])[:, None]
    votes = np.zeros(len(mesh.vertices))
    np.add.at(votes, mesh.faces, np.where(inward, -1, 1))
    return dataclasses.replace(
        mesh, normals=np.where(votes[:, None] < 0, -mesh.normals, mesh.normals)
    )

"""Three points: the true pose is among the solutions, and OpenCV finds the same ones."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial.transform import Rotation

from jaxreloc.geometry.resection.p3p import p3p

COUNT = 2000
solve = jax.jit(p3p)


def planted(rng):
    """Rays on z = 1 [n, 3, 3], world points, and world_from_camera."""
    rotation = Rotation.random(COUNT, rng=rng).as_matrix()
    centre = rng.normal(size=(COUNT, 3))
    rays = np.concatenate([rng.uniform(-0.6, 0.6, (COUNT, 3, 2)), np.ones((COUNT, 3, 1))], axis=-1)
    in_camera = rays * rng.uniform(0.5, 6.0, (COUNT, 3, 1))
    points = np.einsum("nij,nkj->nki", rotation, in_camera) + centre[:, None]
    return rays, points, rotation, centre


def solutions(rays, points):
    """Rotations [4, n, 3, 3], centres [4, n, 3] and the mask [4, n]."""
    as_lanes = [
        tuple(tuple(jnp.asarray(x[:, k, i], jnp.float32) for i in range(3)) for k in range(3))
        for x in (rays, points)
    ]
    pose, solved = solve(*as_lanes)
    rotation = np.moveaxis(
        np.array([[np.asarray(x) for x in row] for row in pose.rotation]), (0, 1), (2, 3)
    )
    return rotation, np.stack(pose.centre, axis=-1), np.asarray(solved)


def distance(rotation, centre, other_rotation, other_centre):
    return np.linalg.norm(rotation - other_rotation, axis=(-2, -1)) + np.linalg.norm(
        centre - other_centre, axis=-1
    )


def test_the_true_pose_is_among_the_solutions(rng):
    rays, points, true_rotation, true_centre = planted(rng)
    rotation, centre, solved = solutions(rays, points)
    off = distance(rotation, centre, true_rotation[None], true_centre[None])
    nearest = np.where(solved, off, np.inf).min(axis=0)
    assert np.mean(nearest < 0.02) > 0.97


def test_every_solution_sees_the_points_along_the_rays(rng):
    rays, points, _, _ = planted(rng)
    rotation, centre, solved = solutions(rays, points)
    seen = np.einsum("snji,snkj->snki", rotation, points[None] - centre[:, :, None])
    seen /= np.linalg.norm(seen, axis=-1, keepdims=True)
    unit = rays / np.linalg.norm(rays, axis=-1, keepdims=True)
    off = np.linalg.norm(seen - unit[None], axis=-1).max(axis=-1)
    assert np.mean(off[solved] < 5e-3) > 0.98


def test_solutions_are_those_of_opencv(rng):
    rays, points, _, _ = planted(rng)
    rotation, centre, solved = solutions(rays, points)
    total = found = 0
    for i in range(300):
        _, turns, shifts = cv2.solveP3P(
            points[i], rays[i, :, :2].copy(), np.eye(3), None, cv2.SOLVEPNP_P3P
        )
        for turn, shift in zip(turns, shifts):
            theirs = cv2.Rodrigues(turn)[0].T
            off = distance(rotation[:, i], centre[:, i], theirs, -(theirs @ shift)[:, 0])
            total += 1
            found += np.where(solved[:, i], off, np.inf).min() < 0.05
    assert total > 300
    assert found / total > 0.95


def test_degenerate_points_give_finite_poses(rng):
    rays, points, _, _ = planted(rng)
    points[: COUNT // 2, 2] = points[: COUNT // 2, 1]  # two of them are one
    points[COUNT // 2 :, 2] = 2 * points[COUNT // 2 :, 1] - points[COUNT // 2 :, 0]  # on a line
    points[:10] = 0.0
    rotation, centre, _ = solutions(rays, points)
    assert np.isfinite(rotation).all() and np.isfinite(centre).all()

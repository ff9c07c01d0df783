"""Against SciPy in float64, over batch axes."""

import numpy as np
from jaxlie import SE3
from scipy.spatial.transform import Rotation

from jaxreloc.geometry import poses
from tests.geometry.simulated_pairs import random_poses, rotation_of


def se3(array):
    return SE3(np.asarray(array, np.float32))


def matrices(array):
    result = np.tile(np.eye(4), (len(array), 1, 1))
    result[:, :3, :3] = rotation_of(array).as_matrix()
    result[:, :3, 3] = array[:, 4:]
    return result


def test_relative_pose_maps_query_points_to_the_database_camera(rng):
    db, query = random_poses(rng, 7), random_poses(rng, 7)
    relative = poses.relative_pose(se3(db), se3(query))
    expected = np.linalg.inv(matrices(db)) @ matrices(query)
    np.testing.assert_allclose(_matrix(relative), expected, atol=2e-6)


def test_swapping_a_pair_inverts_its_pose(rng):
    db, query = se3(random_poses(rng, 7)), se3(random_poses(rng, 7))
    product = poses.compose(poses.relative_pose(db, query), poses.relative_pose(query, db))
    np.testing.assert_allclose(_matrix(product), np.tile(np.eye(4), (7, 1, 1)), atol=5e-6)


def test_axes_of_a_translation(rng):
    db, t = random_poses(rng, 7), rng.normal(size=(7, 3)).astype(np.float32)
    world = rotation_of(db).apply(t).astype(np.float32)
    np.testing.assert_allclose(poses.to_camera_axes(se3(db), world), t, atol=2e-6)


def test_the_published_label_is_a_difference_of_centres(rng):
    db, query = random_poses(rng, 7), random_poses(rng, 7)
    label = (query[:, 4:] - db[:, 4:]).astype(np.float32)
    relative = poses.relative_pose(se3(db), se3(query))
    np.testing.assert_allclose(
        poses.to_camera_axes(se3(db), label), relative.translation(), atol=5e-6
    )


def test_batch_axes_broadcast(rng):
    db, query = random_poses(rng, 2, 3), random_poses(rng, 2, 1)
    together = poses.relative_pose(se3(db), se3(query))
    assert together.wxyz_xyz.shape == (2, 3, 7)
    alone = poses.relative_pose(se3(db[1, 2]), se3(query[1, 0]))
    np.testing.assert_allclose(together.wxyz_xyz[1, 2], alone.wxyz_xyz, atol=1e-6)


def _matrix(pose):
    array = np.asarray(pose.wxyz_xyz, np.float64)
    result = np.tile(np.eye(4), (len(array), 1, 1))
    result[:, :3, :3] = Rotation.from_quat(array[:, :4], scalar_first=True).as_matrix()
    result[:, :3, 3] = array[:, 4:]
    return result

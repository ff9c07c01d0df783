import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxreloc.formats.rigid_arrays import (
    inverse,
    quaternion_wxyz,
    rigid_from_quaternion,
    rigid_from_quaternions,
)
from jaxreloc.usage import UsageError
from tests.formats.scenes import random_poses


def test_inverse_is_numpys(rng):
    poses = random_poses(rng, 6).reshape(2, 3, 4, 4)
    np.testing.assert_allclose(inverse(poses), np.linalg.inv(poses), atol=1e-12)


def test_quaternion_and_matrix_are_each_others_inverse(rng):
    for pose in random_poses(rng, 20):
        q_wxyz = quaternion_wxyz(pose)
        assert q_wxyz[0] >= 0
        np.testing.assert_allclose(
            rigid_from_quaternion(q_wxyz, pose[:3, 3], "a"), pose, atol=1e-14
        )


@pytest.mark.parametrize("turn", [0.0, 1e-9, 1.0, np.pi - 1e-9])
def test_quaternion_is_scipys(rng, turn):
    axis = rng.normal(size=3)
    pose = np.eye(4)
    rotation = Rotation.from_rotvec(turn * axis / np.linalg.norm(axis))
    pose[:3, :3] = rotation.as_matrix()
    expected = rotation.as_quat(scalar_first=True, canonical=True)
    np.testing.assert_allclose(quaternion_wxyz(pose), expected, atol=1e-14)


def test_many_quaternions_are_read_as_one_by_one(rng):
    poses = random_poses(rng, 5)
    q_wxyz = np.stack([quaternion_wxyz(pose) for pose in poses])
    together = rigid_from_quaternions(q_wxyz, poses[:, :3, 3], ["a"] * 5)
    np.testing.assert_allclose(together, poses, atol=1e-14)
    q_wxyz[3] *= 0.9
    with pytest.raises(UsageError, match="^row 3: the quaternion has norm 0.9"):
        rigid_from_quaternions(q_wxyz, poses[:, :3, 3], [f"row {i}" for i in range(5)])


def test_quaternion_is_hamiltons_scalar_first():
    quarter_turn_about_z = rigid_from_quaternion([np.sqrt(0.5), 0, 0, np.sqrt(0.5)], [0, 0, 0], "a")
    np.testing.assert_allclose(quarter_turn_about_z[:3, :3] @ [1, 0, 0], [0, 1, 0], atol=1e-15)


def test_quaternion_off_unit_norm_is_refused(rng):
    q_wxyz = Rotation.random(rng=rng).as_quat() * 1.02
    with pytest.raises(UsageError, match="^a.txt:4: the quaternion has norm 1.02"):
        rigid_from_quaternion(q_wxyz, [0, 0, 0], "a.txt:4")

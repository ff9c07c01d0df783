"""Angles against SciPy at the places where the usual formulas fail, in float32."""

import jax
import numpy as np
import pytest
from jaxlie import SE3, SO3
from scipy.spatial.transform import Rotation

from jaxreloc.geometry import errors
from tests.geometry.simulated_pairs import random_poses, unit_vectors

ANGLES = [0.0, 1e-7, 1e-4, 0.3, np.pi / 2, 3.0, np.pi - 1e-4, np.pi]


@pytest.mark.parametrize("angle", ANGLES)
def test_rotation_error_at_known_angles(rng, angle):
    a = Rotation.random(50, rng=rng)
    b = a * Rotation.from_rotvec(angle * unit_vectors(rng, 50))
    found = errors.rotation_error(_so3(a), _so3(b))
    np.testing.assert_allclose(found, angle, atol=1e-6)


def test_rotation_error_is_symmetric_and_ignores_the_sign_of_a_quaternion(rng):
    a, b = Rotation.random(50, rng=rng), Rotation.random(50, rng=rng)
    expected = (a.inv() * b).magnitude()
    found = errors.rotation_error(_so3(a), _so3(b))
    np.testing.assert_allclose(found, expected, atol=2e-6)
    flipped = errors.rotation_error(SO3(-_so3(b).wxyz), _so3(a))
    np.testing.assert_allclose(found, flipped, atol=1e-6)


def test_position_error(rng):
    a, b = random_poses(rng, 4, 5), random_poses(rng, 4, 5)
    found = errors.position_error(SE3(_float32(a)), SE3(_float32(b)))
    expected = np.linalg.norm(a[..., 4:] - b[..., 4:], axis=-1)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_gradients_are_finite_at_a_coincidence():
    pose = SE3.identity()
    for error in (
        lambda x: errors.position_error(SE3(x), pose),
        lambda x: errors.rotation_error(SE3(x).rotation(), pose.rotation()),
    ):
        for x in (pose.wxyz_xyz, pose.wxyz_xyz.at[4:].set(1.0)):
            assert np.isfinite(jax.grad(error)(x)).all()


def _so3(rotation):
    return SO3(_float32(rotation.as_quat(scalar_first=True)))


def _float32(array):
    return np.asarray(array, np.float32)

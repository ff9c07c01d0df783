import jax
import jax.numpy as jnp
import numpy as np
from jaxlie import SE3, SO3

from jaxreloc.geometry._kernels import lanes
from jaxreloc.geometry.two_view import epipolar
from jaxreloc.geometry.two_view.epipolar import in_front
from jaxreloc.geometry.two_view.essential import essential_rows
from tests.geometry.planted_matches import planted_pair


def true_pose(pair) -> SE3:
    rotation = SO3.from_matrix(jnp.asarray(pair.rotation, jnp.float32))
    return SE3.from_rotation_and_translation(
        rotation, jnp.asarray(pair.translation, jnp.float32)
    )


def essential_matrix(db_from_query: SE3) -> np.ndarray:
    return np.array(essential_rows(lanes.pose_from_array(db_from_query.wxyz_xyz)))


def squared_error(db_from_query: SE3, x_query, x_db):
    """Sampson's, of each match."""
    pose = lanes.expand(lanes.pose_from_array(db_from_query.wxyz_xyz))
    return epipolar._sampson(pose, *jnp.asarray(x_query).T, *jnp.asarray(x_db).T)[0]


def test_essential_matrix_is_the_cross_product_of_the_unit_translation(rng):
    pair = planted_pair(rng)
    t = pair.translation / np.linalg.norm(pair.translation)
    cross = np.cross(t, np.eye(3), axisb=0, axisc=0)
    np.testing.assert_allclose(essential_matrix(true_pose(pair)), cross @ pair.rotation, atol=1e-5)


def test_true_matches_have_no_error_and_lie_before_both_cameras(rng):
    pair = planted_pair(rng, outliers=0.0, noise_px=0.0)
    pose = true_pose(pair)
    assert np.max(squared_error(pose, pair.x_query, pair.x_db)) < 1e-10
    assert np.asarray(in_front(pose, pair.x_query, pair.x_db)).all()
    turned_back = SE3.from_rotation_and_translation(pose.rotation(), -pose.translation())
    assert not np.asarray(in_front(turned_back, pair.x_query, pair.x_db)).any()


def test_sampson_error_equals_the_formula_and_has_the_noise_deviation(rng):
    pair = planted_pair(rng, outliers=0.0, noise_px=1.0, matches=2000)
    pose = true_pose(pair)
    error = np.sqrt(squared_error(pose, pair.x_query, pair.x_db))
    e = np.asarray(essential_matrix(pose), float)
    query, db = (np.c_[x, np.ones(len(x))].astype(float) for x in (pair.x_query, pair.x_db))
    lines, back = query @ e.T, db @ e
    residual = (db * lines).sum(1)
    expected = np.abs(residual) / np.sqrt((lines[:, :2] ** 2).sum(1) + (back[:, :2] ** 2).sum(1))
    np.testing.assert_allclose(error, expected, atol=1e-5)
    assert abs(np.sqrt(np.mean(error**2)) * 400 - 1.0) < 0.1


def test_gradients_of_the_error_are_finite_for_matches_without_an_error(rng):
    pair = planted_pair(rng, outliers=0.0, noise_px=0.0)
    pose = true_pose(pair)
    gradient = jax.grad(lambda x: squared_error(pose, x, pair.x_db).sum())(pair.x_query)
    assert np.isfinite(gradient).all()

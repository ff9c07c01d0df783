"""Against NumPy and SciPy in float64; the batch is the last axis."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial.transform import Rotation

from jaxreloc.geometry._kernels import columns


def as_columns(array):
    return tuple(jnp.asarray(array.T, jnp.float32))


def test_normalize(rng):
    vectors = rng.normal(size=(40, 3))
    vectors[:2] = [[0, 0, 0], [1e-4, 0, 0]]
    unit, norm = columns.normalize(as_columns(vectors), 1e-3)
    np.testing.assert_allclose(norm[2:], np.linalg.norm(vectors[2:], axis=-1), rtol=1e-6)
    np.testing.assert_allclose(norm[:2], 1e-3)
    np.testing.assert_array_equal(np.stack(unit)[:, :2], 0)
    np.testing.assert_allclose(np.linalg.norm(np.stack(unit)[:, 2:], axis=0), 1, rtol=1e-6)
    gradient = jax.grad(lambda v: columns.normalize(tuple(v), 1e-3)[1].sum())(jnp.zeros((3, 2)))
    np.testing.assert_array_equal(gradient, 0)


def test_rotate(rng):
    rotation, vectors = Rotation.random(40, rng=rng), rng.normal(size=(40, 3))
    found = columns.rotate(as_columns(rotation.as_quat(scalar_first=True)), as_columns(vectors))
    np.testing.assert_allclose(np.stack(found).T, rotation.apply(vectors), atol=1e-6)


def test_outer_sum_and_its_inverse(rng):
    unit = rng.normal(size=(5, 40, 3))
    identity, outer = rng.uniform(0.1, 1, size=(2, 5, 40))
    expected = np.einsum("nb,nbi,nbj->bij", outer, unit, unit)
    expected += identity.sum(0)[:, None, None] * np.eye(3)
    rows = tuple(jnp.asarray(x, jnp.float32) for x in np.moveaxis(unit, -1, 0))
    found = columns.outer_sum(jnp.float32(identity), jnp.float32(outer), rows)
    np.testing.assert_allclose(matrices(found), expected, rtol=1e-5, atol=1e-5)
    # Of any size: the trace is taken out first.
    scaled = tuple(tuple(1e12 * x for x in row) for row in found)
    inverse, log_determinant = columns.inverse_positive(scaled)
    np.testing.assert_allclose(
        matrices(inverse) * 1e12, np.linalg.inv(expected), rtol=1e-3, atol=1e-4
    )
    expected_log = np.linalg.slogdet(expected)[1] + 3 * np.log(1e12)
    np.testing.assert_allclose(log_determinant, expected_log, rtol=1e-5)


def test_take_picks_a_row_for_each_element_of_the_batch(rng):
    array, index = rng.normal(size=(6, 40)), rng.integers(0, 6, 40)
    (found,) = columns.take((jnp.asarray(array),), jnp.asarray(index))
    np.testing.assert_array_equal(found, np.float32(array[index, np.arange(40)]))


def matrices(rows):
    """[B, 3, 3]"""
    return np.moveaxis(np.array([[np.asarray(x, np.float64) for x in row] for row in rows]), -1, 0)

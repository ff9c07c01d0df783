"""Against least squares in NumPy, float64."""

import jax.numpy as jnp
import numpy as np

from jaxreloc.geometry._kernels import triangulation
from tests.geometry.simulated_pairs import unit_vectors


def as_columns(array):
    return tuple(jnp.asarray(np.moveaxis(array, -1, 0), jnp.float32))


def lines(rng, count):
    return rng.normal(size=(count, 3)), unit_vectors(rng, count)


def test_midpoint_halves_the_shortest_segment(rng):
    (a, u), (b, v) = lines(rng, 200), lines(rng, 200)
    found = triangulation.midpoint(*map(as_columns, (a, u, b, v)))
    for i in range(200):
        depths = np.linalg.lstsq(np.stack([u[i], -v[i]], axis=1), b[i] - a[i])[0]
        expected = (a[i] + depths[0] * u[i] + b[i] + depths[1] * v[i]) / 2
        tolerance = 1e-5 / np.linalg.norm(np.cross(u[i], v[i])) ** 2
        np.testing.assert_allclose([x[i] for x in found.point], expected, atol=tolerance)
        np.testing.assert_allclose([found.depth_a[i], found.depth_b[i]], depths, atol=tolerance)
    assert found.defined.all()


def test_crossing_lines_meet_at_their_point(rng):
    meeting, a, b = rng.normal(size=(3, 50, 3))
    unit = [(meeting - x) / np.linalg.norm(meeting - x, axis=-1, keepdims=True) for x in (a, b)]
    found = triangulation.midpoint(*map(as_columns, (a, unit[0], b, unit[1])))
    np.testing.assert_allclose(np.stack(found.point, -1), meeting, atol=2e-3)
    np.testing.assert_allclose(found.depth_a, np.linalg.norm(meeting - a, axis=-1), atol=2e-3)


def test_parallel_lines_are_told(rng):
    a, u = lines(rng, 50)
    b = rng.normal(size=(50, 3))
    for v in (u, -u, np.zeros_like(u)):
        found = triangulation.midpoint(*map(as_columns, (a, u, b, v)))
        assert not found.defined.any()
        assert np.isfinite(found.point).all()


def test_closest_to_lines_is_the_least_squares_point(rng):
    origin, direction = rng.normal(size=(4, 30, 3)), unit_vectors(rng, 120).reshape(4, 30, 3)
    weight = rng.uniform(0.2, 1.0, (4, 30))
    found = triangulation.closest_to_lines(
        as_columns(origin), as_columns(direction), jnp.float32(weight), 1e-5
    )
    for i in range(30):
        across = np.eye(3) - direction[:, i, :, None] * direction[:, i, None, :]
        root = np.sqrt(weight[:, i])[:, None, None] * across
        target = np.einsum("nij,nj->ni", root, origin[:, i])
        expected = np.linalg.lstsq(root.reshape(-1, 3), target.reshape(-1))[0]
        np.testing.assert_allclose([x[i] for x in found], expected, atol=2e-2)


def test_closest_to_two_lines_is_their_midpoint(rng):
    (a, u), (b, v) = lines(rng, 50), lines(rng, 50)
    found = triangulation.closest_to_lines(
        as_columns(np.stack([a, b])), as_columns(np.stack([u, v])), jnp.ones((2, 50)), 1e-6
    )
    expected = triangulation.midpoint(*map(as_columns, (a, u, b, v)))
    steep = np.linalg.norm(np.cross(u, v), axis=-1) > 0.3
    np.testing.assert_allclose(
        np.stack(found)[:, steep], np.stack(expected.point)[:, steep], atol=2e-3
    )


def test_closest_to_parallel_lines_lies_amid_the_origins():
    origin = as_columns(np.array([[[0.0, 0, 0]], [[0.0, 2, 0]]]))
    direction = as_columns(np.array([[[1.0, 0, 0]], [[1.0, 0, 0]]]))
    found = triangulation.closest_to_lines(origin, direction, jnp.ones((2, 1)), 1e-3)
    np.testing.assert_allclose(np.stack(found)[:, 0], [0, 1, 0], atol=1e-4)

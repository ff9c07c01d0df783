"""Location consensus on hand-made bearings, in local coordinates."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreloc.geometry._kernels import location, ransac
from jaxreloc.geometry._kernels.location import Bearings, LocationConfig
from tests.geometry.simulated_pairs import unit_vectors

CONFIG = LocationConfig()
MAX_COUNT, MAX_BATCH = 6, 400


def bearings(centre, direction, length, *, normalized=False):
    """Of [N, B, 3], [N, B, 3] and [N, B]; padded to one shape, which is compiled once."""
    count, batch = np.shape(length)
    shape = (MAX_COUNT, MAX_BATCH)

    def padded(x):
        x = np.broadcast_to(x, (count, batch, *np.shape(x)[2:]))
        return np.pad(x, ((0, shape[0] - count), (0, shape[1] - batch)) + ((0, 0),) * (x.ndim - 2))

    valid = padded(np.ones((count, batch), bool))
    return Bearings(
        centre=tuple(jnp.asarray(np.moveaxis(padded(centre), -1, 0), jnp.float32)),
        direction=tuple(jnp.asarray(np.moveaxis(padded(direction), -1, 0), jnp.float32)),
        length=jnp.asarray(np.where(valid, padded(length), 1.0), jnp.float32),
        valid=jnp.asarray(valid),
        normalized=jnp.full(shape, normalized),
    )


def solve(method, centre, direction, length, **options):
    """The estimate of the [N, B] given; its fields are arrays, the batch first in `position`."""
    count, batch = np.shape(length)
    estimate = {"paper": _paper, "robust": _robust}[method](
        bearings(centre, direction, length, **options)
    )
    return Solved(
        np.stack(estimate.position, axis=-1)[:batch],
        np.asarray(estimate.inlier_weight)[:count, :batch],
        np.asarray(estimate.success)[:batch],
    )


class Solved(NamedTuple):
    position: np.ndarray
    inlier_weight: np.ndarray
    success: np.ndarray


def towards(target, centre):
    offset = target - centre
    length = np.linalg.norm(offset, axis=-1)
    return offset / length[..., None], length


@jax.jit
def _paper(data):
    return location.paper_location(data, all_pairs(data))


@jax.jit
def _robust(data):
    prior = jnp.full_like(data.length, CONFIG.inlier_prior)
    return location.robust_location(data, all_pairs(data), prior, CONFIG)


def all_pairs(data):
    return ransac.draw_pairs(data.valid, jax.random.key(0), ransac.Sampling())


def test_both_find_the_crossing_of_exact_bearings(rng):
    centre = rng.normal(size=(5, 40, 3))
    target = rng.normal(size=(40, 3))
    direction, length = towards(target, centre)
    for method in ("paper", "robust"):
        estimate = solve(method, centre, direction, length)
        np.testing.assert_allclose(estimate.position, target, atol=5e-3)
        assert estimate.success.all()
        np.testing.assert_allclose(estimate.inlier_weight, 1, atol=0.05)


def test_paper_ignores_the_sign_and_the_length_and_robust_does_not():
    centre = np.array([[[1.0, 0, 0]], [[0.0, 1, 0]], [[0.0, 0, 1.0]]])
    direction, length = towards(np.zeros(3), centre)
    paper = solve("paper", centre, -direction, 7 * length)
    np.testing.assert_allclose(paper.position, 0, atol=1e-5)
    assert paper.success.all()
    robust = solve("robust", centre, -direction, 7 * length)
    assert np.linalg.norm(robust.position) > 0.1 or not robust.success.any()


def test_paper_averages_points_that_tie():
    # Three lines in the plane z = 0 form a triangle; seen from any centre the third corner is more
    # than 10 deg off that centre's line, so each corner has the two votes of its own lines.
    corners = np.array([[0.0, 0, 0], [4.0, 0, 0], [1.0, 3.0, 0]])
    start, end = corners, np.roll(corners, -1, axis=0)
    direction, _ = towards(end, start)
    centre = start - 1.5 * direction
    paper = solve("paper", centre[:, None], direction[:, None], np.ones((3, 1)))
    np.testing.assert_allclose(paper.position[0], corners.mean(axis=0), atol=1e-4)


def test_collinear_cameras_need_the_lengths(rng):
    # Nearly the same camera four times: directions say nothing about the distance of 2.
    centre = 0.02 * rng.normal(size=(4, 200, 3))
    target = 2.0 * unit_vectors(rng, 200)
    direction, length = towards(target, centre)
    direction = direction + 0.05 * rng.normal(size=direction.shape)
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    noisy = length * np.exp(0.1 * rng.normal(size=length.shape))
    errors = [
        np.median(np.linalg.norm(solve(m, centre, direction, noisy).position - target, axis=-1))
        for m in ("paper", "robust")
    ]
    assert errors[1] < 0.3 and errors[0] > 2 * errors[1]


def test_useless_lengths_are_noticed(rng):
    centre = rng.normal(size=(5, 400, 3))
    target = rng.normal(size=(400, 3))
    direction, length = towards(target, centre)
    direction = direction + 0.03 * rng.normal(size=direction.shape)
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    useless = np.exp(rng.uniform(np.log(0.1), np.log(10), length.shape))
    errors = [
        np.median(np.linalg.norm(solve(m, centre, direction, useless).position - target, axis=-1))
        for m in ("paper", "robust")
    ]
    assert errors[1] < 1.05 * errors[0]


def test_normalized_lengths_are_not_used():
    # Parallel rays, so that only the lengths could place the point: it is not located.
    centre = np.array([[[0.0, 0, 0]], [[0.0, 0.1, 0]]])
    direction = np.broadcast_to([1.0, 0, 0], centre.shape)
    length = np.ones((2, 1))
    assert solve("robust", centre, direction, length).success.all()
    estimate = solve("robust", centre, direction, length, normalized=True)
    assert not estimate.success.any() and np.isfinite(estimate.position).all()


@pytest.mark.parametrize("num_outliers", [1, 2, 3])
def test_planted_outliers_are_told(rng, num_outliers):
    centre = rng.normal(size=(6, 400, 3))
    target = rng.normal(size=(400, 3))
    direction, length = towards(target, centre)
    direction[:num_outliers] = unit_vectors(rng, num_outliers * 400).reshape(-1, 400, 3)
    estimate = solve("robust", centre, direction, length)
    error = np.linalg.norm(estimate.position - target, axis=-1)
    # A random direction is within 30 deg of the right one in 7% of the cases; then it may blend in.
    assert np.mean(error < 0.2) > 0.9
    assert np.mean(estimate.inlier_weight[num_outliers:] > 0.5) > 0.95
    assert np.mean(estimate.inlier_weight[:num_outliers] > 0.5) < 0.2


def test_two_that_disagree_are_no_success_and_take_the_nearest_passage():
    centre = np.array([[[0.0, 0, 0]], [[0.0, 1, 0]]])
    direction = np.array([[[1.0, 0, 0]], [[0.0, 0, 1.0]]])
    estimate = solve("robust", centre, direction, np.array([[5.0], [9.0]]))
    assert not estimate.success.any()
    np.testing.assert_allclose(estimate.position[0], [0, 0.5, 0], atol=0.01)

"""The pose and the focal length of a query, against finite differences and planted scenes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreloc.geometry.absolute_pose import estimate_absolute_pose
from jaxreloc.geometry.resection import focal_length
from jaxreloc.geometry.resection import tracks as tracks_lib
from jaxreloc.geometry.resection.focal_length import FocalPose
from jaxreloc.geometry.resection.tracks import QueryPose
from tests.geometry.planted_tracks import planted, pose_error

UNKNOWN = jnp.float32(1.0)


def searched(scene, factor, deviation=UNKNOWN, **arguments):
    """The right focal length is `factor` times the given one."""
    scene = dataclasses.replace(scene, x_query=factor * scene.x_query)
    return estimate_absolute_pose(
        **scene.arguments(depth=True) | arguments,
        key=jax.random.key(0),
        focal_deviation=deviation,
    )


def test_the_system_is_the_derivative_of_the_cost(rng):
    scene = planted(rng, noise_px=1.0, outliers=0.2)
    scale, prior = 3.0, 0.3
    found = FocalPose(scene.pose(), jnp.float32(rng.normal(0, 0.1)))
    tracks = scene.tracks()
    rho = tracks_lib.linear_inverse_depth(
        focal_length.with_log_factor(tracks, found.log_factor), found.pose
    )

    def cost(step):
        pose = QueryPose(
            tracks_lib.turn(step[:3]) @ found.pose.rotation, found.pose.centre + step[3:6]
        )
        seen = focal_length.with_log_factor(tracks, found.log_factor + step[6])
        known = ((found.log_factor + step[6]) / (prior * scale)) ** 2
        return tracks_lib.cost(seen, pose, rho, scale) + known

    seen = focal_length.with_log_factor(tracks, found.log_factor)
    equations = tracks_lib.normal_equations(seen, found.pose, rho, jnp.float32(scale))
    equations = equations._replace(depth_gradient=jnp.zeros_like(rho), mixed=0 * equations.mixed)
    system = focal_length._system(equations, seen, found, rho, 0.0, jnp.float32(prior * scale))
    expected = jax.grad(cost)(jnp.zeros(7))
    np.testing.assert_allclose(2 * system.right, expected, rtol=2e-3, atol=1e-2)


@pytest.mark.parametrize("factor", [0.55, 0.9, 1.3, 1.9])
def test_pose_and_focal_length_are_found(rng, factor):
    scene = planted(rng, noise_px=0.5, outliers=0.3)
    found = searched(scene, factor)
    assert bool(found.success)
    assert float(found.focal_factor) == pytest.approx(factor, rel=0.01)
    assert 0 < float(found.focal_deviation) < 0.01
    matrix = np.asarray(found.world_from_query.as_matrix(), np.float64)
    position, degrees = pose_error(matrix, scene.world_from_query)
    assert position < 0.05 and degrees < 0.5


def test_deviations_are_those_of_the_errors(rng):
    errors, stated = [], []
    for _ in range(24):
        found = searched(planted(rng, noise_px=1.0), 1.2)
        errors.append(np.log(float(found.focal_factor) / 1.2))
        stated.append(float(found.focal_deviation))
    ratio = np.array(errors) / np.array(stated)
    assert 0.5 < np.sqrt(np.mean(ratio**2)) < 1.6
    assert np.abs(ratio).max() < 5


def test_what_is_known_beforehand_decides_where_matches_do_not(rng):
    """Of a wall far away, seen straight on, only focal length over distance is seen."""
    scene = planted(rng, noise_px=0.5)
    nothing = scene.arguments()["weights"] * 0.0
    few = nothing.at[:, ::40].set(1.0)
    known = searched(scene, 1.0, jnp.float32(1e-3), weights=few)
    assert float(known.focal_factor) == pytest.approx(1.0, abs=5e-3)
    none = searched(scene, 1.0, weights=nothing)
    assert not bool(none.success) and np.isfinite(float(none.focal_deviation))

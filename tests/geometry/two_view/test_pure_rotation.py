import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial.transform import Rotation

from jaxreloc.geometry.two_view import pure_rotation
from jaxreloc.geometry.two_view.epipolar import Matches
from tests.geometry.planted_matches import FOCAL_PX, planted_pair

THRESHOLD = 3 / FOCAL_PX


def fit(rotation, matches):
    start = tuple(jnp.asarray(rotation.as_quat(scalar_first=True), jnp.float32))
    found = jax.jit(pure_rotation.fit_rotation, static_argnums=3)(start, matches, THRESHOLD, 10)
    return found, Rotation.from_quat(np.stack(found), scalar_first=True)


def of(pair) -> tuple[Matches, Rotation, Rotation]:
    """The matches, the true rotation, and one half a degree from it."""
    ones = jnp.ones(len(pair.x_query), jnp.float32)
    rotation = Rotation.from_matrix(pair.rotation)
    start = Rotation.from_rotvec(np.radians([0.3, -0.3, 0.3])) * rotation
    return Matches(jnp.asarray(pair.x_query), jnp.asarray(pair.x_db), ones), rotation, start


def test_the_fit_finds_the_rotation_among_outliers(rng):
    matches, rotation, start = of(planted_pair(rng, "pure"))
    _, found = fit(start, matches)
    assert np.degrees((found * rotation.inv()).magnitude()) < 0.1


def test_the_transfer_error_is_that_of_the_turned_ray(rng):
    pair = planted_pair(rng, "pure", matches=50)
    matches, rotation, _ = of(pair)
    q_wxyz = tuple(jnp.asarray(rotation.as_quat(scalar_first=True), jnp.float32))
    turned = rotation.apply(np.c_[pair.x_query, np.ones(50)])
    expected = ((turned[:, :2] / turned[:, 2:] - pair.x_db) ** 2).sum(axis=1)
    expected[turned[:, 2] <= 0.1] = np.inf
    found = pure_rotation.transfer_error(q_wxyz, matches)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)
    behind = tuple(jnp.asarray((Rotation.from_rotvec([np.pi, 0, 0])).as_quat(scalar_first=True)))
    assert np.isinf(pure_rotation.transfer_error(behind, matches)).all()


def epipolar_squared(pair) -> np.ndarray:
    """Sampson's error of the true pose; of a camera that only turned, of a direction by chance."""
    t = pair.translation if np.any(pair.translation) else np.array([0.6, 0.0, 0.8])
    essential = np.cross(np.eye(3), t / np.linalg.norm(t)).T @ pair.rotation
    query, db = (np.c_[x, np.ones(len(x))] for x in (pair.x_query, pair.x_db))
    lines, back = query @ essential.T, db @ essential
    gradient = (lines[:, :2] ** 2).sum(1) + (back[:, :2] ** 2).sum(1)
    return np.float32((db * lines).sum(1) ** 2 / gradient)


def test_parallax_is_missed_where_there_is_none_and_seen_where_there_is(rng):
    for motion, expected in (("pure", True), ("room", False)):
        pair = planted_pair(rng, motion)
        matches, rotation, start = of(pair)
        q_wxyz, _ = fit(start, matches)
        error = epipolar_squared(pair)
        found = jax.jit(pure_rotation.no_parallax)(
            q_wxyz, error, matches, jnp.asarray(error < THRESHOLD**2), THRESHOLD
        )
        assert bool(found) is expected, motion

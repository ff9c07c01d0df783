"""Augmented pairs are pairs: points in space still project to their matches."""

import jax
import jax.numpy as jnp
import jaxlie
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxreloc.models.matching.rays import RayMatches
from jaxreloc.training.inputs import match_augmentation
from jaxreloc.training.inputs.match_augmentation import MatchAugmentation

PAIRS, POINTS = 3, 40

mirror = jax.jit(match_augmentation.mirror)
turn_cameras = jax.jit(match_augmentation.turn_cameras)
rotation_vectors = jax.jit(jax.vmap(lambda q_wxyz: jaxlie.SO3(q_wxyz).log()))


@pytest.fixture
def planted(rng):
    """True matches and the pose they come from."""
    rotation = Rotation.from_rotvec(rng.normal(size=(PAIRS, 3)) * 0.2)
    t = rng.normal(size=(PAIRS, 3)) * 0.3
    points = rng.uniform(-1, 1, (PAIRS, POINTS, 3)) + np.array([0, 0, 4])
    in_db = np.stack([r.apply(p) + x for r, p, x in zip(rotation, points, t)])
    x_query, x_db = (p[..., :2] / p[..., 2:] for p in (points, in_db))
    q_wxyz = np.roll(rotation.as_quat(), 1, axis=1)
    ones = jnp.ones((PAIRS, POINTS))
    matches = RayMatches(*(jnp.asarray(x, jnp.float32) for x in (x_query, x_db)), ones, ones, ones)
    return matches, jaxlie.SE3(jnp.asarray(np.c_[q_wxyz, t], jnp.float32))


def assert_consistent(matches: RayMatches, db_from_query: jaxlie.SE3, points: int = POINTS):
    """Every match satisfies its epipolar constraint, and in front of both cameras."""
    for k in range(PAIRS):
        q, t = np.split(np.asarray(db_from_query.wxyz_xyz[k], np.float64), [4])
        rotation = Rotation.from_quat(np.roll(q, -1))
        query, db = (
            np.c_[np.asarray(x[k], np.float64), np.ones(points)]
            for x in (matches.x_query, matches.x_db)
        )
        turned = rotation.apply(query)
        normal = np.cross(np.broadcast_to(t, db.shape), turned)
        np.testing.assert_allclose(np.sum(db * normal, axis=1), 0, atol=2e-5)
        for a, b, centre, sign in ((turned, db, t, 1), (db, turned, t, -1)):
            # depths z along a with a z_a + centre = b z_b
            depths = [
                np.linalg.lstsq(np.c_[x, -y], -sign * centre, rcond=None)[0] for x, y in zip(a, b)
            ]
            assert np.min(depths) > 0


def test_planted_matches_are_consistent(planted):
    assert_consistent(*planted)


def test_mirrored_pairs_are_consistent(planted):
    matches, pose = planted
    mirrored = jnp.array([True, False, True])
    new_matches, new_pose = mirror(matches, pose, mirrored)
    assert_consistent(new_matches, new_pose)
    np.testing.assert_array_equal(new_matches.x_query[1], matches.x_query[1])
    np.testing.assert_array_equal(new_pose.wxyz_xyz[1], pose.wxyz_xyz[1])
    np.testing.assert_array_equal(new_matches.x_db[0] * jnp.array([[-1, 1]]), matches.x_db[0])
    twice = mirror(new_matches, new_pose, mirrored)
    np.testing.assert_array_equal(twice[1].wxyz_xyz, pose.wxyz_xyz)


def test_turned_cameras_are_consistent(planted, rng):
    matches, pose = planted
    vectors = jnp.asarray(rng.normal(size=(2, PAIRS, 3)) * [0.1, 0.1, 0.5], jnp.float32)
    turns = [jax.vmap(jaxlie.SO3.exp)(v) for v in vectors]
    new_matches, new_pose = turn_cameras(matches, pose, *turns)
    assert_consistent(new_matches, new_pose)
    assert np.abs(new_pose.wxyz_xyz - pose.wxyz_xyz).max() > 0.01
    lengths = (np.linalg.norm(p.translation(), axis=1) for p in (new_pose, pose))
    np.testing.assert_allclose(*lengths, rtol=1e-5)


def test_turning_in_plane_turns_the_picture(planted):
    matches, pose = planted
    angle = 0.4
    turn = jaxlie.SO3(jnp.tile(jaxlie.SO3.from_z_radians(angle).wxyz[None], (PAIRS, 1)))
    still = jaxlie.SO3(jnp.tile(jnp.array([[1.0, 0, 0, 0]]), (PAIRS, 1)))
    turned, _ = turn_cameras(matches, pose, still, turn)
    c, s = np.cos(angle), np.sin(angle)
    expected = np.asarray(matches.x_query) @ np.array([[c, s], [-s, c]])
    np.testing.assert_allclose(turned.x_query, expected, atol=1e-5)
    np.testing.assert_allclose(turned.x_db, matches.x_db, atol=1e-6)


def test_the_augmentation_is_consistent_random_and_repeatable(planted):
    matches, pose = planted
    augment = jax.jit(MatchAugmentation(turn_std_deg=(4, 4, 8), kept=0.75))
    draw = jnp.array([5, 6, 7], jnp.uint32)
    new_matches, new_pose = augment(matches, pose, draw)
    assert new_matches.x_query.shape == (PAIRS, 30, 2)
    assert_consistent(new_matches, new_pose, 30)
    again = augment(matches, pose, draw)[1]
    np.testing.assert_array_equal(again.wxyz_xyz, new_pose.wxyz_xyz)
    other = augment(matches, pose, draw.at[1].set(99))[1]
    changed = np.abs(other.wxyz_xyz - new_pose.wxyz_xyz).max(axis=1) > 1e-4
    np.testing.assert_array_equal(changed, [False, True, False])


def test_augmentation_mirrors_half_the_pairs_and_turns_as_told():
    count = 4000
    ray = jnp.zeros((count, 1, 2)).at[:, 0, 0].set(0.3)
    ones = jnp.ones((count, 1))
    matches = RayMatches(ray, ray, ones, ones, ones)
    identity = jaxlie.SE3(jnp.tile(jnp.array([[1.0, 0, 0, 0, 0, 0, 0]]), (count, 1)))
    draw = jnp.arange(count, dtype=jnp.uint32)
    augment = jax.jit(MatchAugmentation((3.0, 1.0, 10.0), 1.0))
    seen, turned = augment(matches, identity, draw)
    mirrored = seen.x_query[:, 0, 0] < 0  # no turn is so large
    assert 0.45 < np.mean(mirrored) < 0.55
    vectors = np.asarray(rotation_vectors(turned.wxyz_xyz[:, :4]))
    # Two cameras turn, each by its own rotation.
    expected = np.sqrt(2) * np.deg2rad([3.0, 1.0, 10.0])
    np.testing.assert_allclose(vectors.std(axis=0), expected, rtol=0.08)


def test_thinning_keeps_the_order(rng):
    index = jnp.tile(jnp.arange(20.0)[None], (2, 1))
    matches = RayMatches(*(jnp.zeros((2, 20, 2)),) * 2, index, index, index)
    keys = jax.random.split(jax.random.key(int(rng.integers(1000))), 2)
    kept = match_augmentation.thin(matches, keys, 0.5).confidence
    assert kept.shape == (2, 10)
    assert np.all(np.diff(kept, axis=1) > 0)

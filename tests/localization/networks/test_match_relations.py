"""Relative poses from matches: what RANSAC is asked, and what becomes of its answers."""

import types

import jax.numpy as jnp
import jaxlie
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxreloc.localization.networks import match_relations
from jaxreloc.models import RelativePose
from jaxreloc.models.heads.pose_prediction import PairReliability
from jaxreloc.models.matching.rays import RayMatches

INTRINSICS = np.array([[300.0, 0, 159.5], [0, 300.0, 119.5], [0, 0, 1]])
PAIRS, MATCHES = 3, 20
LENGTHS = (0.3, 0.6, 0.4)
INTRINSICS_OF_PAIRS = np.tile(INTRINSICS.astype(np.float32), (PAIRS, 1, 1))


class Head:
    """A network whose head says LENGTHS along one axis, and that the last pair shares nothing."""

    def apply(self, variables, matches, method):
        del variables, matches, method
        t = jnp.array(LENGTHS)[:, None] * jnp.array([[0.0, 0.6, 0.8]])
        logits = jnp.array([3.0, 3.0, -3.0])
        reliability = PairReliability(jnp.zeros(PAIRS), jnp.zeros(PAIRS), logits)
        return RelativePose(t, jnp.tile(jnp.array([[2.0, 0, 0, 0]]), (PAIRS, 1)), reliability)


@pytest.fixture
def estimates(monkeypatch, rng):
    """What RANSAC is asked, and what it answers: three poses, of which the second only turned."""
    asked = types.SimpleNamespace()
    q_wxyz = Rotation.random(PAIRS, rng=rng).as_quat(scalar_first=True)
    t = rng.normal(size=(PAIRS, 3))
    t /= np.linalg.norm(t, axis=1, keepdims=True)
    asked.answer = np.concatenate([q_wxyz, t], axis=1).astype(np.float32)

    def estimate_relative_pose(x_query, x_db, weights, *, threshold, key, initial, config):
        asked.threshold, asked.initial, asked.weights = threshold, initial, weights
        count = jnp.array([[12], [8], [10]])
        return types.SimpleNamespace(
            db_from_query=jaxlie.SE3(jnp.asarray(asked.answer)),
            inliers=jnp.arange(MATCHES)[None] < count,
            success=jnp.array([True, True, True]),
            pure_rotation=jnp.array([False, True, False]),
        )

    monkeypatch.setattr(match_relations, "estimate_relative_pose", estimate_relative_pose)
    return asked


def relate(estimator):
    zeros = jnp.zeros((PAIRS, MATCHES, 2))
    matches = RayMatches(zeros, zeros, *(jnp.ones((PAIRS, MATCHES)),) * 3)
    intrinsics = INTRINSICS_OF_PAIRS, INTRINSICS_OF_PAIRS[:1]
    return match_relations.relate_matches(Head(), {}, matches, *intrinsics, estimator=estimator)


def test_matches_alone_give_unit_translations(estimates):
    relations = relate("matches")
    np.testing.assert_array_equal(relations.db_from_query.wxyz_xyz, estimates.answer)
    np.testing.assert_array_equal(relations.valid, [True, True, True])
    np.testing.assert_allclose(relations.support, [0.6, 0.4, 0.5])
    np.testing.assert_array_equal(relations.overlap_probability, 1)
    assert estimates.initial is None
    np.testing.assert_allclose(estimates.threshold, 0.3 * 8 / 300, rtol=1e-5)


def test_refined_poses_have_the_heads_lengths(estimates):
    relations = relate("refined")
    found = np.asarray(relations.db_from_query.wxyz_xyz)
    np.testing.assert_array_equal(found[:, :4], estimates.answer[:, :4])
    expected = np.array(LENGTHS)[:, None] * estimates.answer[:, 4:]
    expected[1] = [0.0, 0.36, 0.48]  # the head's, since the matches tell no direction
    np.testing.assert_allclose(found[:, 4:], expected, rtol=1e-5)
    np.testing.assert_array_equal(relations.valid, [True, True, False])
    start = np.asarray(estimates.initial.wxyz_xyz)
    np.testing.assert_allclose(start[:, :4], [[1, 0, 0, 0]] * PAIRS)
    np.testing.assert_allclose(np.linalg.norm(start[:, 4:], axis=1), LENGTHS, rtol=1e-5)


def test_the_heads_poses_as_they_are():
    relations = relate("network")
    np.testing.assert_array_equal(relations.valid, [True, True, False])
    expected = np.array([[1, 0, 0, 0, 0, 0.6 * x, 0.8 * x] for x in LENGTHS])
    np.testing.assert_allclose(relations.db_from_query.wxyz_xyz, expected, rtol=1e-5)
    np.testing.assert_array_equal(relations.support, 1)


def test_pairs_far_weaker_than_the_best_are_left_out(estimates, monkeypatch):
    of_the_best = 0.75  # whose support is 0.6; the others' 0.4 and 0.5
    monkeypatch.setattr(match_relations, "MIN_RELATIVE_SUPPORT", of_the_best)
    np.testing.assert_array_equal(relate("matches").valid, [True, False, True])

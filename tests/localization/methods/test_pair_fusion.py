"""The confidence of a fused pose, and what is refused by it."""

import dataclasses

import jax.numpy as jnp
import jaxlie
import numpy as np
import pytest

from jaxreloc.localization.methods.pair_fusion import (
    evidence,
    fuse_relations,
    query_confidence,
)
from jaxreloc.localization.networks.confidence import ConfidenceModel
from jaxreloc.localization.networks.relations import PairRelations
from tests.geometry.simulated_pairs import Noise, predict, random_poses, rooms

BATCH, COUNT = 64, 6  # of tests/geometry/test_fusion.py, whose compiled function serves here
SUPPORT, OVERLAP = 0.5, 0.8
MODEL = ConfidenceModel(bias=-1.0, weights=(0.5, -0.8), threshold=0.3)

fuse_uncompiled = fuse_relations.__wrapped__  # but for the fusion within


def se3(array):
    return jaxlie.SE3(jnp.asarray(array, jnp.float32))


@pytest.fixture
def asked(rng):
    """Queries in their own room, of which one half is told random poses instead."""
    query, db = rooms(rng, BATCH, COUNT)
    relative, _ = predict(rng, db, query, Noise(2.0, 2.0, 0.1, 0.0))
    relative[BATCH // 2 :] = random_poses(rng, BATCH // 2, COUNT)
    support = np.where(np.arange(COUNT) == 1, SUPPORT, 0.1)
    relations = PairRelations(
        se3(relative),
        jnp.ones((BATCH, COUNT), bool),
        jnp.broadcast_to(jnp.float32(support), (BATCH, COUNT)),
        jnp.full((BATCH, COUNT), OVERLAP),
        confidence_model=MODEL,
    )
    return db, relations


def scaled(array, factor):
    return np.concatenate([array[..., :4], factor * array[..., 4:]], axis=-1)


def test_confidence_is_the_models_of_the_evidence(asked):
    db, relations = asked
    np.testing.assert_allclose(query_confidence(relations), SUPPORT * OVERLAP, rtol=1e-6)
    fused, confidence = fuse_relations(se3(db), relations)
    logit = MODEL.bias + 0.5 * np.log(SUPPORT * OVERLAP + 0.01) - 0.8 * np.log(fused.rotation_std)
    expected = np.where(fused.success, 1 / (1 + np.exp(-logit)), 0)
    np.testing.assert_allclose(confidence, expected, rtol=1e-4)
    assert np.median(confidence[: BATCH // 2]) > np.median(confidence[BATCH // 2 :])


def test_the_threshold_refuses_and_what_is_not_fused_has_no_confidence(asked):
    db, relations = asked
    plain, share = fuse_uncompiled(se3(db), relations.replace(confidence_model=None))
    agree = np.asarray(plain.location_inliers & plain.rotation_inliers)
    np.testing.assert_allclose(share, np.where(plain.success, agree.mean(axis=-1), 0), rtol=1e-6)
    _, confidence = fuse_uncompiled(se3(db), relations)
    assert (np.asarray(confidence)[~np.asarray(plain.success)] == 0).all()
    middle = float(np.median(confidence[: BATCH // 2]))
    strict = relations.replace(confidence_model=dataclasses.replace(MODEL, threshold=middle))
    refused, same = fuse_uncompiled(se3(db), strict)
    np.testing.assert_array_equal(same, confidence)
    np.testing.assert_array_equal(refused.success, plain.success & (np.asarray(same) > middle))
    assert 0.2 < np.mean(refused.success[: BATCH // 2]) < 0.8


def test_the_unit_of_length_does_not_matter(asked):
    db, relations = asked
    relative = np.asarray(relations.db_from_query.wxyz_xyz)
    in_feet = relations.replace(db_from_query=se3(scaled(relative, 3.28)))
    ours, theirs = (
        evidence(r, fuse_uncompiled(se3(x), r)[0])[: BATCH // 2]
        for x, r in ((db, relations), (scaled(db, 3.28), in_feet))
    )
    assert np.quantile(np.abs(ours - theirs), 0.95) < 1e-2


def test_padding_is_no_neighbour(asked):
    db, relations = asked
    real = jnp.broadcast_to(jnp.arange(COUNT) < 3, (BATCH, COUNT))
    plain = relations.replace(confidence_model=None)
    fused, share = fuse_uncompiled(se3(db), plain, is_neighbor=real)
    assert not (np.asarray(fused.location_inliers) & ~np.asarray(real)).any()
    assert np.median(share[: BATCH // 2]) == 1

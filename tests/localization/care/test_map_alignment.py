"""The similarity between two maps, from planted poses."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxreloc.localization.care.map_alignment import TOLERANCE, Similarity, align

COUNT = 20


def poses(rng, count=COUNT, spread=1.0):
    found = np.tile(np.eye(4), (count, 1, 1))
    found[:, :3, :3] = Rotation.random(count, rng=rng).as_matrix()
    found[:, :3, 3] = spread * rng.normal(size=(count, 3))
    return found


def planted(rng, scale=None):
    scale = np.exp(rng.uniform(-2, 2)) if scale is None else scale
    return Similarity(scale, Rotation.random(rng=rng).as_matrix(), 5 * rng.normal(size=3))


def noisy(rng, given, depth, radians):
    found = given.copy()
    turns = Rotation.from_rotvec(radians * rng.normal(size=(len(found), 3))).as_matrix()
    found[:, :3, :3] = found[:, :3, :3] @ turns
    found[:, :3, 3] += radians * depth * rng.normal(size=(len(found), 3))
    return found


def test_the_similarity_is_found_among_wrong_poses(rng):
    true, b = planted(rng), poses(rng)
    depth = 3.0 * true.scale
    a = noisy(rng, true.of_poses(b), depth, 0.003)
    wrong = rng.permutation(COUNT) < 8
    a[wrong] = noisy(rng, a[wrong], depth, 0.5)
    found = align(a, b, np.full(COUNT, depth))
    assert found.agrees[~wrong].all() and found.agrees.sum() <= 13
    assert found.similarity.scale == pytest.approx(true.scale, rel=0.02)
    assert abs(np.log(found.similarity.scale / true.scale)) < 6 * found.scale_deviation + 1e-3
    np.testing.assert_allclose(found.similarity.rotation, true.rotation, atol=0.01)
    fit = found.similarity.of_poses(b)[:, :3, 3] - true.of_poses(b)[:, :3, 3]
    assert np.linalg.norm(fit, axis=1).max() < 0.02 * depth
    assert found.error < TOLERANCE


def test_images_at_one_place_do_not_tell_the_scale(rng):
    true, b = planted(rng), poses(rng, spread=1e-3)
    depth = 3.0 * true.scale
    found = align(noisy(rng, true.of_poses(b), depth, 0.003), b, np.full(COUNT, depth))
    assert found is None or found.scale_deviation > 0.1


def test_of_metric_maps_the_scale_is_one(rng):
    true, b = planted(rng, scale=1.0), poses(rng, spread=1e-3)
    a = noisy(rng, true.of_poses(b), 3.0, 0.003)
    found = align(a, b, np.full(COUNT, 3.0), is_metric=True)
    assert found.similarity.scale == 1.0 and found.scale_deviation == 0.0
    assert found.agrees.all()
    np.testing.assert_allclose(found.similarity.rotation, true.rotation, atol=0.01)


def test_poses_that_have_nothing_in_common(rng):
    found = align(poses(rng), poses(rng), np.ones(COUNT))
    assert found is None or found.agrees.sum() <= 5

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxreloc.evaluation.metrics import PoseErrors, concatenate, pose_errors, summarize


def random_poses(rng, n):
    poses = np.tile(np.eye(4), (n, 1, 1))
    poses[:, :3, :3] = Rotation.random(n, rng=rng).as_matrix()
    poses[:, :3, 3] = rng.normal(size=(n, 3))
    return poses


def test_errors_equal_scipys_and_failures_are_infinite(rng):
    estimated, truth = random_poses(rng, 20), random_poses(rng, 20)
    success = rng.random(20) < 0.7
    result = pose_errors(estimated, truth, success)
    distance = np.linalg.norm(estimated[:, :3, 3] - truth[:, :3, 3], axis=1)
    between = Rotation.from_matrix(estimated[:, :3, :3]).inv() * Rotation.from_matrix(
        truth[:, :3, :3]
    )
    np.testing.assert_allclose(result.position_m[success], distance[success], rtol=1e-5)
    np.testing.assert_allclose(
        result.rotation_deg[success], np.rad2deg(between.magnitude())[success], atol=1e-2
    )
    assert np.isinf(result.position_m[~success]).all()
    assert np.isinf(result.rotation_deg[~success]).all()


def test_errors_far_from_the_origin_are_those_near_it(rng):
    estimated = random_poses(rng, 20)
    truth = estimated.copy()
    truth[:, :3, 3] += rng.normal(size=(20, 3)) / 100
    success = np.ones(20, bool)
    near = pose_errors(estimated, truth, success)
    for poses in (estimated, truth):
        poses[:, :3, 3] += [5e5, 5e6, 300]
    far = pose_errors(estimated, truth, success)
    np.testing.assert_allclose(far.position_m, near.position_m, rtol=1e-5)
    np.testing.assert_allclose(far.rotation_deg, near.rotation_deg)


def test_hand_worked_summary():
    inf = np.inf
    queries = PoseErrors(
        np.array([0.01, 0.07, 0.20, 0.30, 0.30, inf]), np.array([1.0, 4.9, 1.9, 4.0, 5.1, inf])
    )
    result = summarize(queries)
    assert (result.num_queries, result.num_failed) == (6, 1)
    assert result.median_position_m == pytest.approx(0.25)
    assert result.median_rotation_deg == pytest.approx(4.45)
    np.testing.assert_allclose(result.recalls, [1 / 6, 2 / 6, 2 / 6, 4 / 6])


def test_more_than_half_failed_makes_the_median_infinite():
    result = summarize(PoseErrors(np.array([0.0, np.inf, np.inf]), np.array([0.0, np.inf, np.inf])))
    assert np.isinf(result.median_position_m) and np.isinf(result.median_rotation_deg)


def test_no_query_is_an_error():
    with pytest.raises(ValueError, match="no query"):
        summarize(PoseErrors(np.zeros(0), np.zeros(0)))


def test_concatenate_keeps_every_query(rng):
    parts = [PoseErrors(rng.random(n), rng.random(n)) for n in (3, 1, 4)]
    assert summarize(concatenate(parts)).num_queries == 8

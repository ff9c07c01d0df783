"""The bounds hold where answers agree, and not where they do not."""

import numpy as np

from benchmarks.device.agreement import Poses, Relative, Same, compare


def test_poses_count_as_near_by_distance_and_angle_up_to_the_sign(rng):
    q = rng.normal(size=(10, 4))
    q /= np.linalg.norm(q, axis=1, keepdims=True)
    poses = np.concatenate([q, rng.normal(size=(10, 3))], axis=1)
    other = poses * np.array([-1, -1, -1, -1, 1, 1, 1])
    other[0, 4] += 0.01
    half = np.deg2rad(3) / 2
    x, y, z, w = 0, 1, 2, 3
    turned = other[1, :4].copy()  # by 3 degrees: times (cos, sin, 0, 0)
    other[1, x] = np.cos(half) * turned[x] - np.sin(half) * turned[y]
    other[1, y] = np.cos(half) * turned[y] + np.sin(half) * turned[x]
    other[1, z] = np.cos(half) * turned[z] + np.sin(half) * turned[w]
    other[1, w] = np.cos(half) * turned[w] - np.sin(half) * turned[z]
    assert Poses(0.005, 1.0, 0.8).check(other, poses) == (0.8, True)
    assert Poses(0.005, 1.0, 0.9).check(other, poses) == (0.8, False)
    assert Poses(0.005, 3.1, 0.9).check(other, poses) == (0.9, True)
    assert Poses(0.02, 2.9, 0.9).check(other, poses) == (0.9, True)


def test_matrices_are_compared_as_quaternions_are():
    turn = np.deg2rad(2)
    pose, other = np.eye(4)[None], np.eye(4)[None].copy()
    other[0, :2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    assert Poses(1e-6, 2.01, 1.0).check(other, pose)[1]
    assert not Poses(1e-6, 1.99, 1.0).check(other, pose)[1]


def test_what_is_not_finite_agrees_with_nothing(rng):
    x = rng.normal(size=5)
    difference, holds = Relative(0.1).check(1.05 * x, x)
    assert abs(difference - 0.05) < 1e-9 and holds
    assert not Relative(0.1).check(1.2 * x, x)[1]
    assert not Relative(np.inf).check(np.where(x == x[0], np.nan, x), x)[1]
    poses = np.tile(np.eye(4), (3, 1, 1))
    assert not Poses(1.0, 180.0, 1.0).check(np.full_like(poses, np.nan), poses)[1]


def test_rows_are_of_the_answers_there_are():
    here = {"retrieval, images": np.arange(10), "resnet34": np.ones(3)}
    rows = compare(here, {"retrieval, images": np.arange(10), "resnet34": np.full(3, 2.0)})
    assert {row["kernel"]: row["holds"] for row in rows} == {
        "retrieval, images": True,
        "resnet34": False,
    }
    assert Same(0.5).check(np.arange(4), np.array([0, 1, 9, 9])) == (0.5, True)

"""What is spoilt is spoilt as the benchmark says, and nothing else."""

import collections

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from benchmarks.trust.spoilt_poses import MOVED, TURNED_DEG, spoil


@pytest.mark.parametrize("count", [6, 10])
def test_spoilt_poses(rng, count):
    poses = np.tile(np.eye(4), (40, 1, 1))
    poses[:, :3, :3] = Rotation.random(40, rng=rng).as_matrix()
    poses[:, :3, 3] = rng.normal(size=(40, 3))
    depth = rng.uniform(1, 5)
    found, kinds = spoil(rng, poses, depth, count)
    assert len(kinds) == count
    assert collections.Counter(kinds.values())["swapped"] % 2 == 0
    for row in range(40):
        off = np.linalg.inv(poses[row]) @ found[row]
        degrees = np.rad2deg(Rotation.from_matrix(off[:3, :3]).magnitude())
        moved = np.linalg.norm(off[:3, 3]) / depth
        if kinds.get(row) == "turned":
            assert TURNED_DEG[0] - 1e-6 <= degrees <= TURNED_DEG[1] + 1e-6 and moved < 1e-9
        elif kinds.get(row) == "moved":
            assert MOVED[0] - 1e-9 <= moved <= MOVED[1] + 1e-9 and degrees < 1e-5
        elif kinds.get(row) == "swapped":
            assert np.hypot(np.deg2rad(degrees), moved) > MOVED[0]
            assert any((found[row] == poses[x]).all() for x in kinds if x != row)
        else:
            np.testing.assert_array_equal(found[row], poses[row])

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxreloc.data.pairing import candidates
from jaxreloc.data.pairing.pair_target import Bins
from tests.data import box_room

ROTATION = Bins((0, 40, 80, 180), (1, 1, 1))
BASELINE = Bins((0.5, 1, 2, 4), (1, 1, 1))
NUM_BINS = 9
PLENTY = np.full(NUM_BINS, 10**6)


@pytest.fixture
def room(rng):
    return box_room.random_room(rng, 40, with_depth=False)


def brute_force(frames):
    """Every pair and its bin, one by one."""
    found = {}
    poses = frames.world_from_cam
    for i in range(len(frames)):
        for j in range(i + 1, len(frames)):
            relative = Rotation.from_matrix(poses[i, :3, :3].T @ poses[j, :3, :3])
            angle = np.degrees(relative.magnitude())
            distance = np.linalg.norm(poses[i, :3, 3] - poses[j, :3, 3])
            bins = np.digitize([angle], ROTATION.edges), np.digitize([distance], BASELINE.edges)
            rotation_bin, baseline_bin = (int(b[0]) - 1 for b in bins)
            if 0 <= rotation_bin < 3 and 0 <= baseline_bin < 3:
                found[i, j] = rotation_bin * 3 + baseline_bin
    return found


@pytest.mark.parametrize("block", [1, 50, 1 << 18])
def test_all_pairs_are_found_once_in_their_bins(monkeypatch, room, rng, block):
    monkeypatch.setattr(candidates, "PAIRS_PER_BLOCK", block)
    found = candidates.sample_candidates(room, ROTATION, BASELINE, PLENTY, rng)
    expected = brute_force(room)
    pairs = list(zip(found.first.tolist(), found.second.tolist()))
    assert dict(zip(pairs, found.bin.tolist())) == expected
    assert len(pairs) == len(expected)
    np.testing.assert_array_equal(
        found.population, np.bincount(list(expected.values()), minlength=NUM_BINS)
    )


def test_bins_hold_at_most_their_capacity_of_distinct_pairs(monkeypatch, room, rng):
    monkeypatch.setattr(candidates, "PAIRS_PER_BLOCK", 64)
    capacity = rng.integers(0, 12, NUM_BINS)
    found = candidates.sample_candidates(room, ROTATION, BASELINE, capacity, rng)
    population = np.bincount(list(brute_force(room).values()), minlength=NUM_BINS)
    np.testing.assert_array_equal(found.population, population)
    np.testing.assert_array_equal(
        np.bincount(found.bin, minlength=NUM_BINS), np.minimum(capacity, population)
    )
    expected = brute_force(room)
    pairs = list(zip(found.first.tolist(), found.second.tolist()))
    assert len(set(pairs)) == len(pairs)
    assert all(expected[pair] == bin for pair, bin in zip(pairs, found.bin.tolist()))


def test_pairs_of_a_bin_are_equally_likely(monkeypatch, rng):
    """Early and late blocks, and so early and late frames, are drawn alike."""
    monkeypatch.setattr(candidates, "PAIRS_PER_BLOCK", 16)
    room = box_room.random_room(rng, 16, with_depth=False)
    anything = Bins((0, 181)), Bins((0, 100))
    drawn, runs, capacity = np.zeros((16, 16)), 600, 30
    for _ in range(runs):
        found = candidates.sample_candidates(room, *anything, np.array([capacity]), rng)
        drawn[found.first, found.second] += 1
    share = drawn[np.triu_indices(16, 1)] / runs
    expected = capacity / 120
    # 120 shares, each of standard deviation sqrt(p (1 - p) / 600) = 0.018
    np.testing.assert_allclose(share, expected, atol=0.085)


def test_pairs_of_a_large_scene_are_equally_likely_too(monkeypatch, rng):
    """Of 16 frames with 6 partners each, in a full bin and in one that takes all that is looked at;
    the population is estimated without bias."""
    monkeypatch.setattr(candidates, "MAX_PARTNERS", 6)
    monkeypatch.setattr(candidates, "PAIRS_PER_BLOCK", 12)
    room = box_room.random_room(rng, 16, with_depth=False)
    anything, runs = (Bins((0, 181)), Bins((0, 100))), 600
    for capacity, expected in ((30, 30 / 120), (120, 6 / 15)):
        drawn, populations = np.zeros((16, 16)), []
        for _ in range(runs):
            found = candidates.sample_candidates(room, *anything, np.array([capacity]), rng)
            drawn[found.first, found.second] += 1
            populations.append(found.population[0])
        share = drawn[np.triu_indices(16, 1)] / runs
        np.testing.assert_allclose(share, expected, atol=0.1)  # five standard deviations of 0.02
        assert np.mean(populations) == pytest.approx(120, rel=0.03)


def test_a_frame_of_a_large_scene_is_tried_with_a_sample(monkeypatch, room, rng):
    monkeypatch.setattr(candidates, "MAX_PARTNERS", 10)
    monkeypatch.setattr(candidates, "PAIRS_PER_BLOCK", 20)
    found = candidates.sample_candidates(room, ROTATION, BASELINE, PLENTY, rng)
    expected = brute_force(room)
    pairs = list(zip(found.first.tolist(), found.second.tolist()))
    assert len(set(pairs)) == len(pairs) < len(expected)
    assert all(expected[pair] == bin for pair, bin in zip(pairs, found.bin.tolist()))
    assert np.bincount(found.first).max() <= 10


@pytest.mark.parametrize("count", [0, 1])
def test_scene_without_pairs(rng, count):
    room = box_room.random_room(rng, 1, with_depth=False).select(range(count))
    found = candidates.sample_candidates(room, ROTATION, BASELINE, PLENTY, rng)
    assert len(found.first) == 0
    np.testing.assert_array_equal(found.population, 0)

import math

import numpy as np
import pytest

from jaxreloc.data.pairing.pair_target import TARGETS, Bins, allot


def test_bins_are_half_open():
    bins = Bins((0.0, 1.0, 2.5, math.inf), (1, 2, 1))
    values = np.array([-0.1, 0.0, 0.99, 1.0, 2.49, 2.5, 1e9, np.inf, np.nan])
    np.testing.assert_array_equal(bins.index(values), [-1, 0, 0, 1, 1, 2, 2, -1, -1])
    np.testing.assert_allclose(bins.shares, [0.25, 0.5, 0.25])


def test_bins_agree_with_histogram(rng):
    edges = np.sort(rng.uniform(-1, 1, 8))
    values = rng.uniform(-2, 2, 1000)
    index = Bins(tuple(edges), (1,) * 7).index(values)
    expected, _ = np.histogram(values, edges)
    np.testing.assert_array_equal(np.bincount(index[index >= 0], minlength=7), expected)


@pytest.mark.parametrize(
    ("edges", "weights", "message"),
    [
        ((0, 1, 2), (1,), "3 edges need 2 weights"),
        ((0, 2, 1), (1, 1), "ascend"),
        ((0, 1, 2), (1, -1), "positive"),
        ((0, 1, 2), (0, 0), "positive"),
    ],
)
def test_bins_that_make_no_sense(edges, weights, message):
    with pytest.raises(ValueError, match=message):
        Bins(edges, weights)


def test_paper_target_has_the_published_percentiles():
    """5/50/95 percentiles of the histograms: 7/28/54 deg and 0.19/0.96/2.18 m."""

    def percentiles(bins):
        cumulative = np.concatenate([[0], np.cumsum(bins.shares)])
        return np.interp([0.05, 0.5, 0.95], cumulative, bins.edges)

    np.testing.assert_allclose(percentiles(TARGETS["paper"].rotation_deg), [7, 28, 54], atol=1)
    np.testing.assert_allclose(
        percentiles(TARGETS["paper"].baseline_m), [0.19, 0.96, 2.18], atol=0.02
    )


def random_shares(rng, bins):
    shares = rng.uniform(0.2, 1, bins)
    return shares / shares.sum()


def test_marginals_come_out_as_wanted(rng):
    shape = (3, 4, 5)
    prior = rng.uniform(0.01, 1, shape)
    wanted = [random_shares(rng, bins) for bins in shape]
    counts = allot(30_000, np.full(shape, 10**6), prior, wanted, rng)
    assert abs(counts.sum() - 30_000) <= 1
    for axis, shares in enumerate(wanted):
        others = tuple({0, 1, 2} - {axis})
        np.testing.assert_allclose(counts.sum(axis=others) / 30_000, shares, atol=0.002)


def test_raking_keeps_the_odds_of_the_prior(rng):
    """Odds ratios are what iterative proportional fitting leaves alone."""
    prior = rng.uniform(0.2, 1, (2, 2))
    counts = allot(10**7, np.full((2, 2), 10**8), prior, [random_shares(rng, 2)] * 2, rng)
    odds = [t[0, 0] * t[1, 1] / (t[0, 1] * t[1, 0]) for t in (prior, counts)]
    assert odds[0] == pytest.approx(odds[1], rel=1e-3)


def test_cells_give_no_more_than_they_have(rng):
    available = rng.integers(0, 20, (6, 7))
    counts = allot(10_000, available, available + 0.0, [np.full(6, 1 / 6), np.full(7, 1 / 7)], rng)
    np.testing.assert_array_equal(counts, available)


def test_others_make_up_for_a_cell_that_runs_out(rng):
    available = np.array([[10, 10_000], [10_000, 10_000]])
    counts = allot(4000, available, np.ones((2, 2)), [np.full(2, 0.5)] * 2, rng)
    np.testing.assert_allclose(counts, [[10, 1990], [1990, 10]], atol=12)


def test_empty_bins_leave_their_share_to_the_others(rng):
    available = np.array([[500, 0, 500], [500, 0, 500]])
    shares = [np.array([0.5, 0.5]), np.array([0.2, 0.6, 0.2])]
    counts = allot(800, available, np.ones((2, 3)), shares, rng)
    np.testing.assert_allclose(counts, [[200, 0, 200], [200, 0, 200]], atol=1)


def test_nothing_available(rng):
    counts = allot(10, np.zeros((2, 2), np.int64), np.ones((2, 2)), [np.full(2, 0.5)] * 2, rng)
    np.testing.assert_array_equal(counts, 0)


def test_cells_below_one_pair_get_their_share_on_average(rng):
    """A thousand scenes that want half a pair each get five hundred together, all alike."""
    total = np.zeros(1000)
    for _ in range(100):
        total += allot(500, np.full(1000, 5), np.ones(1000), [np.full(1000, 1e-3)], rng)
    assert total.sum() == pytest.approx(100 * 500, abs=100)
    assert 25 < total.min() and total.max() < 75

"""The loop on mock scores, apart from any solver."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreloc.geometry._kernels.ransac import Sampling, best, draw_pairs, most_votes

draw = jax.jit(draw_pairs, static_argnums=2)


def test_best_is_the_highest_usable_score(rng):
    score, usable = rng.normal(size=(9, 200)), rng.uniform(size=(9, 200)) < 0.5
    index, exists = best(jnp.asarray(score), jnp.asarray(usable))
    for b in range(200):
        candidates = np.flatnonzero(usable[:, b])
        assert bool(exists[b]) == bool(len(candidates))
        if len(candidates):
            assert int(index[b]) == candidates[np.argmax(score[candidates, b])]


def test_of_equal_scores_the_first_wins():
    index, _ = best(jnp.ones((5, 2)), jnp.array([[False, True]] + [[True, True]] * 4))
    np.testing.assert_array_equal(index, [1, 0])


def test_all_that_tie_for_most_votes_win():
    votes = jnp.array([[3, 0, 5], [3, 0, 1], [2, 0, 5]])
    usable = jnp.array([[True, True, False], [True, False, True], [True, True, False]])
    winners, exists = most_votes(votes, usable)
    np.testing.assert_array_equal(winners, [[1, 1, 0], [1, 0, 1], [0, 1, 0]])
    assert exists.all()
    winners, exists = most_votes(votes, jnp.zeros_like(usable))
    assert not winners.any() and not exists.any()


def drawn(pairs, b):
    """The usable pairs of one element of the batch, each sorted."""
    usable = np.asarray(pairs.usable)[:, b]
    first, second = (
        np.asarray(x if x.ndim == 1 else x[:, b]) for x in (pairs.first, pairs.second)
    )
    return [tuple(sorted(pair)) for pair in zip(first[usable], second[usable])]


@pytest.mark.parametrize("count", [1, 2, 7, 16])
def test_few_data_give_every_valid_pair_once(rng, count):
    valid = rng.uniform(size=(count, 20)) < 0.7
    pairs = draw(jnp.asarray(valid), jax.random.key(0), Sampling())
    for b in range(20):
        expected = itertools.combinations(np.flatnonzero(valid[:, b]), 2)
        assert sorted(drawn(pairs, b)) == sorted(expected)


def test_many_data_are_sampled(rng):
    valid = rng.uniform(size=(40, 30)) < 0.8
    key = jax.random.key(int(rng.integers(2**31)))
    pairs = draw(jnp.asarray(valid), key, Sampling(num_sampled=3000))
    few = draw(jnp.asarray(valid), key, Sampling(num_sampled=50))
    for b in range(30):
        indices = np.flatnonzero(valid[:, b])
        found = drawn(pairs, b)
        assert all(i != j and valid[i, b] and valid[j, b] for i, j in found)
        if len(indices) * (len(indices) - 1) // 2 <= 3000:
            assert sorted(found) == sorted(itertools.combinations(indices, 2))
        sample = drawn(few, b)
        assert len(sample) == 50 and len(set(sample)) > 35
        assert all(i != j and valid[i, b] and valid[j, b] for i, j in sample)


def test_samples_are_uniform_over_pairs(rng):
    valid = jnp.ones((20, 1), bool)
    counts = np.zeros((20, 20))
    for i in range(40):
        key = jax.random.fold_in(jax.random.key(int(rng.integers(2**31))), i)
        for pair in drawn(draw(valid, key, Sampling(num_sampled=100)), 0):
            counts[pair] += 1
    observed = counts[np.triu_indices(20, 1)]
    expected = observed.mean()
    # Chi-square of 189 degrees of freedom: 6 standard deviations above its mean.
    assert np.sum((observed - expected) ** 2 / expected) < 189 + 6 * np.sqrt(2 * 189)


def test_few_valid_among_many_give_every_pair_once(rng):
    valid = np.zeros((40, 3), bool)
    valid[rng.permutation(40)[:6], 0] = True
    valid[rng.permutation(40)[:1], 1] = True
    pairs = draw(jnp.asarray(valid), jax.random.key(0), Sampling())
    assert sorted(drawn(pairs, 0)) == list(itertools.combinations(np.flatnonzero(valid[:, 0]), 2))
    assert drawn(pairs, 1) == [] and drawn(pairs, 2) == []


def test_the_key_decides(rng):
    valid = jnp.ones((20, 2), bool)
    key, other = jax.random.split(jax.random.key(int(rng.integers(2**31))))
    draws = [draw(valid, k, Sampling()) for k in (key, key, other)]
    np.testing.assert_array_equal(draws[0].first, draws[1].first)
    assert (np.asarray(draws[0].first) != np.asarray(draws[2].first)).any()


def test_rows_are_gathered(rng):
    data = rng.normal(size=(20, 4))
    for sampling in (Sampling(max_exhaustive=20), Sampling(max_exhaustive=2)):
        pairs = draw_pairs(jnp.ones((20, 4), bool), jax.random.key(0), sampling)
        (first,), (second,) = pairs.rows((jnp.asarray(data, jnp.float32),))
        for b in range(4):
            for rows, index in ((first, pairs.first), (second, pairs.second)):
                index = np.asarray(index).reshape(len(index), -1)
                expected = np.float32(data[index[:, b % index.shape[1]], b])
                np.testing.assert_array_equal(rows[:, b], expected)


def test_counts_must_be_positive():
    with pytest.raises(ValueError, match="at least 1"):
        Sampling(num_sampled=0)

"""Batches of matched pairs: repeatable from any step, weighted, padded, shared out."""

import itertools

import numpy as np
import pytest

from jaxreloc.training.inputs.match_loader import MatchLoader
from jaxreloc.usage import UsageError
from tests.training import planted_matches


def first(loader, count, start=0):
    return list(itertools.islice(loader.batches(start), count))


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        if isinstance(a[name], dict):
            assert_same(a[name], b[name])
        else:
            np.testing.assert_array_equal(a[name], b[name])


def test_a_later_start_gives_the_same_batches(rng):
    pairs = planted_matches.matched_pairs(rng)
    loader = MatchLoader(pairs, batch_size=4, train=True, seed=3)
    for straight, resumed in zip(first(loader, 5)[3:], first(loader, 2, start=3), strict=True):
        assert_same(straight, resumed)
    a, b = first(loader, 2)
    assert not np.array_equal(a["draw"], b["draw"])


def test_a_batch_has_the_pairs_it_names(rng):
    pairs = planted_matches.matched_pairs(rng)
    (batch,) = first(MatchLoader(pairs, batch_size=6, train=True), 1)
    index = batch["pair_index"]
    np.testing.assert_array_equal(batch["matches"]["x_db"], pairs.x_db[index])
    np.testing.assert_array_equal(batch["db_from_query"], pairs.db_from_query[index])
    np.testing.assert_array_equal(batch["overlaps"], pairs.overlap[index] > 0)
    assert batch["mask"].all() and batch["draw"].dtype == np.uint32


def test_evaluation_has_each_pair_once_and_pads(rng):
    pairs = planted_matches.matched_pairs(rng, count=10)
    loader = MatchLoader(pairs, batch_size=4, train=False)
    batches = list(loader.batches())
    assert len(batches) == len(loader) == 3
    index = np.concatenate([batch["pair_index"] for batch in batches])
    np.testing.assert_array_equal(index, [*range(10), -1, -1])
    np.testing.assert_array_equal(np.concatenate([b["mask"] for b in batches]), index >= 0)


def test_pairs_are_drawn_by_weight(rng):
    pairs = planted_matches.matched_pairs(rng, count=4)
    loader = MatchLoader(pairs, batch_size=500, train=True, weights=np.array([1.0, 0, 2, 1]))
    index = np.concatenate([batch["pair_index"] for batch in first(loader, 8)])
    shares = np.bincount(index, minlength=4) / 4000
    np.testing.assert_allclose(shares, [0.25, 0, 0.5, 0.25], atol=0.04)


def test_processes_share_the_global_batch(rng):
    pairs = planted_matches.matched_pairs(rng)
    (whole,) = first(MatchLoader(pairs, batch_size=6, train=True), 1)
    shares = [
        first(MatchLoader(pairs, batch_size=6, train=True, process_index=k, process_count=2), 1)[0]
        for k in (0, 1)
    ]
    for name in ("pair_index", "draw"):
        both = np.stack([share[name] for share in shares], axis=1).ravel()
        np.testing.assert_array_equal(both, whole[name])


def test_mistakes_are_named(rng):
    pairs = planted_matches.matched_pairs(rng)
    with pytest.raises(UsageError, match="no matched pairs"):
        MatchLoader(pairs.select(np.zeros(0, int)), batch_size=4, train=True)
    with pytest.raises(UsageError, match="batch_size=5 does not divide over 2"):
        MatchLoader(pairs, batch_size=5, train=True, process_count=2)

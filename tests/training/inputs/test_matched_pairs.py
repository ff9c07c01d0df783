"""Files of matched pairs: what is written is read, and nothing else is."""

import dataclasses

import numpy as np
import pytest

from jaxreloc.training.inputs import matched_pairs
from jaxreloc.usage import UsageError
from tests.training import planted_matches


def assert_equal(a, b):
    for field in dataclasses.fields(a):
        np.testing.assert_array_equal(getattr(a, field.name), getattr(b, field.name))


def test_a_file_holds_the_pairs(rng, tmp_path):
    pairs = planted_matches.matched_pairs(rng)
    path = tmp_path / "hall.matches.npz"
    matched_pairs.save(path, pairs)
    assert_equal(matched_pairs.load(path), pairs)
    few = matched_pairs.load(path, max_matches=9)
    np.testing.assert_array_equal(few.x_db, pairs.x_db[:, :9])
    np.testing.assert_array_equal(few.reverse, pairs.reverse[:, :9])
    np.testing.assert_array_equal(few.db_from_query, pairs.db_from_query)


@pytest.mark.parametrize("content", [b"", b"PK\3\4 not a file of matches"])
def test_other_files_are_named(content, tmp_path):
    path = tmp_path / "hall.matches.npz"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=f"{path}: not a file of matches .*delete it"):
        matched_pairs.load(path)


def test_a_file_of_another_version_is_refused(rng, tmp_path, monkeypatch):
    path = tmp_path / "hall.matches.npz"
    monkeypatch.setattr(matched_pairs, "VERSION", 99)
    matched_pairs.save(path, planted_matches.matched_pairs(rng, count=2))
    monkeypatch.undo()
    with pytest.raises(UsageError, match="another version"):
        matched_pairs.load(path)


def test_parts_are_joined_with_the_matches_that_all_have(rng):
    parts = [planted_matches.matched_pairs(rng, count=n, matches=k) for n, k in ((3, 20), (2, 15))]
    joined = matched_pairs.concatenate(parts)
    assert joined.confidence.shape == (5, 15)
    np.testing.assert_array_equal(joined.x_query[:3], parts[0].x_query[:, :15])
    assert_equal(joined.select(np.array([3, 4])), parts[1])

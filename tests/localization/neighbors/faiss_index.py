"""FAISS behind the retrieval's interface; run by `make test-faiss`, which installs it."""

import numpy as np
import pytest

from jaxreloc.localization.neighbors import faiss_index
from jaxreloc.localization.neighbors.faiss_index import FaissIndex
from jaxreloc.localization.neighbors.retrieval import ExactIndex, recall


def places(rng, num_places, views, dim=64, spread=0.3):
    """Unit descriptors of several views of each place."""
    centres = rng.normal(size=(num_places, 1, dim))
    x = (centres + spread * rng.normal(size=(num_places, views, dim))).reshape(-1, dim)
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("min_images", [10, 10_000])
def test_finds_nearly_all_of_the_exact_search(rng, monkeypatch, min_images):
    monkeypatch.setattr(faiss_index, "MIN_IMAGES", min_images)
    database = places(rng, 200, 10)
    queries = database[rng.permutation(len(database))[:100]]
    exact, cosines = ExactIndex(database).search(queries, 5)
    index = FaissIndex.of(database)
    found, similarities = index.search(queries, 5)
    assert len(index) == 2000 and found.shape == (100, 5)
    assert recall(found, exact) > 0.9
    np.testing.assert_allclose(similarities, cosines, atol=0.05)
    assert (np.diff(similarities, axis=1) <= 1e-6).all()


def test_a_small_database_gives_all_of_it(rng):
    found, _ = FaissIndex.of(places(rng, 3, 1)).search(places(rng, 2, 1), 5)
    np.testing.assert_array_equal(np.sort(found, axis=1), [[0, 1, 2]] * 2)


def test_too_few_in_the_lists_repeat_the_last(rng, monkeypatch):
    monkeypatch.setattr(faiss_index, "MIN_IMAGES", 10)
    index = FaissIndex.of(places(rng, 400, 1), lists_searched=1)
    found, similarities = index.search(places(rng, 4, 1), 400)
    assert found.shape == (4, 400) and (found >= 0).all() and np.isfinite(similarities).all()

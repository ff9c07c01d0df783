import numpy as np

from jaxreloc.localization.retrieval import most_similar


def unit_rows(rng, n, dim=16):
    x = rng.normal(size=(n, dim)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_equals_a_sort_of_all_cosines(rng):
    queries, database = unit_rows(rng, 7), unit_rows(rng, 50)
    indices, similarities = most_similar(queries, database, 5)
    cosines = queries.astype(np.float64) @ database.T
    np.testing.assert_array_equal(indices, np.argsort(-cosines, axis=1)[:, :5])
    np.testing.assert_allclose(similarities, -np.sort(-cosines, axis=1)[:, :5], atol=1e-6)


def test_a_database_image_finds_itself_first(rng):
    database = unit_rows(rng, 30)
    indices, similarities = most_similar(database, database, 1)
    np.testing.assert_array_equal(indices[:, 0], np.arange(30))
    np.testing.assert_allclose(similarities, 1.0, atol=1e-5)


def test_small_database_gives_all_of_it_and_ties_keep_its_order(rng):
    database = np.repeat(unit_rows(rng, 1), 3, axis=0)
    indices, _ = most_similar(unit_rows(rng, 2), database, 5)
    np.testing.assert_array_equal(indices, [[0, 1, 2]] * 2)

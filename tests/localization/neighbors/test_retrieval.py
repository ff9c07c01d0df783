import numpy as np
import pytest

from jaxreloc.localization.neighbors.retrieval import (
    ExactIndex,
    default_baseline,
    diverse,
    most_similar,
    near,
    recall,
)


def unit_rows(rng, n, dim=16):
    x = rng.normal(size=(n, dim)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_equals_a_sort_of_all_cosines(rng):
    queries, database = unit_rows(rng, 7), unit_rows(rng, 50)
    indices, similarities = most_similar(queries, database, num_neighbors=5)
    cosines = queries.astype(np.float64) @ database.T
    np.testing.assert_array_equal(indices, np.argsort(-cosines, axis=1)[:, :5])
    np.testing.assert_allclose(similarities, -np.sort(-cosines, axis=1)[:, :5], atol=1e-6)


def test_a_database_image_finds_itself_first(rng):
    database = unit_rows(rng, 30)
    indices, similarities = ExactIndex(database).search(database, 1)
    np.testing.assert_array_equal(indices[:, 0], np.arange(30))
    np.testing.assert_allclose(similarities, 1.0, atol=1e-5)


def test_small_database_gives_all_of_it_and_ties_keep_its_order(rng):
    database = np.repeat(unit_rows(rng, 1), 3, axis=0)
    indices, _ = ExactIndex(database).search(unit_rows(rng, 2), 5)
    np.testing.assert_array_equal(indices, [[0, 1, 2]] * 2)


def walk_down(ranking, centres, num_neighbors, min_baseline):
    """`diverse` by its definition, one image at a time."""
    taken, left = [], list(ranking)
    for image in ranking:
        apart = [np.linalg.norm(centres[image] - centres[other]) >= min_baseline for other in taken]
        if len(taken) < num_neighbors and all(apart):
            taken.append(image)
            left.remove(image)
    return taken + left[: num_neighbors - len(taken)]


@pytest.mark.parametrize("min_baseline", [0.0, 0.3, 1.0, 100.0])
def test_diverse_walks_down_the_ranking(rng, min_baseline):
    centres = rng.normal(size=(40, 3))
    for num_neighbors in (1, 5, 12, 50):
        ranking = rng.permutation(40)[:20]
        found = diverse(ranking, centres, num_neighbors, min_baseline)
        np.testing.assert_array_equal(
            found, walk_down(ranking, centres, num_neighbors, min_baseline)
        )


def test_diverse_skips_the_frames_of_one_spot_and_falls_back_on_them():
    centres = np.array([[0.0, 0, 0], [0.01, 0, 0], [0, 0.02, 0], [1, 0, 0], [1.01, 0, 0]])
    ranking = np.arange(5)
    np.testing.assert_array_equal(diverse(ranking, centres, 2, 0.5), [0, 3])
    np.testing.assert_array_equal(diverse(ranking, centres, 3, 0.5), [0, 3, 1])
    np.testing.assert_array_equal(diverse(ranking, centres, 3, 0.0), [0, 1, 2])


def test_default_baseline_follows_the_unit_of_the_poses(rng):
    centres = rng.normal(size=(30, 3))
    in_metres = default_baseline(centres)
    extent = np.median(np.linalg.norm(centres - np.median(centres, axis=0), axis=1))
    np.testing.assert_allclose(in_metres, 0.1 * extent)
    np.testing.assert_allclose(default_baseline(centres * 1000 + 5), in_metres * 1000)


def test_default_baseline_of_a_long_dense_path_is_ten_frames():
    path = np.stack([np.arange(1000) * 0.02, np.zeros(1000), np.zeros(1000)], axis=1)
    np.testing.assert_allclose(default_baseline(path), 0.2)


def test_cameras_in_one_place_have_no_baseline(rng):
    assert default_baseline(rng.normal(size=(1, 3))) == 0
    assert default_baseline(np.ones((5, 3))) == 0


def test_recall_counts_what_was_found():
    exact = np.array([[0, 1, 2, 3], [4, 5, 6, 7]])
    assert recall(exact[:, ::-1], exact) == 1
    assert recall(np.array([[0, 0, 9, 8], [7, 4, 9, 8]]), exact) == 3 / 8


def test_near_is_a_ball_with_its_rim():
    centres = np.array([[0.0, 0, 0], [3, 4, 0], [3, 4, 1e-3], [0, 0, -5]])
    np.testing.assert_array_equal(near(centres, np.zeros(3), 5.0), [True, True, False, True])

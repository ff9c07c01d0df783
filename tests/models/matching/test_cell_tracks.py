"""Tracks against the matches of pairs, and the choice of cells against a sum in NumPy."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxreloc.models.matching import cell_tracks, coarse_to_fine, refinement
from jaxreloc.models.matching.coarse_to_fine import MatchSettings
from tests.models.matching.planted import described_texture, random_descriptors, smooth_texture

SETTINGS = MatchSettings(
    coarse_temperature=7.0, fine_temperature=5.0, candidates=9, window=6, max_matches=36
)
match_tracks = jax.jit(cell_tracks.match_tracks, static_argnums=2)


def select(descriptors, rows):
    return jax.tree.map(lambda x: x[rows], descriptors)


def test_of_one_image_they_are_the_matches_of_the_pair(rng):
    query, db = (random_descriptors(rng, 1, 6, 5) for _ in range(2))
    tracks = match_tracks(query, db, SETTINGS)
    pair = refinement.refine(
        coarse_to_fine.match(query, db, SETTINGS), query.detail, db.detail, SETTINGS.detail_patch
    )
    np.testing.assert_array_equal(tracks.query_cells, pair.query_cells[0])
    np.testing.assert_allclose(tracks.db_cells, pair.db_cells, atol=1e-4)
    np.testing.assert_allclose(tracks.confidence, pair.confidence, rtol=1e-5)


def test_the_cells_are_those_of_most_confidence_in_all_images(rng):
    query, db = random_descriptors(rng, 1, 6, 5), random_descriptors(rng, 4, 6, 5)
    every = dataclasses.replace(SETTINGS, candidates=30, max_matches=120)
    all_cells = match_tracks(query, db, every)
    total = np.asarray(all_cells.confidence).sum(axis=0)
    kept = match_tracks(query, db, dataclasses.replace(every, max_matches=10))
    np.testing.assert_allclose(
        np.asarray(kept.confidence).sum(axis=0), np.sort(total)[::-1][:10], rtol=1e-4
    )
    assert len({tuple(cell) for cell in np.asarray(kept.query_cells)}) == 10


def test_one_place_is_found_in_every_image_that_shows_it(rng):
    texture = smooth_texture(rng, 160, 160)
    shifts = [(0, 0), (16, 0), (0, 32)]
    images = [described_texture(texture[r : r + 96, c : c + 96]) for r, c in shifts]
    db = jax.tree.map(lambda *x: np.concatenate(x), *images)
    settings = MatchSettings(candidates=36, max_matches=60)
    tracks = match_tracks(images[0], db, settings)
    for image, (rows, columns) in enumerate(shifts):
        expected = np.asarray(tracks.query_cells) - np.array([columns, rows]) / 8
        inside = ((expected >= 1) & (expected <= 10)).all(axis=1)
        off = np.linalg.norm(np.asarray(tracks.db_cells)[image] - expected, axis=1)
        assert inside.sum() >= 10
        assert np.mean(off[inside] < 0.5) > 0.9


@pytest.mark.parametrize("stride", [1, 2])
def test_similarity_is_the_mean_coarse_confidence(rng, stride):
    query, db = random_descriptors(rng, 1, 6, 6), random_descriptors(rng, 3, 6, 6)
    found = cell_tracks.similarity(query, db, SETTINGS, stride=stride)
    for image in range(3):
        coarse = coarse_to_fine.coarse_grid_of(query)[0][::stride, ::stride]
        _, confidence = coarse_to_fine.coarse_matches(
            coarse,
            coarse_to_fine.coarse_grid_of(select(db, slice(image, image + 1)))[0],
            SETTINGS.coarse_temperature,
        )
        np.testing.assert_allclose(found[image], np.mean(confidence), rtol=1e-5)

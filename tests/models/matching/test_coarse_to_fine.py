"""Matches against a loop over cells in NumPy, and on planted shifts and homographies."""

import cv2
import jax
import numpy as np
import pytest

from jaxreloc.models.matching import coarse_to_fine, descriptors, rays
from jaxreloc.models.matching.coarse_to_fine import MatchSettings
from jaxreloc.models.matching.descriptors import CellDescriptors
from tests.models.matching.planted import described_texture, random_descriptors, smooth_texture

match = jax.jit(coarse_to_fine.match, static_argnums=2)
quantise, restore = jax.jit(descriptors.quantise), jax.jit(descriptors.restore)
coarse_grid, fine_grid = jax.jit(descriptors.coarse_grid), jax.jit(descriptors.fine_grid)

SETTINGS = MatchSettings(
    coarse_temperature=7.0, fine_temperature=5.0, candidates=9, window=6, max_matches=36
)


def reference_matches(query, db, settings: MatchSettings) -> dict[tuple, tuple]:
    """From query cell (column, row) to (column, row, mass, reverse, confidence)."""
    query_coarse, db_coarse = (np.asarray(coarse_grid(x))[0] for x in (query, db))
    query_fine, db_fine = (np.asarray(fine_grid(x))[0] for x in (query, db))
    chosen = _reference_candidates(query_coarse, db_coarse, settings)
    height, width, _ = db_fine.shape
    likelihoods, rivals = {}, np.zeros((height, width))
    for (row, column), (db_row, db_column), confidence in chosen:
        top = min(max(2 * db_row + 1 - settings.window // 2, 0), height - settings.window)
        left = min(max(2 * db_column + 1 - settings.window // 2, 0), width - settings.window)
        window = slice(top, top + settings.window), slice(left, left + settings.window)
        for cell in ((2 * row + i, 2 * column + j) for i in (0, 1) for j in (0, 1)):
            cosine = db_fine[window] @ query_fine[cell]
            full = np.zeros((height, width))
            full[window] = np.exp(settings.fine_temperature * (cosine - 1))
            likelihoods[cell] = full, confidence
            rivals += full
    found = {}
    for (row, column), (likelihood, confidence) in likelihoods.items():
        best = np.unravel_index(likelihood.argmax(), likelihood.shape)
        rows, columns = np.mgrid[:height, :width]
        near = (abs(rows - best[0]) <= 2) & (abs(columns - best[1]) <= 2)
        weight = likelihood * near / (likelihood * near).sum()
        mass = (likelihood * near).sum() / likelihood.sum()
        reverse = likelihood[best] / rivals[best]
        found[column, row] = (
            (weight * columns).sum(),
            (weight * rows).sum(),
            mass,
            reverse,
            confidence * mass * reverse,
        )
    return found


def _reference_candidates(query, db, settings):
    (height, width, _), candidates = query.shape, []
    likelihood = np.exp(settings.coarse_temperature * (np.einsum("abc,ijc->abij", query, db) - 1))
    for row in range(height):
        for column in range(width):
            forward = likelihood[row, column] / likelihood[row, column].sum()
            best = np.unravel_index(forward.argmax(), forward.shape)
            near = forward[max(best[0] - 1, 0) : best[0] + 2, max(best[1] - 1, 0) : best[1] + 2]
            backward = likelihood[row, column][best] / likelihood[(..., *best)].sum()
            candidates.append(((row, column), best, near.sum() * backward))
    return sorted(candidates, key=lambda x: -x[2])[: settings.candidates]


def test_equals_a_loop_over_cells(rng):
    query = random_descriptors(rng, 1, 4, 6)
    db = random_descriptors(rng, 1, 5, 4)
    matches = jax.tree.map(lambda x: np.asarray(x)[0], match(query, db, SETTINGS))
    expected = reference_matches(query, db, SETTINGS)
    assert len(matches.confidence) == len(expected) == 36
    assert (np.diff(matches.confidence) <= 0).all()
    for k, cell in enumerate(matches.query_cells.astype(int)):
        found = (*matches.db_cells[k], matches.mass[k], matches.reverse[k], matches.confidence[k])
        np.testing.assert_allclose(found, expected[tuple(cell)], rtol=2e-4, atol=1e-5)


def test_pairs_of_a_batch_are_matched_one_by_one(rng):
    query, db = random_descriptors(rng, 3, 4, 6), random_descriptors(rng, 3, 5, 4)
    together = jax.device_get(match(query, db, SETTINGS))
    for b in range(3):
        one = jax.tree.map(lambda x, b=b: np.asarray(x)[b : b + 1], (query, db))
        alone = jax.device_get(match(*one, SETTINGS))
        np.testing.assert_allclose(together.db_cells[b], alone.db_cells[0], atol=1e-4)
        np.testing.assert_allclose(together.confidence[b], alone.confidence[0], rtol=1e-4)


def test_quantised_descriptors_need_not_be_restored(rng):
    both = random_descriptors(rng, 3, 4, 6), random_descriptors(rng, 3, 5, 4)
    query, db = map(quantise, both)
    found = match(query, db, SETTINGS)
    expected = match(restore(query), restore(db), SETTINGS)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, expected)


@pytest.mark.parametrize("shift", [(0, 0), (2, 0), (-1, 3)])
def test_finds_a_shift_of_coarse_cells(rng, shift):
    """What moves by whole coarse cells is found exactly, wherever it stays in sight."""
    down, right = shift
    db = random_descriptors(rng, 1, 12, 14)
    query = CellDescriptors(
        detail=np.roll(db.detail, (4 * down, 4 * right), (1, 2)),
        fine=np.roll(db.fine, (2 * down, 2 * right), (1, 2)),
        coarse=np.roll(db.coarse, (down, right), (1, 2)),
    )
    settings = MatchSettings(coarse_temperature=60, fine_temperature=60, candidates=168)
    matches = match(query, db, settings)
    moved = np.asarray(matches.query_cells)[0] - np.asarray(matches.db_cells)[0]
    size = 2 * np.array([14, 12])
    wrapped = np.asarray(matches.query_cells)[0] - 2 * np.array([right, down])
    seen = ((wrapped >= 2) & (wrapped < size - 2)).all(axis=1)
    assert seen.sum() > 200
    np.testing.assert_allclose(
        moved[seen], np.tile([2 * right, 2 * down], (seen.sum(), 1)), atol=0.05
    )


def test_follows_a_homography(rng):
    """Cells of a warped random texture match where the homography takes them."""
    texture = smooth_texture(rng, 384, 512)
    angle, scale = np.deg2rad(rng.uniform(-6, 6)), rng.uniform(0.9, 1.1)
    homography = np.array(
        [
            [scale * np.cos(angle), -scale * np.sin(angle), rng.uniform(-20, 40)],
            [scale * np.sin(angle), scale * np.cos(angle), rng.uniform(-20, 20)],
            [1e-4, -1e-4, 1.0],
        ]
    )
    planes = [
        cv2.warpPerspective(plane, homography, (512, 384), flags=cv2.INTER_LINEAR)
        for plane in np.moveaxis(texture, -1, 0)
    ]
    db, query = described_texture(np.stack(planes, -1) + 1e-6), described_texture(texture)
    matches = match(query, db, MatchSettings())
    pixels = np.asarray(rays.cell_pixels(matches.query_cells, 8))[0]
    expected = cv2.perspectiveTransform(pixels[None].astype(np.float64), homography)[0]
    found = np.asarray(rays.cell_pixels(matches.db_cells, 8))[0]
    error_px = np.linalg.norm(found - expected, axis=1)
    assert len(error_px) == 600
    assert np.median(error_px) < 3.0
    assert np.mean(error_px < 8.0) > 0.95


def test_featureless_cells_are_never_confident(rng):
    """Cells without a descriptor (all zeros, as padding has) do not displace true matches."""
    db = random_descriptors(rng, 1, 8, 8)
    blank = np.ones((1, 8, 8, 1), np.float32)
    blank[:, :, :3] = 0
    query = CellDescriptors(
        detail=db.detail,
        fine=db.fine * np.repeat(np.repeat(blank, 2, 1), 2, 2),
        coarse=db.coarse * blank,
    )
    matches = match(query, db, MatchSettings(candidates=64, max_matches=4 * 64))
    in_blank = np.asarray(matches.query_cells)[0, :, 0] < 6
    confidence = np.asarray(matches.confidence)[0]
    assert np.isfinite(confidence).all()
    assert confidence[in_blank].max() < 0.1 * np.median(confidence[~in_blank])

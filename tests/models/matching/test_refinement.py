"""Refined matches: a loop in NumPy, and planted sub-cell displacements."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from jaxreloc.models.matching import coarse_to_fine, descriptors, rays, refinement
from jaxreloc.models.matching.coarse_to_fine import CellMatches, MatchSettings
from jaxreloc.models.matching.descriptors import CellDescriptors
from tests.models.matching.planted import described_texture, smooth_texture, unit

refine = jax.jit(refinement.refine)
match = jax.jit(coarse_to_fine.match, static_argnums=2)


def cell_matches(query_cells, db_cells) -> CellMatches:
    ones = jnp.ones((1, len(query_cells)))
    cells = (jnp.asarray(x, jnp.float32)[None] for x in (query_cells, db_cells))
    return CellMatches(*cells, ones, ones, ones)


def cell_or_zero(grid, row, column):
    inside = 0 <= row < grid.shape[0] and 0 <= column < grid.shape[1]
    return grid[row, column] if inside else np.zeros(grid.shape[2])


def test_equals_a_loop_over_displacements(rng):
    query, db = unit(rng.normal(size=(14, 18, 6))), unit(rng.normal(size=(16, 12, 6)))
    query_cells = np.stack([rng.integers(0, 9, 25), rng.integers(0, 7, 25)], axis=-1)
    db_cells = np.stack([rng.uniform(0, 5, 25), rng.uniform(0, 7, 25)], axis=-1)
    matches = cell_matches(query_cells, db_cells)
    found = refine(matches, *(jnp.asarray(x, jnp.float32)[None] for x in (query, db)))
    for k in range(25):
        (column, row), (db_column, db_row) = (
            2 * query_cells[k],
            np.rint(2 * db_cells[k]).astype(int),
        )
        scores = np.zeros((5, 5))
        for down in range(-2, 3):
            for right in range(-2, 3):
                cosines = [
                    cell_or_zero(query, row + i, column + j)
                    @ cell_or_zero(db, db_row + down + i, db_column + right + j)
                    for i in range(-1, 3)
                    for j in range(-1, 3)
                ]
                scores[down + 2, right + 2] = np.mean(cosines)
        best = np.unravel_index(scores.argmax(), scores.shape)
        near = [
            (i, j)
            for i in range(5)
            for j in range(5)
            if max(abs(i - best[0]), abs(j - best[1])) <= 1
        ]
        weights = [np.exp(refinement.TEMPERATURE * scores[cell]) for cell in near]
        displaced = [[db_column + j - 2, db_row + i - 2] for i, j in near]
        expected = np.average(displaced, axis=0, weights=weights) / 2
        np.testing.assert_allclose(found.db_cells[0, k], expected, atol=1e-4)
    np.testing.assert_array_equal(found.query_cells, matches.query_cells)


def test_recovers_a_displacement_of_detail_cells(rng):
    """A match that is off by up to a fine cell is put right."""
    grid = unit(rng.normal(size=(40, 48, 8)))
    query_cells = np.stack([rng.integers(3, 21, 30), rng.integers(3, 17, 30)], axis=-1)
    off = rng.integers(-2, 3, (30, 2)) / 2
    matches = cell_matches(query_cells, query_cells + off)
    grid = jnp.asarray(grid, jnp.float32)[None]
    found = refine(matches, grid, grid)
    np.testing.assert_allclose(found.db_cells[0], query_cells, atol=0.02)


def test_quantised_grids_need_not_be_restored(rng):
    grid = jnp.asarray(unit(rng.normal(size=(1, 40, 48, 8))), jnp.float32)
    grids = CellDescriptors(*[grid] * 3)
    quantised = descriptors.quantise(grids).detail
    restored = descriptors.restore(descriptors.quantise(grids)).detail
    cells = np.stack([rng.integers(3, 21, 30), rng.integers(3, 17, 30)], axis=-1)
    matches = cell_matches(cells, cells)
    found, expected = (refine(matches, x, x).db_cells for x in (quantised, restored))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_halves_the_error_under_a_homography(rng):
    texture = smooth_texture(rng, 384, 512)
    angle = np.deg2rad(rng.uniform(-4, 4))
    homography = np.array(
        [
            [np.cos(angle), -np.sin(angle), rng.uniform(-10, 20)],
            [np.sin(angle), np.cos(angle), rng.uniform(-10, 10)],
            [5e-5, -5e-5, 1.0],
        ]
    )
    planes = [
        cv2.warpPerspective(plane, homography, (512, 384), flags=cv2.INTER_LINEAR)
        for plane in np.moveaxis(texture, -1, 0)
    ]
    db, query = described_texture(np.stack(planes, -1) + 1e-6), described_texture(texture)
    coarse_to_fine = match(query, db, MatchSettings())
    refined = refine(coarse_to_fine, query.detail, db.detail)
    pixels = np.asarray(rays.cell_pixels(refined.query_cells, 8))[0].astype(np.float64)
    expected = cv2.perspectiveTransform(pixels[None], homography)[0]

    def median_error_px(matches):
        found = np.asarray(rays.cell_pixels(matches.db_cells, 8))[0]
        return np.median(np.linalg.norm(found - expected, axis=1))

    assert median_error_px(refined) < 0.6
    assert median_error_px(refined) < 0.5 * median_error_px(coarse_to_fine)

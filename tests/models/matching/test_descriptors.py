"""Descriptors of cells: normalisation, and the two grids against interpolation by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxreloc.models.matching import descriptors
from tests.models.matching.planted import random_descriptors

fine_grid, coarse_grid, quantise, restore, upsample = map(
    jax.jit,
    (
        descriptors.fine_grid,
        descriptors.coarse_grid,
        descriptors.quantise,
        descriptors.restore,
        descriptors.upsample,
    ),
)


def test_grids_are_unit_vectors_of_both_maps(rng):
    both = random_descriptors(rng, 2, 3, 4)
    for grid in (fine_grid(both), coarse_grid(both)):
        np.testing.assert_allclose(np.linalg.norm(grid, axis=-1), 1, rtol=1e-5)
    fine = both.fine.shape[-1]
    own = np.asarray(fine_grid(both))[..., :fine]
    coarse_part = np.asarray(fine_grid(both))[..., fine:]
    ratio = np.linalg.norm(own, axis=-1) / np.linalg.norm(coarse_part, axis=-1)
    np.testing.assert_allclose(ratio, descriptors.FINE_WEIGHT, rtol=1e-4)


def test_upsampling_reproduces_a_linear_field():
    """A field linear in the pixel keeps its values at the centres of the fine cells."""
    rows, columns = np.mgrid[:5, :6]
    field = (2.0 * (16 * rows + 7.5) - 0.5 * (16 * columns + 7.5))[None, ..., None]
    fine_rows, fine_columns = np.mgrid[:10, :12]
    expected = 2.0 * (8 * fine_rows + 3.5) - 0.5 * (8 * fine_columns + 3.5)
    upsampled = np.asarray(upsample(jnp.asarray(field, jnp.float32)))[0, ..., 0]
    np.testing.assert_allclose(upsampled[1:-1, 1:-1], expected[1:-1, 1:-1], atol=1e-4)


def test_coarse_grid_averages_four_fine_cells(rng):
    both = random_descriptors(rng, 1, 2, 2)
    fine = np.asarray(both.fine)[0]
    mean = (fine[2, 0] + fine[2, 1] + fine[3, 0] + fine[3, 1]) / 4
    mean *= descriptors.FINE_WEIGHT / np.linalg.norm(mean)
    expected = np.concatenate([mean, np.asarray(both.coarse)[0, 1, 0]])
    expected /= np.linalg.norm(expected)
    np.testing.assert_allclose(coarse_grid(both)[0, 1, 0], expected, atol=1e-6)


def test_quantised_descriptors_keep_their_direction(rng):
    both = random_descriptors(rng, 2, 3, 4)
    stored = quantise(both)
    restored = restore(stored)
    for kept, before, after in zip(*(jax.tree.leaves(x) for x in (stored, both, restored))):
        assert kept.dtype == jnp.int8
        np.testing.assert_allclose(np.linalg.norm(after, axis=-1), 1, rtol=1e-5)
        uncut = np.abs(before).max(axis=-1) < 0.49
        assert uncut.any()
        assert np.sum(before * after, axis=-1)[uncut].min() > 0.9998


def test_empty_cells_stay_empty(rng):
    empty = jax.tree.map(jnp.zeros_like, random_descriptors(rng, 1, 1, 1))
    restored = restore(quantise(empty))
    assert all(np.all(x == 0) for x in jax.tree.leaves(restored))

"""Grids in few bits: against the Hadamard matrix, and the distortions that the literature knows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import hadamard

from jaxreloc.models.kernels import packing
from jaxreloc.models.kernels.packing import BlockBits

pack, unpack = jax.jit(packing.pack, static_argnums=1), jax.jit(packing.unpack)

# Of the mean square error of a normal distribution to its variance, by bits (Max, 1960).
DISTORTION = {1: 0.3634, 2: 0.1188, 3: 0.03744, 4: 0.01154}


def block_parts(grid: np.ndarray) -> np.ndarray:
    """[4, B, h, w, C]: the sums, rows, columns, crossed of the blocks, by a matrix."""
    cells = np.stack([grid[:, i::2, j::2] for i in (0, 1) for j in (0, 1)])
    order = [0, 2, 1, 3]  # Sylvester's matrix has the columns before the rows
    return np.einsum("pc,cbhwe->pbhwe", hadamard(4)[order] / 2, cells)


def round_trip(grid: np.ndarray, bits: BlockBits) -> np.ndarray:
    return np.asarray(unpack(pack(jnp.asarray(grid, jnp.float32), bits)), np.float64)


@pytest.mark.parametrize("bits", [(4, 2, 2, 0), (2, 1, 1, 0), (3, 3, 0, 2)])
@pytest.mark.parametrize("channels", [1, 7, 16])
def test_parts_are_off_by_half_a_step_at_most(rng, bits, channels):
    grid = rng.normal(rng.normal(size=channels), 0.2, (2, 6, 10, channels))
    before = block_parts(grid - grid.mean(axis=(1, 2), keepdims=True))
    after = round_trip(grid, BlockBits(*bits)) - grid.mean(axis=(1, 2), keepdims=True)
    rounding = 2 * 0.5 / packing.LARGEST * 2 * np.abs(grid).max()  # a part sums four halves
    for k, number in enumerate(bits):
        x, y = before[k], block_parts(after)[k]
        if not number:
            np.testing.assert_allclose(y, 0, atol=3e-3 + rounding)
            continue
        step = packing.STEPS[number] * np.sqrt(np.mean(x**2, axis=(1, 2), keepdims=True))
        inside = np.abs(x) < 2 ** (number - 1) * step
        assert inside.mean() > 0.5
        # Means and deviations are kept in half precision, and the cells are rounded to levels.
        assert (np.abs(x - y) < 0.501 * step + 5e-3 + rounding)[inside].all()
        outermost = np.broadcast_to((2 ** (number - 1) - 0.5) * step, x.shape)
        np.testing.assert_allclose(np.abs(y)[~inside], outermost[~inside], atol=5e-3 + rounding)


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_a_normal_distribution_loses_what_is_known(rng, bits):
    grid = rng.normal(0.1, 0.3, (1, 128, 128, 16))
    others = {1: (1, 1, 1), 2: (2, 0, 0), 3: (3, 1, 1), 4: (2, 2, 0)}[bits]
    off = block_parts(round_trip(grid, BlockBits(bits, *others)) - grid)[0]
    assert np.mean(off**2) / 0.3**2 == pytest.approx(DISTORTION[bits], rel=0.05)


def test_empty_cells_stay_empty(rng):
    grid = rng.normal(size=(3, 8, 14, 5))
    is_empty = rng.random(grid.shape[:3]) < 0.4
    is_empty[1] = True
    grid[is_empty] = 0
    found = round_trip(grid, BlockBits(3, 2, 2, 1))
    np.testing.assert_array_equal(found[is_empty], 0)
    assert np.isfinite(found).all() and found[~is_empty].any(axis=-1).all()


def test_images_are_packed_by_themselves_in_the_bytes_that_are_told(rng):
    grid = rng.normal(size=(3, 6, 6, 11)).astype(np.float32)
    bits = BlockBits(2, 1, 1, 0)
    together = pack(grid, bits)
    for i in range(3):
        alone = pack(grid[i : i + 1], bits)
        jax.tree.map(lambda x, y: np.testing.assert_array_equal(x[i], y[0]), together, alone)
    assert together.codes.shape == (3, 2, 3, 11) and together.codes.dtype == np.uint8


def test_like_cells_lose_nothing():
    """A channel without any deviation is its mean."""
    grid = np.full((1, 4, 4, 3), 0.25)
    np.testing.assert_allclose(round_trip(grid, BlockBits(4, 2, 2, 0)), grid, rtol=1e-5)


def test_odd_sides_are_refused():
    with pytest.raises(ValueError, match="4 x 5 cells"):
        packing.pack(jnp.zeros((1, 4, 5, 2)), BlockBits(4, 2, 2, 0))


def test_bits_that_do_not_fill_bytes_are_refused():
    with pytest.raises(ValueError, match="8, 4, 2 or 1"):
        packing.pack(jnp.zeros((1, 4, 4, 2)), BlockBits(4, 1, 1, 0))

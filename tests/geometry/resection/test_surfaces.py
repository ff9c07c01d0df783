import jax.numpy as jnp
import numpy as np

from jaxreloc.geometry.resection.surfaces import RIDGE, inverse_depth_slopes

GRID = (9, 12)


def grid_cells():
    rows, columns = np.indices(GRID)
    return np.stack([columns.ravel(), rows.ravel()], axis=-1)


def slopes(inverse_depth, known, cells):
    return np.asarray(
        inverse_depth_slopes(
            jnp.asarray(inverse_depth, jnp.float32), jnp.asarray(known), jnp.asarray(cells), GRID
        )
    )


def is_inside(cells):
    return np.all((cells >= 2) & (cells < np.array(GRID[::-1]) - 2), axis=-1)


def test_of_a_plane_they_are_its_gradient(rng):
    """Up to the ridge: of 25 cells the squared distances add up to 50 along each axis."""
    cells = grid_cells()
    gradient = rng.uniform(-0.01, 0.01, 2)
    plane = 1.0 + cells @ gradient
    found = slopes(plane, np.ones(len(cells), bool), cells)
    expected = np.broadcast_to(gradient * 50 / (50 + RIDGE), found[is_inside(cells)].shape)
    np.testing.assert_allclose(found[is_inside(cells)], expected, atol=1e-5)


def test_what_lies_at_another_depth_is_another_surface(rng):
    cells = grid_cells()
    step = np.where(cells[:, 0] < 6, 1.0, 2.0)
    found = slopes(step, np.ones(len(cells), bool), cells)
    np.testing.assert_allclose(found, 0, atol=1e-6)


def test_the_order_of_cells_does_not_matter_and_unknown_ones_have_none(rng):
    cells = grid_cells()
    values = rng.uniform(0.95, 1.05, len(cells))
    known = rng.uniform(size=len(cells)) < 0.7
    order = rng.permutation(len(cells))
    found = slopes(values, known, cells)
    np.testing.assert_allclose(slopes(values[order], known[order], cells[order]), found[order])
    np.testing.assert_array_equal(found[~known], 0)
    values[~known] = np.nan
    np.testing.assert_allclose(slopes(values, known, cells), found)


def test_a_lone_cell_has_none():
    found = slopes(np.ones(2), np.array([True, True]), np.array([[3, 3], [4, 3]]))
    np.testing.assert_array_equal(found, 0)

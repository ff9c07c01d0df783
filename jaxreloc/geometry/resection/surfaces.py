"""The slope of what a camera sees, from the depths of a grid of its cells.

The inverse depth of a plane is an affine function of image coordinates: n . x z = d gives
1 / z = n . (x, y, 1) / d. So around each cell an affine function is fitted.
"""

import itertools

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

REACH = 2  # cells to each side that are of a cell's surface,
LARGEST_DIFFERENCE = 0.2  # if their inverse depth differs by less than this share
FEWEST = 5
RIDGE = 5.0  # square cells; draws slopes to 0, that of a surface facing the camera


def inverse_depth_slopes(
    inverse_depth: Float[Array, "K"],
    known: Bool[Array, "K"],
    cells: Int[Array, "K 2"],
    grid: tuple[int, int],
) -> Float[Array, "K 2"]:
    """How much the inverse depth grows from cell to cell, along x and y; 0 where too few tell.

    Args:
      known: which depths are.
      cells: column and row of each.
      grid: rows and columns.
    """
    rows, columns = (side + 2 * REACH for side in grid)
    place = (cells[:, 1] + REACH) * columns + cells[:, 0] + REACH
    values = jnp.zeros(rows * columns).at[place].set(jnp.where(known, inverse_depth, 0.0))
    sums = [jnp.zeros(len(place)) for _ in range(6)]
    for dx, dy in itertools.product(range(-REACH, REACH + 1), repeat=2):
        other = values[place + dy * columns + dx]
        difference = other - inverse_depth
        near = (other > 0) & (jnp.abs(difference) < LARGEST_DIFFERENCE * inverse_depth)
        terms = (1.0, dx * dx, dx * dy, dy * dy, dx * difference, dy * difference)
        sums = [total + jnp.where(near, term, 0.0) for total, term in zip(sums, terms, strict=True)]
    count, xx, xy, yy, right_x, right_y = sums
    xx, yy = xx + RIDGE, yy + RIDGE
    determinant = xx * yy - xy * xy
    slopes = jnp.stack([yy * right_x - xy * right_y, xx * right_y - xy * right_x], axis=-1)
    enough = known & (count >= FEWEST)
    return jnp.where(enough[:, None], slopes / determinant[:, None], 0.0)

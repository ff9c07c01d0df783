"""Squares of cells around many places, and how pairs of images are gone through."""

from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Array, Float, Int, PyTree


def cell_patches(
    grid: Float[Array, "h w C"], corners: Int[Array, "M 2"], size: int
) -> Float[Array, "M {size}*{size} C"]:
    """The squares of `size` x `size` cells at `corners` (row, column), inside the grid, by rows."""
    height, width, channels = grid.shape
    rows, columns = np.divmod(np.arange(size * size), size)
    index = (corners[:, :1] + rows[None]) * width + corners[:, 1:] + columns[None]
    return grid.reshape(height * width, channels)[index]


def of_one(function: Callable[[PyTree], PyTree], image: PyTree) -> PyTree:
    """`function`, which takes B images, of one without the axis of images."""
    return jax.tree.map(lambda x: x[0], function(jax.tree.map(lambda x: x[None], image)))


def over_pairs(function: Callable, query: PyTree, db: PyTree) -> PyTree:
    """`function(query, db)` for each of the B pairs, results with the leading axis B.

    A query whose leading axis is 1 is shared by all pairs. CPUs take one pair after the other,
    which keeps it in the cache and leaves small matrix products their fast shape; other devices
    take all at once.
    """
    shared = jax.tree.leaves(query)[0].shape[0] == 1
    if shared:
        only = jax.tree.map(lambda x: x[0], query)
        one, arguments = (lambda pair: function(only, pair)), db
    else:
        one, arguments = (lambda pair: function(*pair)), (query, db)
    if jax.default_backend() == "cpu":
        return jax.lax.map(one, arguments)
    return jax.vmap(one)(arguments)

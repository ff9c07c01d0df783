"""Matches made more precise by correlating patches of the most detailed grid around them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxreloc.models.matching.correlation import CellMatches
from jaxreloc.models.matching.patches import cell_patches, over_pairs

# In cells of the detail grid, two of which are a fine cell.
PATCH = 4  # side of the patches that are compared
RADIUS = 2  # largest displacement
TEMPERATURE = 20.0
SEARCHED = PATCH + 2 * RADIUS
DISPLACEMENTS = tuple(
    (down, right) for down in range(-RADIUS, RADIUS + 1) for right in range(-RADIUS, RADIUS + 1)
)


def refine(
    matches: CellMatches, query: Float[Array, "B H W E"], db: Float[Array, "B H2 W2 E"]
) -> CellMatches:
    """The matches of B pairs with their `db_cells` displaced by up to a fine cell.

    With s(d) the mean cosine of the patch around the query's cell and the patch displaced by d from
    the match so far, the displacement is the mean with weights `exp(TEMPERATURE s(d))` of the best
    d and its eight neighbours.
    Cells outside the grids are no evidence for anything: their cosine is 0.

    Args:
      query, db: unit vectors of the cells of the detail grids; one query's may be given for all.
    """
    refined = over_pairs(
        lambda query, pair: _refine_pair(pair[0], query, pair[1]), query, (matches, db)
    )
    return matches.replace(db_cells=refined)


def _refine_pair(matches: CellMatches, query: Array, db: Array) -> Float[Array, "K 2"]:
    margin = PATCH // 2 - 1  # of the patch beyond the two cells that a fine cell is wide
    query_rows_columns = 2 * matches.query_cells[:, ::-1].astype(jnp.int32)
    start = jnp.round(2 * matches.db_cells[:, ::-1]).astype(jnp.int32)
    query_patches = _patches(query, query_rows_columns, margin, PATCH)
    db_patches = _patches(db, start, margin + RADIUS, SEARCHED)
    cosines = jnp.einsum("kae,kbe->kab", query_patches, db_patches)
    scores = cosines.reshape(len(start), -1) @ _mean_by_displacement()
    displacements = jnp.array(DISPLACEMENTS)
    best = displacements[jnp.argmax(scores, axis=-1)]
    is_near = jnp.all(jnp.abs(displacements[None] - best[:, None]) <= 1, axis=-1)
    weights = jax.nn.softmax(TEMPERATURE * scores, axis=-1, where=is_near)
    found = start + weights @ displacements.astype(jnp.float32)
    return found[:, ::-1] / 2


@functools.cache
def _mean_by_displacement() -> Float[np.ndarray, "PATCH^2*SEARCHED^2 D"]:
    """The matrix from the cosines of all cells of two patches to their mean a displacement."""
    mean = np.zeros((PATCH, PATCH, SEARCHED, SEARCHED, len(DISPLACEMENTS)), np.float32)
    for k, (down, right) in enumerate(DISPLACEMENTS):
        for row in range(PATCH):
            for column in range(PATCH):
                mean[row, column, row + down + RADIUS, column + right + RADIUS, k] = 1 / PATCH**2
    return mean.reshape(-1, len(DISPLACEMENTS))


def _patches(
    grid: Float[Array, "H W E"], start: Int[Array, "K 2"], margin: int, size: int
) -> Float[Array, "K size*size E"]:
    """Squares whose first cell lies `margin` rows and columns before `start`; zeros outside."""
    padded = jnp.pad(grid, ((margin, size), (margin, size), (0, 0)))
    return cell_patches(padded, start, size)

"""Matches made more precise by correlating patches of the most detailed grid around them."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxreloc.models.matching.correlation import CellMatches

# In cells of the detail grid, two of which are a fine cell.
PATCH = 4  # side of the patches that are compared
RADIUS = 2  # largest displacement
TEMPERATURE = 20.0


def refine(
    matches: CellMatches, query: Float[Array, "B H W E"], db: Float[Array, "B H2 W2 E"]
) -> CellMatches:
    """The matches of B pairs with their `db_cells` displaced by up to a fine cell.

    With s(d) the mean cosine of the patch around the query's cell and the patch displaced by d from
    the match so far, the displacement is the mean with weights `exp(TEMPERATURE s(d))` of the best
    d and its eight neighbours.
    Cells outside the grids are no evidence for anything: their cosine is 0.

    Args:
      query, db: unit vectors of the cells of the detail grids.
    """
    return matches.replace(db_cells=jax.vmap(_refine_pair)(matches, query, db))


def _refine_pair(matches: CellMatches, query: Array, db: Array) -> Float[Array, "K 2"]:
    margin = PATCH // 2 - 1  # of the patch beyond the two cells that a fine cell is wide
    query_rows_columns = 2 * matches.query_cells[:, ::-1].astype(jnp.int32)
    start = jnp.round(2 * matches.db_cells[:, ::-1]).astype(jnp.int32)
    query_patches = _patches(query, query_rows_columns, margin, PATCH)
    db_patches = _patches(db, start, margin + RADIUS, PATCH + 2 * RADIUS)
    displacements = [(i, j) for i in range(2 * RADIUS + 1) for j in range(2 * RADIUS + 1)]
    scores = [
        jnp.sum(query_patches * db_patches[:, i : i + PATCH, j : j + PATCH], axis=(1, 2, 3))
        for i, j in displacements
    ]
    scores = jnp.stack(scores, axis=-1) / PATCH**2
    displacements = jnp.array(displacements) - RADIUS
    best = displacements[jnp.argmax(scores, axis=-1)]
    is_near = jnp.all(jnp.abs(displacements[None] - best[:, None]) <= 1, axis=-1)
    weights = jax.nn.softmax(TEMPERATURE * scores, axis=-1, where=is_near)
    found = start + weights @ displacements.astype(jnp.float32)
    return found[:, ::-1] / 2


def _patches(
    grid: Float[Array, "H W E"], start: Int[Array, "K 2"], margin: int, size: int
) -> Float[Array, "K size size E"]:
    """Squares whose first cell lies `margin` rows and columns before `start`; zeros outside."""
    padded = jnp.pad(grid, ((margin, size), (margin, size), (0, 0)))
    shape = (size, size, grid.shape[-1])
    return jax.vmap(lambda at: jax.lax.dynamic_slice(padded, (at[0], at[1], 0), shape))(start)

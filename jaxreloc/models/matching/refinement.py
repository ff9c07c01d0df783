"""Matches made more precise by correlating patches of the most detailed grid around them."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxreloc.models.matching.correlation import CellMatches

# In cells of the detail grid, two of which are a fine cell.
PATCH = 4  # side of the patches that are compared
RADIUS = 2  # largest displacement
TEMPERATURE = 40.0


def refine(
    matches: CellMatches, query: Float[Array, "B H W E"], db: Float[Array, "B H2 W2 E"]
) -> CellMatches:
    """The matches of B pairs with their `db_cells` displaced by up to a fine cell.

    With s(d) the mean cosine of the patch around the query's cell and the patch displaced by d from
    the match so far, the displacement is the mean of d with the weights `exp(TEMPERATURE s(d))`.
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
    steps = range(2 * RADIUS + 1)
    scores = jnp.stack(
        [
            jnp.sum(query_patches * db_patches[:, i : i + PATCH, j : j + PATCH], axis=(1, 2, 3))
            for i in steps
            for j in steps
        ],
        axis=-1,
    )
    weights = jax.nn.softmax(TEMPERATURE * scores / PATCH**2, axis=-1)
    displacements = jnp.array([(i - RADIUS, j - RADIUS) for i in steps for j in steps], jnp.float32)
    found = start + jnp.einsum("kd,dx->kx", weights, displacements)
    return found[:, ::-1] / 2


def _patches(
    grid: Float[Array, "H W E"], start: Int[Array, "K 2"], margin: int, size: int
) -> Float[Array, "K size size E"]:
    """Squares whose first cell lies `margin` rows and columns before `start`; zeros outside."""
    padded = jnp.pad(grid, ((margin, size), (margin, size), (0, 0)))
    shape = (size, size, grid.shape[-1])
    return jax.vmap(lambda at: jax.lax.dynamic_slice(padded, (at[0], at[1], 0), shape))(start)

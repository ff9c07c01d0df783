"""Matches made more precise by correlating patches of the most detailed grid around them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from jaxreloc.models.kernels.packing import PackedGrid
from jaxreloc.models.matching.coarse_to_fine import CellMatches
from jaxreloc.models.matching.descriptors import unit_vectors
from jaxreloc.models.matching.patches import cell_patches, of_one, over_pairs

# In cells of the detail grid, two of which are a fine cell.
RADIUS = 2  # largest displacement
TEMPERATURE = 20.0
DISPLACEMENTS = tuple(
    (down, right) for down in range(-RADIUS, RADIUS + 1) for right in range(-RADIUS, RADIUS + 1)
)


def refine(
    matches: CellMatches,
    query: Shaped[Array, "#B H W E"] | PackedGrid,
    db: Shaped[Array, "B H2 W2 E"] | PackedGrid,
    patch: int = 4,
) -> CellMatches:
    """The matches of B pairs with their `db_cells` displaced by up to a fine cell.

    With s(d) the mean cosine of the patch around the query's cell and the patch displaced by d from
    the match so far, the displacement is the mean with weights `exp(TEMPERATURE s(d))` of the best
    d and its eight neighbours.
    Cells outside the grids are no evidence for anything: their cosine is 0.

    Args:
      query, db: unit vectors of the cells of the detail grids, or as they are kept; one query's may
        be given for all.
      patch: side of the patches, cells; even.
    """
    refined = over_pairs(
        lambda query, pair: _refine_pair(pair[0], query, of_one(unit_vectors, pair[1]), patch),
        unit_vectors(query),
        (matches, db),
    )
    return matches.replace(db_cells=refined)


def displacement_scores(
    query: Float[Array, "H W E"],
    db: Float[Array, "H2 W2 E"],
    query_cells: Int[Array, "K 2"],
    start: Int[Array, "K 2"],
    patch: int,
) -> Float[Array, "K D"]:
    """The mean cosine of two patches for each of DISPLACEMENTS of the database's.

    Args:
      query_cells, start: row and column in the detail grids of the first of the two cells along
        each axis that the patches are centred on.
    """
    margin = patch // 2 - 1  # of the patch beyond those two cells
    query_patches = _patches(query, query_cells, margin, patch)
    db_patches = _patches(db, start, margin + RADIUS, patch + 2 * RADIUS)
    cosines = jnp.einsum("kae,kbe->kab", query_patches, db_patches)
    return cosines.reshape(len(start), -1) @ _mean_by_displacement(patch)


def _refine_pair(
    matches: CellMatches, query: Array, db: Array, patch: int
) -> Float[Array, "K 2"]:
    query_cells = 2 * matches.query_cells[:, ::-1].astype(jnp.int32)
    start = jnp.round(2 * matches.db_cells[:, ::-1]).astype(jnp.int32)
    scores = displacement_scores(query, db, query_cells, start, patch)
    displacements = jnp.array(DISPLACEMENTS)
    best = displacements[jnp.argmax(scores, axis=-1)]
    is_near = jnp.all(jnp.abs(displacements[None] - best[:, None]) <= 1, axis=-1)
    weights = jax.nn.softmax(TEMPERATURE * scores, axis=-1, where=is_near)
    found = start + weights @ displacements.astype(jnp.float32)
    return found[:, ::-1] / 2


@functools.cache
def _mean_by_displacement(patch: int) -> Float[np.ndarray, "pairs D"]:
    """The matrix from the cosines of all cells of two patches to their mean a displacement."""
    searched = patch + 2 * RADIUS
    mean = np.zeros((patch, patch, searched, searched, len(DISPLACEMENTS)), np.float32)
    for k, (down, right) in enumerate(DISPLACEMENTS):
        for row in range(patch):
            for column in range(patch):
                mean[row, column, row + down + RADIUS, column + right + RADIUS, k] = 1 / patch**2
    return mean.reshape(-1, len(DISPLACEMENTS))


def _patches(
    grid: Float[Array, "H W E"], start: Int[Array, "K 2"], margin: int, size: int
) -> Float[Array, "K {size}*{size} E"]:
    """Squares whose first cell lies `margin` rows and columns before `start`; zeros outside."""
    padded = jnp.pad(grid, ((margin, size), (margin, size), (0, 0)))
    return cell_patches(padded, start, size)

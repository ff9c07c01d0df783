"""The coarse stage of matching by the scores that know both images."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from jaxreloc.models.matching import coarse_to_fine, descriptors
from jaxreloc.models.matching.context.context_matching import (
    CoarseGrid,
    ContextScores,
    by_blocks,
    cell_rays,
)
from jaxreloc.models.matching.descriptors import CellDescriptors
from jaxreloc.models.matching.patches import over_pairs

Scoring = Callable[[CoarseGrid, CoarseGrid], ContextScores]


def coarse_in_context(
    scoring: Scoring,
    query: CellDescriptors,
    db: CellDescriptors,
    query_intrinsics: Float[Array, "#B 3 3"],
    db_intrinsics: Float[Array, "B 3 3"],
) -> tuple[Int[Array, "B n 2"], Float[Array, "B n"]]:
    """What `coarse_to_fine.coarse_matches` gives, of B pairs.

    Args:
      scoring: of the query's and the database's grid.
      query: of one image (leading axis 1) or of B.
    """

    def of_pair(query: CoarseGrid, pair: PyTree) -> tuple[Array, Array]:
        db_grid = coarse_cells(*_with_axis(pair))
        scores = scoring(_with_axis(query), db_grid)
        return best_cells(scores, *db_grid.rays.shape[1:3])

    of_query = coarse_cells(query.coarse, query.fine, query_intrinsics)
    return over_pairs(of_pair, of_query, (db.coarse, db.fine, db_intrinsics))


def coarse_cells(coarse: PyTree, fine: PyTree, intrinsics: Float[Array, "B 3 3"]) -> CoarseGrid:
    """The coarse grids of B images, kept or not, with their cells' rays."""
    cells, fine = (descriptors.unit_vectors(x) for x in (coarse, fine))
    return CoarseGrid(cells, by_blocks(fine), cell_rays(cells.shape[1:3], intrinsics))


def best_cells(
    scores: ContextScores, height: int, width: int
) -> tuple[Int[Array, "n 2"], Float[Array, "n"]]:
    """The best database cell (row, column) of every query cell of one pair, and its confidence.

    That is the forward probability near the best cell times the reverse probability of the two.
    """
    logits, of_query, of_db = scores.logits[0], scores.of_query()[0], scores.of_db()[0]
    best = jnp.argmax(logits, axis=1)
    at_best = jnp.take_along_axis(logits, best[:, None], axis=1)[:, 0]
    cells = coarse_to_fine.cell_places(best, width)
    mass = coarse_to_fine.near_mass(jnp.exp(logits - of_query[:, None]), cells, height, width)
    return cells, mass * jnp.exp(at_best - of_db[best])


def _with_axis(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda x: x[None], tree)

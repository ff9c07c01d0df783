"""The matches of one query with all its neighbours, on one choice of query cells.

Where each pair is matched alone (`coarse_to_fine.match`), every pair keeps the query cells that
suit it. A pose from all matches gains when a cell is matched in many neighbours: then its depth is
known by triangulation. So the cells are chosen by the sum of their confidences over the neighbours,
first the coarse ones that go on, then the fine ones that are kept.
"""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from jaxreloc.models.matching import coarse_to_fine, refinement
from jaxreloc.models.matching.coarse_to_fine import Candidates, MatchSettings
from jaxreloc.models.matching.descriptors import CellDescriptors
from jaxreloc.models.matching.patches import over_pairs


@struct.dataclass
class CellTracks:
    """K query cells, and where each of N database images shows what they show.

    Attributes:
      query_cells: column and row in the query's fine grid.
      db_cells: in the database's fine grids; fractional.
      confidence, mass, reverse: of each match, see `coarse_to_fine.CellMatches`.
    """

    query_cells: Float[Array, "K 2"]
    db_cells: Float[Array, "N K 2"]
    confidence: Float[Array, "N K"]
    mass: Float[Array, "N K"]
    reverse: Float[Array, "N K"]


def similarity(
    query: CellDescriptors,
    db: CellDescriptors,
    settings: MatchSettings = MatchSettings(),
    *,
    stride: int = 2,
) -> Float[Array, "N"]:
    """How much of the query each of N images shows: the mean confidence of its coarse matches.

    It ranks images far better than global descriptors do. Every `stride`-th query cell along each
    axis is matched.
    """
    coarse = coarse_to_fine.coarse_grid_of(query)[:, ::stride, ::stride]
    return over_pairs(
        lambda query, db: jnp.mean(
            coarse_to_fine.coarse_matches(
                query, coarse_to_fine.grids_of_one(db)[0], settings.coarse_temperature
            )[1]
        ),
        coarse,
        db,
    )


def match_tracks(
    query: CellDescriptors,
    db: CellDescriptors,
    settings: MatchSettings = MatchSettings(),
    coarse: tuple[Int[Array, "N n 2"], Float[Array, "N n"]] | None = None,
) -> CellTracks:
    """The `max_matches` query cells that are matched most confidently in all images together.

    Args:
      query: descriptors of one image, leading axis 1, kept or not.
      db: of N images.
      coarse: the coarse matches, as `coarse_to_fine.coarse_matches` gives them; None: by the
        descriptors.
    """
    query_coarse, query_fine = coarse_to_fine.grids(query)
    db_cells, confidence = coarse or over_pairs(
        lambda query, db: coarse_to_fine.coarse_matches(
            query, coarse_to_fine.grids_of_one(db)[0], settings.coarse_temperature
        ),
        query_coarse,
        db,
    )
    chosen = _most_confident(confidence, settings.candidates)
    candidates = Candidates(
        query_cells=jnp.broadcast_to(
            coarse_to_fine.cell_places(chosen, query_coarse.shape[2])[None],
            (len(confidence), len(chosen), 2),
        ),
        db_cells=db_cells[:, chosen],
        confidence=confidence[:, chosen],
    )
    matches = over_pairs(
        lambda query, pair: coarse_to_fine.fine_matches(
            query, coarse_to_fine.grids_of_one(pair[0])[1], pair[1], settings
        ),
        query_fine,
        (db, candidates),
    )
    kept = _most_confident(matches.confidence, settings.max_matches)
    matches = jax.tree.map(lambda x: x[:, kept], matches)
    matches = refinement.refine(matches, query.detail, db.detail, settings.detail_patch)
    return CellTracks(
        query_cells=matches.query_cells[0],
        db_cells=matches.db_cells,
        confidence=matches.confidence,
        mass=matches.mass,
        reverse=matches.reverse,
    )


def _most_confident(confidence: Float[Array, "N K"], count: int) -> Int[Array, "k"]:
    total = jnp.sum(confidence, axis=0)
    return jax.lax.top_k(total, min(count, len(total)))[1]

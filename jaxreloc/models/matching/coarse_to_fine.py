"""Matches of two images by the correlation of their cell descriptors, coarse to fine.

1. Coarse: all pairs of coarse cells. With s the cosine of two descriptors and T a temperature, the
   probabilities of a match are `exp(T s)` normalised over the database's cells (forward) or over
   the query's (reverse). A query cell goes on by its confidence: the forward probability near its
   best database cell times the reverse probability of the two.
2. Fine: the four fine cells of each query cell that goes on are compared with the fine cells in a
   window around the best database cell. The match lies at the expectation over the cells near the
   best one, its `mass` is their share of the window's probability, and its `reverse` the share of
   the query's cell among all that compete for the best database cell.

The cost is bounded: n_q n_d / 256 + 4 * candidates * window^2 products of descriptors for images of
n_q and n_d fine cells, where all pairs of fine cells would take n_q n_d.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from jaxreloc.models.matching import descriptors as descriptors_lib
from jaxreloc.models.matching.descriptors import CellDescriptors
from jaxreloc.models.matching.patches import cell_patches, of_one, over_pairs


@dataclasses.dataclass(frozen=True)
class MatchSettings:
    """How matches are found.

    Attributes:
      coarse_temperature, fine_temperature: T of the two stages.
      candidates: coarse query cells that go on.
      window: side of the square of fine database cells that a candidate is compared with.
      max_matches: the most confident ones are returned.
      detail_patch: side of the patches that they are refined by, cells.
    """

    coarse_temperature: float = 30.0
    fine_temperature: float = 30.0
    candidates: int = 300
    window: int = 6
    max_matches: int = 600
    detail_patch: int = 4


# Cells on each side of the best one that count as the same match.
COARSE_RADIUS = 1
FINE_RADIUS = 2


@struct.dataclass
class CellMatches:
    """K matches of a pair of images, the most confident first.

    Attributes:
      query_cells, db_cells: columns and rows in the fine grids; the database's are fractional.
      confidence: in [0, 1], the product of the next two and of the coarse stage's.
      mass: the share of the window's probability that lies near the match.
      reverse: the share of the query's cell among those that compete for the database's.
    """

    query_cells: Float[Array, "B K 2"]
    db_cells: Float[Array, "B K 2"]
    confidence: Float[Array, "B K"]
    mass: Float[Array, "B K"]
    reverse: Float[Array, "B K"]


def match(
    query: CellDescriptors,
    db: CellDescriptors,
    settings: MatchSettings = MatchSettings(),
    coarse: tuple[Int[Array, "B n 2"], Float[Array, "B n"]] | None = None,
) -> CellMatches:
    """The `max_matches` most confident matches of B pairs, fewer where the grids have no more.

    Args:
      query, db: descriptors of B images, kept or not; one query's (leading axis 1) may be
        given for all.
      coarse: the coarse matches, as `coarse_matches` gives them; None: by the descriptors.
    """
    if coarse is None:
        return over_pairs(
            lambda q, d: _match_pair(*q, *grids_of_one(d), settings), grids(query), db
        )
    query_coarse, query_fine = grids(query)
    width = query_coarse.shape[2]
    return over_pairs(
        lambda q, pair: _most_confident(
            q, grids_of_one(pair[0])[1], _chosen(*pair[1], width, settings), settings
        ),
        query_fine,
        (db, coarse),
    )


def coarse_grid_of(descriptors: CellDescriptors) -> Float[Array, "B h w C"]:
    """Unit vectors of the coarse cells, as they are compared, kept or not."""
    return descriptors_lib.coarse_grid(descriptors_lib.restore(descriptors))


def grids(descriptors: CellDescriptors) -> tuple[Array, Array]:
    """Unit vectors of the coarse and the fine cells, as they are compared."""
    descriptors = descriptors_lib.restore(descriptors)
    return descriptors_lib.coarse_grid(descriptors), descriptors_lib.fine_grid(descriptors)


def grids_of_one(descriptors: CellDescriptors) -> tuple[Array, Array]:
    """`grids` of one image, without the axis of images.

    Made where they are used, they take the memory of one image. Buffers of many megabytes are given
    back to the system after each call and cost more to get again than to fill.
    """
    return of_one(grids, descriptors)


def _match_pair(query_coarse, query_fine, db_coarse, db_fine, settings: MatchSettings):
    found = coarse_matches(query_coarse, db_coarse, settings.coarse_temperature)
    candidates = _chosen(*found, query_coarse.shape[1], settings)
    return _most_confident(query_fine, db_fine, candidates, settings)


def _most_confident(
    query_fine: Array, db_fine: Array, candidates: "Candidates", settings: MatchSettings
) -> CellMatches:
    matches = fine_matches(query_fine, db_fine, candidates, settings)
    count = min(settings.max_matches, matches.confidence.size)
    _, best = jax.lax.top_k(matches.confidence, count)
    return jax.tree.map(lambda x: x[best], matches)


@struct.dataclass
class Candidates:
    """Coarse cells (row, column) that match, and how surely."""

    query_cells: Int[Array, "M 2"]
    db_cells: Int[Array, "M 2"]
    confidence: Float[Array, "M"]


def _chosen(
    db_cells: Array, confidence: Array, width: int, settings: MatchSettings
) -> Candidates:
    """The candidates of coarse matches, the query's grid being so wide."""
    confidence, chosen = jax.lax.top_k(confidence, min(settings.candidates, len(confidence)))
    return Candidates(cell_places(chosen, width), db_cells[chosen], confidence)


def coarse_matches(
    query: Float[Array, "h w C"], db: Float[Array, "h2 w2 C"], temperature: float
) -> tuple[Int[Array, "h*w 2"], Float[Array, "h*w"]]:
    """The best database cell (row, column) of every query cell, by rows, and its confidence."""
    (_, _, channels), (height, width, _) = query.shape, db.shape
    similarity = query.reshape(-1, channels) @ db.reshape(-1, channels).T
    likelihood = _likelihood(similarity, temperature)
    best = _argmax_by_rows(similarity, width)
    best_cells = cell_places(best, width)
    reverse = _at(likelihood, best[:, None])[:, 0] / jnp.sum(likelihood, axis=0)[best]
    mass = near_mass(likelihood, best_cells, height, width) / jnp.sum(likelihood, axis=1)
    return best_cells, mass * reverse


def near_mass(
    likelihood: Float[Array, "n K"], cells: Int[Array, "n 2"], height: int, width: int
) -> Float[Array, "n"]:
    """The sum of each row's entries in the square around a cell (row, column) of its grid."""
    nearby = cells[:, None] + _square(-COARSE_RADIUS, COARSE_RADIUS + 1)[None]
    inside = jnp.all((nearby >= 0) & (nearby < jnp.array([[[height, width]]])), axis=-1)
    index = jnp.where(inside, nearby[..., 0] * width + nearby[..., 1], 0)
    return jnp.sum(_at(likelihood, index) * inside, axis=1)


def cell_places(index: Int[Array, "n"], width: int) -> Int[Array, "n 2"]:
    """Row and column of cells that are counted by rows."""
    return jnp.stack(jnp.divmod(index, width), axis=-1)


def fine_matches(
    query: Float[Array, "h w C"],
    db: Float[Array, "h2 w2 C"],
    candidates: Candidates,
    settings: MatchSettings,
) -> CellMatches:
    """One match for each of the four fine cells of every candidate, candidate by candidate."""
    height, width, _ = db.shape
    window = min(settings.window, height, width)
    corners = jnp.clip(
        2 * candidates.db_cells + 1 - window // 2,
        0,
        jnp.array([[height - window, width - window]]),
    )
    query_patches = cell_patches(query, 2 * candidates.query_cells, 2)
    db_patches = cell_patches(db, corners, window)
    similarity = jnp.einsum("mqc,mkc->mqk", query_patches, db_patches)
    likelihood = _likelihood(similarity, settings.fine_temperature)
    best = jnp.argmax(similarity, axis=-1)

    offsets = _square(0, window)
    distances = jnp.abs(offsets[None, None] - offsets[best][:, :, None])
    near = likelihood * jnp.all(distances <= FINE_RADIUS, axis=-1)
    near_total = jnp.sum(near, axis=-1)
    expected = jnp.einsum("mqk,kx->mqx", near, offsets.astype(near.dtype)) / near_total[..., None]
    mass = near_total / jnp.sum(likelihood, axis=-1)

    window_cells = corners[:, None] + offsets[None]
    window_index = window_cells[..., 0] * width + window_cells[..., 1]
    rivals = jnp.zeros(height * width).at[window_index].add(jnp.sum(likelihood, axis=1))
    at_best = _at(likelihood, best[..., None])[..., 0]
    reverse = at_best / rivals[_at(window_index, best)]

    query_cells = 2 * candidates.query_cells[:, None] + _square(0, 2)[None]
    db_cells = corners[:, None] + expected
    return CellMatches(
        query_cells=query_cells[..., ::-1].reshape(-1, 2).astype(jnp.float32),
        db_cells=db_cells[..., ::-1].reshape(-1, 2),
        confidence=(candidates.confidence[:, None] * mass * reverse).reshape(-1),
        mass=mass.reshape(-1),
        reverse=reverse.reshape(-1),
    )


def _likelihood(cosine: Array, temperature: float) -> Array:
    """`exp(T s)` up to a factor that keeps it in (0, 1], since a cosine s is at most 1."""
    return jnp.exp(temperature * (cosine - 1))


def _argmax_by_rows(values: Float[Array, "n K"], width: int) -> Int[Array, "n"]:
    """`argmax(values, axis=1)`, where K is a multiple of `width`.

    The maximum of each row of `width` cells first: it is the index that takes CPUs long to carry.
    """
    rows = values.reshape(len(values), -1, width)
    row = jnp.argmax(jnp.max(rows, axis=2), axis=1)
    best_row = jnp.take_along_axis(rows, row[:, None, None], axis=1)[:, 0]
    return row * width + jnp.argmax(best_row, axis=1)


def _at(values: Array, index: Array) -> Array:
    return jnp.take_along_axis(values, index, axis=-1)


def _square(start: int, stop: int) -> Int[Array, "n 2"]:
    """The rows and columns of a square of cells, row by row."""
    side = jnp.arange(start, stop)
    return jnp.stack(jnp.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2)

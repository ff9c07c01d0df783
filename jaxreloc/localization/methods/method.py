"""What the localizer asks of a method, which makes a pose of a query and its neighbours."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int, PyTree

from jaxreloc.localization.query_state import Localization, Query


class Neighbors(NamedTuple):
    """The database images that a query is related to."""

    index: Int[np.ndarray, "N"]  # most similar first, then candidates
    is_neighbor: Bool[np.ndarray, "N"]  # false on padding
    similarity: Float[np.ndarray, "N"] | None  # where they are matched


@runtime_checkable
class Method(Protocol):
    """Chooses neighbours, relates the query to them, and solves for its pose."""

    num_neighbors: int  # of a query, at most, but for its candidates
    num_ranked: int  # similar images that neighbours are chosen from
    finds_focal_length: bool  # of a query, where that is not known
    fusion: str  # of `fusion.Method`: how relative poses from elsewhere are fused beside it

    def choose(
        self,
        ranking: Int[np.ndarray, "ranked"],
        features: PyTree,
        candidates: Int[np.ndarray, "C"] | None,
        allowed: Bool[np.ndarray, "M"] | None = None,
    ) -> Neighbors:
        """The neighbours of a query with these features.

        Args:
          ranking: database images by falling similarity, those that are not allowed last.
          candidates: as given with the query.
          allowed: the database images that may be neighbours, padding takes the place of others;
            None allows all.
        """

    def relate(self, query: Query) -> PyTree:
        """What the query and its neighbours say of each other, computed when this returns."""

    def solve(
        self,
        queries: Sequence[Query],
        related: Sequence[PyTree],
        *,
        batch_size: int = 1,
        run: Callable[..., Iterable] = map,
    ) -> list[Localization]:
        """The pose of each query with its confidence.

        Args:
          related: what `relate` gave for each.
          batch_size: as many queries at most, so that one shape compiles for all numbers of them.
          run: goes through the queries, as `map` does or as a pool of threads.
        """

    def in_context(self, *, was_refused: bool) -> "Method | None":
        """What matches such a query again in context; None: it is left alone."""

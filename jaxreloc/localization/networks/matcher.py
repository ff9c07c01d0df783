"""What a network that matches images offers beside relative poses."""

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Float, PyTree

from jaxreloc.models.matching.rays import RayTracks


@runtime_checkable
class ContextMatcher(Protocol):
    """A `Matcher` that may have a second, slower way to match, which knows both images."""

    has_context: bool

    def match_tracks_in_context(
        self,
        db_features: PyTree,
        db_intrinsics: Float[np.ndarray, "N 3 3"],
        query_features: PyTree,
        query_intrinsics: Float[np.ndarray, "1 3 3"],
    ) -> RayTracks:
        """As `Matcher.match_tracks`, where `has_context`; it finds the similarities itself."""


@runtime_checkable
class Matcher(Protocol):
    """Matches one query with many database images; features are those of the network.

    A network that is one gets its poses from all matches (`all_matches`), and its matches drawn.
    """

    def cell_pixels(self) -> Float[np.ndarray, "h w 2"]:
        """Where the centres of the cells lie on the picture that `prepare` makes, x and y."""

    def similarity(self, db_features: PyTree, query_features: PyTree) -> Float[Array, "N"]:
        """How much of the query each database image shows, from 0 to 1; cheap."""

    def match_tracks(
        self,
        db_features: PyTree,
        db_intrinsics: Float[np.ndarray, "N 3 3"],
        query_features: PyTree,
        query_intrinsics: Float[np.ndarray, "1 3 3"],
        similarity: Float[Array, "N"],
        *,
        every_cell: bool = False,
    ) -> RayTracks:
        """The matches of the query with all of them, on one choice of query cells.

        Args:
          similarity: of each database image; the matches of one that has 0 weigh nothing.
          every_cell: all cells instead of the most confident ones, as a map's depth needs.
        """

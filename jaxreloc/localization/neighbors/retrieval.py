"""Image retrieval: the database images most similar to a query, some baseline apart.

An index finds the most similar descriptors: `ExactIndex` here compares them all, `FaissIndex`
(`faiss_index`) does not. `diverse` chooses neighbours from its ranking, since images taken at
nearly the same place, as a video's frames are, triangulate nothing.
"""

import functools
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxreloc.compilation.kept_programs import Program

# Neighbours are chosen from this many times as many most similar images.
RANKED_PER_NEIGHBOR = 6
# Of `default_baseline`.
EXTENT_SHARE = 0.1
MAX_SPACINGS = 10.0


@runtime_checkable
class Index(Protocol):
    """A search for the most similar of `len(index)` database descriptors."""

    def __len__(self) -> int: ...

    def search(
        self, descriptors: Float[Array, "queries dim"], count: int
    ) -> tuple[Int[np.ndarray, "queries count"], Float[np.ndarray, "queries count"]]:
        """Database indices by falling similarity, and the similarities (cosines).

        There are `min(count, len(index))` of them. Descriptors are L2-normalised.
        """


class ExactIndex:
    """Compares a query with every database descriptor, in JAX."""

    def __init__(self, descriptors: Float[Array | np.ndarray, "database dim"]):
        self._descriptors = jnp.asarray(descriptors)

    def __len__(self) -> int:
        return len(self._descriptors)

    def search(
        self, descriptors: Float[Array, "queries dim"], count: int
    ) -> tuple[Int[np.ndarray, "queries count"], Float[np.ndarray, "queries count"]]:
        """See `Index`; equal similarities keep the database's order."""
        indices, similarities = most_similar(
            descriptors, self._descriptors, num_neighbors=count
        )
        return np.asarray(indices), np.asarray(similarities)


@functools.partial(Program, name="most_similar", static=["num_neighbors"])
def most_similar(
    query_descriptors: Float[Array, "queries dim"],
    db_descriptors: Float[Array, "database dim"],
    *,
    num_neighbors: int,
) -> tuple[Int[Array, "queries neighbors"], Float[Array, "queries neighbors"]]:
    """Database indices by falling similarity, and the similarities `<query, database>`.

    Both descriptors are L2-normalised, so that the inner product is the cosine. There are
    `min(num_neighbors, database)` neighbours; equal similarities keep the database's order.
    """
    similarity = jnp.matmul(query_descriptors, db_descriptors.T, precision="highest")
    similarities, indices = jax.lax.top_k(similarity, min(num_neighbors, db_descriptors.shape[0]))
    return indices, similarities


def diverse(
    ranking: Int[np.ndarray, "ranked"],
    centres: Float[np.ndarray, "database 3"],
    num_neighbors: int,
    min_baseline: float,
) -> Int[np.ndarray, "neighbors"]:
    """Neighbours from `ranking`, its best first, whose camera centres lie apart.

    Each image of the ranking is taken if it is `min_baseline` or farther from all that were taken.
    If too few are, the best of the others follow. There are `min(num_neighbors, ranked)`.

    Args:
      ranking: database indices by falling similarity.
      centres: of the database cameras, world axes.
      min_baseline: in the unit of `centres`; 0 takes the most similar images.
    """
    points = centres[ranking]
    taken: list[int] = []
    for i, point in enumerate(points):
        if len(taken) == num_neighbors:
            break
        if (np.linalg.norm(points[taken] - point, axis=1) >= min_baseline).all():
            taken.append(i)
    others = [i for i in range(len(ranking)) if i not in taken]
    return ranking[taken + others[: num_neighbors - len(taken)]]


def default_baseline(centres: Float[np.ndarray, "database 3"]) -> float:
    """The baseline for `diverse` where none is given, whatever the unit of the poses is.

    A tenth of the map's extent (the cameras' median distance from their median point), so that
    neighbours see the scene from different sides; but no more than ten times the median distance
    of a camera to the nearest other one, since in a large map the extent says little of what two
    cameras can see together. 0 if all cameras are in one place.
    """
    import scipy.spatial  # takes 0.3 s, which queries by all matches need not wait for

    extent = np.median(np.linalg.norm(centres - np.median(centres, axis=0), axis=1))
    to_nearest = scipy.spatial.cKDTree(centres).query(centres, k=2)[0][:, 1]
    apart = to_nearest[np.isfinite(to_nearest) & (to_nearest > 0)]
    if not len(apart):
        return 0.0
    return float(min(EXTENT_SHARE * extent, MAX_SPACINGS * np.median(apart)))


def near(
    centres: Float[np.ndarray, "M 3"],
    place: Float[np.ndarray, "3"],
    radius: float,
) -> Bool[np.ndarray, "M"]:
    """Which camera centres lie within `radius` of `place`; all in the unit and axes of the map."""
    return np.linalg.norm(centres - place, axis=1) <= radius


def recall(
    found: Int[np.ndarray, "queries count"], exact: Int[np.ndarray, "queries count"]
) -> float:
    """The share of the exact search's answers that were found."""
    hits = [len(np.intersect1d(a, b)) for a, b in zip(found, exact, strict=True)]
    return float(np.sum(hits) / exact.size)

"""Which pictures are matched with each other."""

import itertools

import numpy as np
from jaxtyping import Float

ALL_OF = 60  # pictures of which every pair is matched
SIMILAR = 20  # with which each one of more is matched,
NEXT = 5  # and in a video with so many after it


def all_pairs(count: int) -> list[tuple[int, int]]:
    """Every pair of so many pictures."""
    return list(itertools.combinations(range(count), 2))


def similar_pairs(
    descriptors: Float[np.ndarray, "n dim"], *, in_order: bool
) -> list[tuple[int, int]]:
    """Each picture with the most similar ones, in order of their numbers.

    Args:
      descriptors: L2-normalised; their inner product is the similarity.
      in_order: each was taken shortly after the one before, as in a video.
    """
    similarity = descriptors @ descriptors.T
    np.fill_diagonal(similarity, -np.inf)
    nearest = np.argsort(-similarity, axis=1)[:, :SIMILAR]
    chosen = {(min(i, j), max(i, j)) for i, row in enumerate(nearest.tolist()) for j in row}
    if in_order:
        count = len(descriptors)
        chosen |= {(i, j) for i in range(count) for j in range(i + 1, min(i + NEXT + 1, count))}
    return sorted(chosen)

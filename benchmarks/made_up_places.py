"""Descriptors of places that nobody has seen, for searches through more images than there are."""

import numpy as np

VIEWS = 100  # of a place
COSINE = 0.8  # of two views of a place


def made_up_descriptors(rng: np.random.Generator, count: int, dim: int) -> np.ndarray:
    """Views of places, one place after the other, as unit rows."""
    spread = np.sqrt(1 / COSINE - 1)
    made = np.empty((count, dim), np.float32)
    for start in range(0, count, VIEWS):
        rows = made[start : start + VIEWS]
        place = rng.standard_normal((1, dim), np.float32)
        rows[:] = place + spread * rng.standard_normal(rows.shape, np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return made

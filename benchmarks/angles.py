"""Angles in degrees, exact near zero, of arrays with any leading axes."""

import numpy as np
from jaxtyping import Float


def rotation_deg(
    a: Float[np.ndarray, "*batch 3 3"], b: Float[np.ndarray, "*batch 3 3"]
) -> Float[np.ndarray, "*batch"]:
    """Of the rotation from one to the other, by |a - b| = sqrt(8) sin(angle / 2)."""
    chord = np.linalg.norm(a - b, axis=(-2, -1))
    return np.rad2deg(2 * np.arcsin(np.minimum(1, chord / np.sqrt(8))))


def between_deg(
    a: Float[np.ndarray, "*batch 3"], b: Float[np.ndarray, "*batch 3"]
) -> Float[np.ndarray, "*batch"]:
    """Between two directions."""
    across = np.linalg.norm(np.cross(a, b), axis=-1)
    return np.rad2deg(np.arctan2(across, np.sum(a * b, axis=-1)))

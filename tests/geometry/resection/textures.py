"""A surface with a smooth random pattern, whose brightness is known at every point."""

import numpy as np


class Texture:
    """A sum of waves with random directions and phases, of brightness 20 to 235."""

    def __init__(self, rng: np.random.Generator, *, shortest: float, longest: float):
        waves = 12
        length = rng.uniform(shortest, longest, waves)
        angle = rng.uniform(0, 2 * np.pi, waves)
        direction = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
        self._frequency = 2 * np.pi * direction / length[:, None]
        self._phase = rng.uniform(0, 2 * np.pi, waves)

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """The brightness at points [..., 2]."""
        waves = np.sin(points @ self._frequency.T + self._phase)
        return 127.5 + 107.5 * np.tanh(waves.sum(axis=-1) / np.sqrt(len(self._phase)))


def pixels(height: int, width: int) -> np.ndarray:
    """The place (x, y) of each pixel, [height, width, 2]."""
    rows, columns = np.indices((height, width))
    return np.stack([columns, rows], axis=-1).astype(float)


def as_picture(brightness: np.ndarray) -> np.ndarray:
    return np.clip(np.round(brightness), 0, 255).astype(np.uint8)

"""Descriptors whose matches are known."""

import cv2
import jax.numpy as jnp
import numpy as np

from jaxreloc.models.matching.descriptors import CellDescriptors


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def random_descriptors(rng: np.random.Generator, batch: int, height: int, width: int):
    """Independent unit vectors on `height` x `width` coarse cells."""
    shapes = ((4 * height, 4 * width, 8), (2 * height, 2 * width, 12), (height, width, 24))
    grids = [unit(rng.normal(size=(batch, *shape))) for shape in shapes]
    return CellDescriptors(*(jnp.asarray(grid, jnp.float32) for grid in grids))


def described_texture(texture: np.ndarray) -> CellDescriptors:
    """Descriptors of one image of random features, `[8h, 8w, C]` at every pixel: their means over
    the cells."""
    grids = [
        unit(_cell_means(channels, stride))[None]
        for channels, stride in zip(np.split(texture, 3, axis=-1), (4, 8, 16), strict=True)
    ]
    return CellDescriptors(*(jnp.asarray(grid) for grid in grids))


def smooth_texture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Random features that vary over about two fine cells."""
    noise = rng.normal(size=(height // 16, width // 16, 72)).astype(np.float32)
    planes = [cv2.resize(plane, (width, height), interpolation=cv2.INTER_CUBIC)
              for plane in np.moveaxis(noise, -1, 0)]
    return np.stack(planes, axis=-1)


def _cell_means(texture: np.ndarray, stride: int) -> np.ndarray:
    height, width, channels = texture.shape
    blocks = texture.reshape(height // stride, stride, width // stride, stride, channels)
    return blocks.mean(axis=(1, 3))

"""Pixels and viewing rays of cells."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxreloc.models.matching import rays


@pytest.mark.parametrize("stride", [8, 16])
def test_cells_tile_the_image(stride):
    pixels = np.arange(5 * stride).reshape(5, stride)
    columns = np.stack([np.arange(5), np.arange(5)], axis=-1)
    centres = rays.cell_pixels(jnp.asarray(columns, jnp.float32), stride)
    np.testing.assert_allclose(centres[:, 0], pixels.mean(axis=1))


def test_rays_project_to_their_pixels(rng):
    intrinsics = np.array([[410.0, 3.0, 250.0], [0.0, 430.0, 190.0], [0.0, 0.0, 1.0]])
    intrinsics = intrinsics[None] * np.array([1.0, 0.7, 1.3]).reshape(3, 1, 1)
    intrinsics[:, 2, 2] = 1
    pixels = rng.uniform(0, 512, (3, 20, 2))
    seen = np.asarray(rays.viewing_rays(jnp.asarray(pixels), jnp.asarray(intrinsics)))
    points = np.concatenate([seen, np.ones((3, 20, 1))], axis=-1)
    projected = np.einsum("bij,bnj->bni", intrinsics, points)
    np.testing.assert_allclose(projected[..., :2], pixels, atol=1e-3)

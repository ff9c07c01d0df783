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


def test_images_that_are_added_have_no_matches(rng):
    shapes = {"x_query": (5, 2), "x_db": (3, 5, 2), "weights": (3, 5), "sigma": (3,)}
    shapes |= {"query_cells": (5, 2), "db_cells": (3, 5, 2)}
    arrays = {name: rng.uniform(0.1, 1, shape).astype(np.float32) for name, shape in shapes.items()}
    tracks = rays.RayTracks(**{name: jnp.asarray(x) for name, x in arrays.items()})
    more = rays.with_empty_images(tracks, 7)
    for name, x in arrays.items():
        found = np.asarray(getattr(more, name))
        np.testing.assert_array_equal(found[: len(x)], x)
        assert len(found) == (5 if "query" in name else 7)
    assert (more.weights[3:] == 0).all() and (more.sigma[3:] == 1).all()

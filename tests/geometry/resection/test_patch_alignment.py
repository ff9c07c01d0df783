import jax
import numpy as np
import pytest

from jaxreloc.geometry.resection import patch_alignment
from tests.geometry.resection.textures import Texture, as_picture, pixels

RADIUS, STEPS = 4, 8
templates = jax.jit(patch_alignment.templates, static_argnums=2)
align_patches = jax.jit(patch_alignment.align, static_argnames=("radius", "steps"))


def warped_pair(rng, *, gain=1.0, bias=0.0, size=(96, 128)):
    """A picture, the same seen through an affine map, and the map: y = J x + t."""
    texture = Texture(rng, shortest=9, longest=25)
    turn = rng.uniform(-0.3, 0.3)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    jacobian = rotation @ np.diag(rng.uniform(0.8, 1.25, 2))
    centre = np.array([size[1], size[0]]) / 2
    shift = centre - jacobian @ centre + rng.uniform(-3, 3, 2)
    grid = pixels(*size)
    first = as_picture(texture(grid))
    seen = texture((grid - shift) @ np.linalg.inv(jacobian).T)
    return first, as_picture(gain * (seen - 127.5) + 127.5 + bias), jacobian, shift


def align(first, second, places, start, jacobian):
    patches = templates(first, places, RADIUS)
    count = len(places)
    return align_patches(
        patches,
        np.arange(count),
        second[None],
        np.zeros(count, int),
        start,
        np.broadcast_to(jacobian, (count, 2, 2)),
        radius=RADIUS,
        steps=STEPS,
    )


@pytest.mark.parametrize("gain, bias", [(1.0, 0.0), (0.6, 20.0)])
def test_patches_are_found_to_a_twentieth_of_a_pixel_whatever_the_exposure(rng, gain, bias):
    first, second, jacobian, shift = warped_pair(rng, gain=gain, bias=bias)
    places = rng.uniform([44, 34], [84, 62], (40, 2)).astype(np.float32)
    true = places @ jacobian.T + shift
    start = true + rng.uniform(-1, 1, true.shape)
    found = align(first, second, places, start.astype(np.float32), jacobian.astype(np.float32))
    error = np.linalg.norm(np.asarray(found.places) - true, axis=-1)
    start_error = np.linalg.norm(start - true, axis=-1)
    assert np.median(error) < 0.05 and np.median(error) < 0.1 * np.median(start_error)
    assert np.mean(error < 0.15) > 0.9
    assert np.median(found.similarity) > 0.99


def test_the_similarity_is_the_weighted_correlation(rng):
    first, second, _, _ = warped_pair(rng)
    place = np.array([[60, 40]], np.float32)
    other = np.array([[70, 50]], np.float32)
    patches = templates(first, place, RADIUS)
    found = align_patches(
        patches, np.zeros(1, int), second[None], np.zeros(1, int),
        other, np.eye(2, dtype=np.float32)[None], radius=RADIUS, steps=0,
    )  # fmt: skip
    a = first[36:45, 56:65].astype(float).ravel()
    b = second[46:55, 66:75].astype(float).ravel()
    squared = np.sum(patch_alignment.offsets(RADIUS) ** 2, axis=-1)
    weights = np.exp(-squared / (2 * (0.7 * RADIUS) ** 2))
    a, b = (x - np.average(x, weights=weights) for x in (a, b))
    expected = np.sum(weights * a * b) / np.sqrt(np.sum(weights * a**2) * np.sum(weights * b**2))
    np.testing.assert_allclose(np.asarray(found.similarity)[0], expected, atol=1e-3)
    np.testing.assert_allclose(found.places, other)


def test_texture_is_the_smaller_eigenvalue_of_the_gradients(rng):
    """An edge has none, though it is strong; a corner has."""
    edge = np.tile(np.linspace(0, 250, 32), (32, 1))
    places = np.full((1, 2), 16, np.float32)
    of_edge = templates(edge.astype(np.uint8), places, RADIUS)
    bump = 200 * np.exp(-np.sum((pixels(32, 32) - 16) ** 2, axis=-1) / 20)
    of_bump = templates(bump.astype(np.uint8), places, RADIUS)
    assert of_edge.texture[0] < 1 < 50 < of_bump.texture[0]


def test_what_shows_nothing_stays_where_it_was_without_nan(rng):
    plain = np.full((40, 50), 90, np.uint8)
    places = rng.uniform(-20, 70, (30, 2)).astype(np.float32)
    found = align(plain, plain, places, places, np.eye(2, dtype=np.float32))
    assert np.isfinite(found.places).all() and np.isfinite(found.similarity).all()
    assert np.abs(np.asarray(found.similarity)).max() < 0.1
    np.testing.assert_allclose(found.places, places, atol=1e-3)


def test_beyond_the_border_nothing_is_similar(rng):
    first, _, _, _ = warped_pair(rng)
    places = np.array([[2, 40], [125, 40], [60, 3], [60, 94], [60, 40]], np.float32)
    found = align(first, first, places, places, np.eye(2, dtype=np.float32))
    np.testing.assert_array_equal(np.asarray(found.similarity) > 0.9, [False] * 4 + [True])
    np.testing.assert_array_equal(np.asarray(found.similarity)[:4], 0)

"""A block computed in strips against XLA's convolutions, at every border."""

import functools

import jax
import numpy as np
import pytest

from jaxreloc.models.kernels import convolution, strips
from tests.models.kernels.test_convolution import xla_convolution


def convolve(x, kernel, strides=1, depthwise=False):
    geometry = {"strides": strides, "padding": "SAME", "depthwise": depthwise}
    return np.asarray(xla_convolution(x, kernel, **geometry))


def plain_block(x, expand, filters, project, strides):
    """The block by its definition, with the padding of TensorFlow's "SAME"."""
    x = np.clip(convolve(x, expand[0]) + expand[1], 0, 6)
    x = np.clip(convolve(x, filters[0], strides, depthwise=True) + filters[1], 0, 6)
    return convolve(x, project[0]) + project[1]


def random_block(rng, channels=3, hidden=7, features=5, size=3):
    shapes = ((1, 1, channels, hidden), (size, size, 1, hidden), (1, 1, hidden, features))
    draw = lambda shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    return [(draw(shape), draw(shape[-1:])) for shape in shapes]


# Heights of several strips: whole ones, with a rest, less than one.
@pytest.mark.parametrize(
    ("height", "width", "size", "strides"),
    [(16, 10, 3, 2), (23, 9, 5, 2), (11, 6, 5, 1), (1, 2, 3, 2)],
)
def test_strips_equal_the_whole_block(rng, height, width, size, strides):
    block = random_block(rng, size=size)
    x = rng.normal(size=(2, height, width, 3)).astype(np.float32)
    pads = jax.lax.padtype_to_pads((height, width), (size, size), (strides, strides), "SAME")
    compiled = jax.jit(strips.inverted_residual, static_argnums=(4, 5))
    found = compiled(x, *block, strides, tuple(pads))
    expected = plain_block(x, *block, strides)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_large_strided_blocks_are_computed_in_strips_on_cpus(rng, monkeypatch):
    """And give what small ones do."""
    block = random_block(rng)
    x = rng.normal(size=(1, 9, 8, 3)).astype(np.float32)
    whole = jax.jit(functools.partial(convolution.inverted_residual, strides=2))(x, *block)
    monkeypatch.setattr(convolution, "MOST_EXPANDED", 9 * 8 * 7 - 1)
    in_strips = []
    compute = strips.inverted_residual

    def noted(*arguments):
        in_strips.append(arguments[0].shape)
        return compute(*arguments)

    monkeypatch.setattr(strips, "inverted_residual", noted)
    found = jax.jit(functools.partial(convolution.inverted_residual, strides=2))(x, *block)
    jax.eval_shape(functools.partial(convolution.inverted_residual, strides=1), x, *block)
    assert in_strips == ([x.shape] if jax.default_backend() == "cpu" else [])
    np.testing.assert_allclose(found, whole, rtol=0, atol=1e-5 * np.abs(whole).max())

"""Against loops over NumPy arrays; whole numbers this small are exact in float32, sums too."""

import functools

import jax
import numpy as np
import pytest

from jaxreloc.models.kernels.depthwise import depthwise

# name: (height, width, channels, kernel size, strides, pads)
CASES = {
    "no padding": (5, 6, 3, 3, 1, ((0, 0), (0, 0))),
    "padding on one side": (6, 5, 2, 3, 2, ((0, 1), (1, 0))),
    "rows and columns that no window reaches": (8, 10, 2, 3, 3, ((1, 0), (0, 0))),
    "an even kernel": (4, 7, 1, 4, 2, ((2, 1), (1, 2))),
    "one pixel": (1, 1, 2, 3, 1, ((1, 1), (1, 1))),
}


def by_loops(x, kernel, strides, pads, gradient):
    """The sum of each window's products, and the gradients of its product with `gradient`."""
    size = len(kernel)
    (top, bottom), (left, right) = pads
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    height, width = (1 + (n - size) // strides for n in padded.shape[1:3])
    y = np.zeros((len(x), height, width, x.shape[-1]))
    of_x, of_kernel = np.zeros_like(padded), np.zeros_like(kernel)
    gradient = gradient[:, :height, :width]
    for h in range(height):
        for w in range(width):
            window = np.s_[:, h * strides :, w * strides :]
            window = window[0], *(np.s_[s.start : s.start + size] for s in window[1:])
            y[:, h, w] = (padded[window] * kernel[..., 0, :]).sum(axis=(1, 2))
            at = gradient[:, h, w][:, None, None]
            of_x[window] += at * kernel[..., 0, :]
            of_kernel[..., 0, :] += (at * padded[window]).sum(axis=0)
    inner = of_x[:, top : top + x.shape[1], left : left + x.shape[2]]
    return y, inner, of_kernel


@functools.partial(jax.jit, static_argnums=(2, 3))
def value_and_gradients(x, kernel, strides, pads, gradient):
    y, vjp = jax.vjp(lambda x, kernel: depthwise(x, kernel, strides, pads), x, kernel)
    return y, *vjp(gradient[:, : y.shape[1], : y.shape[2]])


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_equal_loops(rng, case):
    height, width, channels, size, strides, pads = CASES[case]
    shapes = (2, height, width, channels), (size, size, 1, channels), (2, 12, 12, channels)
    x, kernel, gradient = (rng.integers(-9, 10, shape).astype(np.float64) for shape in shapes)
    expected = by_loops(x, kernel, strides, pads, gradient)
    single = [each.astype(np.float32) for each in (x, kernel, gradient)]
    found = value_and_gradients(*single[:2], strides, pads, single[2])
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)

"""Every fast kernel against XLA's own convolution in float32, values and gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreloc.models.kernels import convolution

# name: (height, width, channels, features, kernel size, strides, padding, depthwise)
CASES = {
    "winograd, odd and even": (13, 10, 6, 9, 3, 1, 1, False),
    "winograd, one pixel": (1, 1, 2, 3, 3, 1, 1, False),
    "winograd, SAME": (8, 7, 3, 4, 3, 1, "SAME", False),
    "strided": (12, 13, 16, 8, 3, 2, 1, False),
    "pointwise": (6, 5, 8, 12, 1, 1, "SAME", False),
    "pointwise, strided": (7, 8, 8, 12, 1, 2, 0, False),
    "ResNet's first": (17, 20, 3, 9, 7, 2, 3, False),
    "EfficientNet's first, even": (16, 18, 3, 8, 3, 2, "SAME", False),
    "EfficientNet's first, odd": (15, 17, 3, 8, 3, 2, "SAME", False),
    "depthwise": (8, 7, 5, 5, 3, 1, "SAME", True),
    "depthwise of five": (9, 8, 4, 4, 5, 1, "SAME", True),
    "depthwise, strided, odd": (9, 11, 4, 4, 3, 2, "SAME", True),
    "depthwise of five, strided, even": (12, 10, 4, 4, 5, 2, "SAME", True),
}


def xla_convolution(x, kernel, *, strides, padding, depthwise):
    pads = padding if padding == "SAME" else ((padding, padding), (padding, padding))
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (strides, strides),
        pads,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1] if depthwise else 1,
        precision="highest",
    )


def prepared_convolution(x, kernel, *, strides, padding, depthwise):
    prepared = convolution.prepare_kernel(kernel, strides=strides, depthwise=depthwise)
    geometry = {"strides": strides, "padding": padding, "depthwise": depthwise}
    return convolution.conv2d_prepared(x, prepared, **geometry)


def assert_close(actual, expected):
    """To 1e-5 of the largest value."""
    scale = np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * scale)


@functools.partial(jax.jit, static_argnums=0)
def value_and_gradients(function, x, kernel, gradient):
    value, vjp = jax.vjp(function, x, kernel)
    return value, *vjp(gradient)


@pytest.mark.parametrize("case", CASES)
def test_value_and_gradients_equal_xla(rng, case):
    height, width, channels, features, size, strides, padding, depthwise = CASES[case]
    x = rng.normal(size=(2, height, width, channels)).astype(np.float32)
    kernel_channels = 1 if depthwise else channels
    kernel = rng.normal(size=(size, size, kernel_channels, features)).astype(np.float32)
    geometry = {"strides": strides, "padding": padding, "depthwise": depthwise}
    reference = functools.partial(xla_convolution, **geometry)
    gradient = rng.normal(size=jax.eval_shape(reference, x, kernel).shape).astype(np.float32)

    expected = value_and_gradients(reference, x, kernel, gradient)
    tested = prepared_convolution if case.startswith("winograd") else convolution.conv2d
    tested = functools.partial(tested, **geometry)
    actual = value_and_gradients(tested, x, kernel, gradient)
    for mine, theirs in zip(actual, expected, strict=True):
        assert_close(mine, theirs)


def test_winograd_is_chosen_for_inference_on_cpus():
    kernel = jnp.zeros((3, 3, 4, 5))
    prepared = convolution.prepare_kernel(kernel, strides=1, depthwise=False)
    assert prepared.shape == ((16, 4, 5) if jax.default_backend() == "cpu" else kernel.shape)
    strided = convolution.prepare_kernel(kernel, strides=2, depthwise=False)
    assert strided.shape == kernel.shape


def test_image_by_image_keeps_order_and_structure(rng):
    images = rng.normal(size=(5, 3, 2, 1)).astype(np.float32)
    sizes = []

    def halve(batch):
        sizes.append(len(batch))
        return {"half": batch / 2}

    np.testing.assert_array_equal(
        convolution.image_by_image(halve)(images)["half"], images / 2
    )
    assert sizes == [1] * 5 or jax.default_backend() != "cpu"


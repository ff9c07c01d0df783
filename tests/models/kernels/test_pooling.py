import functools

import jax
import numpy as np
import pytest
from flax import linen as nn

from jaxreloc.models.kernels.pooling import max_pool


def flax_max_pool(x):
    return nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))


@functools.partial(jax.jit, static_argnums=0)
def value_and_gradient(function, x, gradient):
    value, vjp = jax.vjp(function, x)
    return value, *vjp(gradient)


@pytest.mark.parametrize("shape", [(2, 8, 10, 3), (1, 7, 9, 2), (1, 6, 7, 4), (1, 1, 1, 1)])
@pytest.mark.parametrize("ties", [False, True])
def test_value_and_gradient_equal_flax(rng, shape, ties):
    x = rng.integers(-2, 2, shape) if ties else rng.normal(size=shape)
    x = x.astype(np.float32)
    gradient = rng.normal(size=jax.eval_shape(max_pool, x).shape).astype(np.float32)
    expected, expected_gradient = value_and_gradient(flax_max_pool, x, gradient)
    maximum, x_gradient = value_and_gradient(max_pool, x, gradient)
    np.testing.assert_array_equal(maximum, expected)
    np.testing.assert_allclose(x_gradient, expected_gradient, rtol=1e-6, atol=1e-6)

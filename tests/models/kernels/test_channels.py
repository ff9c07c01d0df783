import jax
import numpy as np
import pytest

from jaxreloc.models.kernels.channels import channel_broadcast, channel_sum

SHAPES = [(5, 3), (2, 7, 11, 3), (1, 1, 1, 4), (3, 16, 8, 64)]


@pytest.mark.parametrize("shape", SHAPES)
def test_sum_and_broadcast_equal_numpy(rng, shape):
    x = rng.normal(size=shape).astype(np.float32)
    expected = x.astype(np.float64).sum(axis=tuple(range(x.ndim - 1)))
    np.testing.assert_allclose(channel_sum(x), expected, rtol=1e-5, atol=1e-4)
    channels = x.reshape(-1, shape[-1])[0]
    expected = np.broadcast_to(channels, shape)
    np.testing.assert_array_equal(channel_broadcast(channels, shape), expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_are_each_other(rng, shape):
    x = rng.normal(size=shape).astype(np.float32)
    v = rng.normal(size=shape[-1]).astype(np.float32)
    (of_sum,) = jax.vjp(channel_sum, x)[1](v)
    np.testing.assert_array_equal(of_sum, np.broadcast_to(v, shape))
    (of_broadcast,) = jax.vjp(lambda v: channel_broadcast(v, shape), v)[1](x)
    np.testing.assert_allclose(of_broadcast, channel_sum(x), rtol=1e-5, atol=1e-5)

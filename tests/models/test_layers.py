import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxreloc.models import layers

COMPUTE = layers.Compute()


def flax_norm(**options):
    return nn.BatchNorm(momentum=layers.BATCH_NORM_MOMENTUM, epsilon=1e-5, **options)


def random_norm_variables(rng, channels):
    draw = lambda: jnp.asarray(rng.uniform(0.5, 2, channels), jnp.float32)  # noqa: E731
    return {
        "params": {"scale": draw(), "bias": draw()},
        "batch_stats": {"mean": draw(), "var": draw()},
    }


@pytest.mark.parametrize("shape", [(6, 5), (2, 4, 3, 5)])
@pytest.mark.parametrize("train", [False, True])
def test_batch_norm_equals_flax(rng, shape, train):
    x = rng.normal(1, 2, size=shape).astype(np.float32)
    variables = random_norm_variables(rng, shape[-1])

    def run(module, x, params, **options):
        given = {**variables, "params": params}
        return module.apply(given, x, mutable="batch_stats", **options)

    mine = functools.partial(run, layers.BatchNorm(COMPUTE), train=train)
    flax = functools.partial(run, flax_norm(use_running_average=not train))
    expected, expected_vjp, expected_updates = jax.vjp(flax, x, variables["params"], has_aux=True)
    actual, vjp, updates = jax.vjp(mine, x, variables["params"], has_aux=True)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5),
        dict(updates),
        dict(expected_updates),
    )
    gradient = rng.normal(size=shape).astype(np.float32)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4),
        vjp(gradient),
        expected_vjp(gradient),
    )


def test_statistics_are_those_of_all_devices(rng):
    """Two halves on an axis give the statistics and the output of the whole."""
    x = rng.normal(size=(2, 4, 3)).astype(np.float32)
    variables = random_norm_variables(rng, 3)

    def run(compute, x):
        norm = layers.BatchNorm(compute)
        return norm.apply(variables, x, True, mutable="batch_stats")

    whole, whole_updates = run(COMPUTE, x.reshape(8, 3))
    on_axis = functools.partial(run, layers.Compute(axis_name="devices"))
    halves, updates = jax.vmap(on_axis, axis_name="devices")(x)
    np.testing.assert_allclose(halves.reshape(8, 3), whole, rtol=1e-4, atol=1e-5)
    mean = updates["batch_stats"]["mean"]
    np.testing.assert_allclose(mean[0], whole_updates["batch_stats"]["mean"], rtol=1e-5)
    np.testing.assert_array_equal(mean[0], mean[1])


def test_l2_normalise_has_a_finite_gradient_at_zero():
    x = jnp.array([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_allclose(layers.l2_normalise(x), [[0.6, 0.8], [0, 0]], rtol=1e-6)
    gradient = jax.grad(lambda x: layers.l2_normalise(x).sum())(x)
    assert np.isfinite(gradient).all()


def test_pixels_are_normalised_per_channel():
    image = np.full((1, 1, 1, 3), [10, 20, 30], np.uint8)
    normalised = layers.normalise_pixels(image, (10.0, 10.0, 10.0), (1.0, 2.0, 4.0))
    np.testing.assert_allclose(normalised.reshape(3), [0, 5, 5])

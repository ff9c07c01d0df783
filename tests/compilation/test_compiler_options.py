import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreloc.compilation import compiler_options


@pytest.mark.parametrize("options", [compiler_options.wide_vectors, compiler_options.convolutions])
def test_xla_knows_them_and_computes_the_same(options, rng):
    x = rng.normal(size=(33, 17)).astype(np.float32)
    doubled = jax.jit(lambda x: jnp.tanh(2 * x), compiler_options=options())(x)
    np.testing.assert_allclose(doubled, np.tanh(2 * x), rtol=1e-5, atol=1e-6)

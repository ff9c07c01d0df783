"""The learned descriptors: the equations in NumPy, and what depends on what."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import correlate

from jaxreloc.models import build
from jaxreloc.models.backbones.features import Features
from jaxreloc.models.matching import coarse_to_fine, descriptors
from jaxreloc.models.matching.description import EPSILON
from jaxreloc.models.matching.learned_description import (
    LEARNED_GRIDS,
    LEARNED_SETTINGS,
    LearnedDescription,
)
from jaxreloc.usage import UsageError
from tests.models.matching.planted import unit

CHANNELS = (5, 6, 7, 8)
DESCRIPTION = LearnedDescription(LEARNED_GRIDS)
describe = jax.jit(DESCRIPTION.apply)


@pytest.fixture
def features(rng):
    maps = {
        name: jnp.asarray(rng.normal(1.0, 2.0, (1, 2 * scale, 3 * scale, size)), jnp.float32)
        for name, scale, size in zip(LEARNED_GRIDS, (8, 4, 2, 1), CHANNELS, strict=True)
    }
    return Features(jnp.zeros((1, 1)), maps)


@pytest.fixture
def variables(features, rng):
    shapes = jax.eval_shape(DESCRIPTION.init, jax.random.key(0), features)
    return jax.tree.map(
        lambda x: np.float32(rng.uniform(0.2, 1, x.shape) - 0.5 * (len(x.shape) > 1)), shapes
    )


def test_equals_the_equations(features, variables):
    params, stats = jax.tree.map(np.asarray, (variables["params"], variables["batch_stats"]))
    x = {
        name: (np.asarray(features.maps[name][0]) - stats[name]["mean"])
        / np.sqrt(stats[name]["var"] + EPSILON)
        for name in LEARNED_GRIDS
    }

    def linear(layer, y):
        return y @ layer["kernel"] + layer.get("bias", 0)

    def upsampled(y):
        return np.asarray(descriptors.upsample(jnp.asarray(y[None])))[0]

    def relu(y):
        return np.maximum(y, 0)

    def convolved(layer, y):
        kernel = layer["kernel"]
        out = np.zeros((*y.shape[:2], kernel.shape[3])) + layer["bias"]
        for i in range(kernel.shape[2]):
            for j in range(kernel.shape[3]):
                out[..., j] += correlate(y[..., i], kernel[:, :, i, j], mode="constant")
        return out

    def level(layer, own, coarser):
        h = linear(layer["own"], own) + upsampled(linear(layer["coarser"], coarser))
        return relu(h + convolved(layer["around"], relu(h)))

    def output(layer, hidden, own):
        return linear(layer["hidden"], hidden) + linear(layer["direct"], own)

    coarse_level = level(params["coarse_level"], x["coarse"], x["context"])
    fine_level = level(params["fine_level"], x["fine"], coarse_level)
    detail_level = level(params["detail_level"], x["detail"], x["fine"])
    expected = {
        "coarse": output(params["coarse_output"], coarse_level, x["coarse"]),
        "fine": output(params["fine_output"], fine_level, x["fine"])
        + upsampled(linear(params["fine_from_coarse"], x["coarse"])),
        "detail": output(params["detail_output"], detail_level, x["detail"]),
    }
    found = describe(variables, features)
    for name, y in expected.items():
        np.testing.assert_allclose(getattr(found, name)[0], unit(y), atol=2e-4, err_msg=name)


def test_they_are_compared_as_they_are_even_after_eight_bits(features, variables):
    found = describe(variables, features)
    assert found.is_joined
    assert descriptors.fine_grid(found) is found.fine
    assert descriptors.coarse_grid(found) is found.coarse
    assert descriptors.quantise(found).is_joined
    settings = LEARNED_SETTINGS
    matches = jax.jit(coarse_to_fine.match, static_argnums=2)(found, found, settings)
    sure = np.asarray(matches.mass[0] > 0.9) & np.asarray(matches.reverse[0] > 0.5)
    np.testing.assert_allclose(
        matches.db_cells[0][sure], matches.query_cells[0][sure], atol=1.0
    )


def test_other_backbones_are_refused_by_name():
    config = {"backbone": "resnet18", "head": "correlation", "description": "learned"}
    with pytest.raises(UsageError, match="resnet18.*efficientnet_lite0"):
        build.build_network(config)

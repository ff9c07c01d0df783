"""Of a backbone frozen up to a part, only what follows learns, statistics included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreloc.models import build_network, init_variables
from jaxreloc.models.weights.variables import flatten
from jaxreloc.usage import UsageError

CASES = {
    "efficientnet_lite0": ("block12", ["block13", "block14", "block15", "top"]),
    "resnet18": ("layer3", ["layer4_0", "layer4_1"]),
}


@pytest.mark.parametrize("backbone", CASES)
def test_what_lies_before_gets_no_gradient_and_no_statistics(backbone, rng):
    until, learns = CASES[backbone]
    network = build_network({"backbone": backbone, "frozen_until": until})
    variables = init_variables(network, jax.random.key(0))
    images = rng.integers(0, 256, (2, 32, 32, 3), np.uint8)

    @jax.jit
    def train(params):
        def loss(params):
            features, changed = network.apply(
                {**variables, "params": params},
                images,
                True,
                method="encode",
                mutable=["batch_stats"],
            )
            return jnp.sum(jnp.square(features.pooled)), changed["batch_stats"]

        return jax.grad(loss, has_aux=True)(params)

    gradient, statistics = jax.device_get(train(variables["params"]))
    before = flatten(variables["batch_stats"]["backbone"])
    changed = {
        name.partition("/")[0]
        for name, x in flatten(statistics["backbone"]).items()
        if np.any(x != before[name])
    }
    moved = {
        name.partition("/")[0] for name, x in flatten(gradient["backbone"]).items() if np.any(x)
    }
    assert moved == changed == set(learns)


def test_an_unknown_part_is_refused_with_the_known_ones():
    network = build_network({"backbone": "resnet18", "frozen_until": "layer5"})
    with pytest.raises(UsageError, match="model.frozen_until 'layer5'; known: layer1, .*layer4"):
        jax.eval_shape(lambda: init_variables(network, jax.random.key(0)))

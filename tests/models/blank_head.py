"""A network that matches and whose head is never asked."""

import jax
import numpy as np
import pytest

from jaxreloc.models import build
from jaxreloc.models.weights import network_weights
from jaxreloc.models.weights.network_weights import imagenet_matcher
from jaxreloc.models.weights.saved_network import LoadedNetwork


def blank_headed_matcher(image_size: tuple[int, int]) -> LoadedNetwork:
    """`imagenet_matcher` with zeros for its random variables, which take long to compile."""

    def zeros(network, key):
        shapes = jax.eval_shape(lambda: build.init_variables(network, key))
        return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network_weights, "init_variables", zeros)
        return imagenet_matcher(image_size)

"""A trained network made fast to apply: batch normalisation folded, functions compiled."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxreloc.compilation import compiler_options
from jaxreloc.compilation.kept_programs import Program
from jaxreloc.models import build, layers
from jaxreloc.models.kernels import convolution
from jaxreloc.models.siamese import SiameseNetwork
from jaxreloc.models.weights import variables
from jaxreloc.models.weights.saved_network import LoadedNetwork


@dataclasses.dataclass(frozen=True)
class InferenceFunctions:
    """The compiled methods of a SiameseNetwork, with `train=False`; each shape compiles once.

    Attributes:
      encode: images -> features.
      descriptor: features -> L2-normalised [B, D].
      relate: (db_features, query_features, db_intrinsics, query_intrinsics) -> RelativePose.
    """

    encode: Callable
    descriptor: Callable
    relate: Callable


def fold(network: SiameseNetwork, network_variables: Mapping[str, Any]) -> dict[str, Any]:
    """Variables that make `network.apply(..., train=False)` faster and, up to rounding, the same.

    Each batch normalisation after a convolution is folded into its kernel, which takes the form
    that is fast on the backend in use. The variables that this replaces are left out, so that the
    result cannot be trained or saved.
    """
    images = np.zeros((1, build.INIT_IMAGE_SIZE, build.INIT_IMAGE_SIZE, 3), np.float32)
    make = functools.partial(network.apply, method="encode", mutable=[layers.FOLDED])
    folded = Program(lambda given: make(given, images)[1], "fold", of=network)(network_variables)
    replaced = [
        name.removesuffix("kernel").removeprefix(layers.FOLDED)
        for name in variables.flatten(folded)
        if name.endswith("/kernel")
    ]
    kept = {
        name: array
        for name, array in variables.flatten(network_variables).items()
        if not any(f"/{name.partition('/')[2]}".startswith(prefix) for prefix in replaced)
    }
    return variables.unflatten(kept) | folded


def inference_functions(loaded: LoadedNetwork) -> InferenceFunctions:
    """The compiled methods of a network, folded."""
    folded = jax.device_put(fold(loaded.network, loaded.variables))

    def method(name: str) -> Callable:
        return lambda given, *arguments: loaded.network.apply(given, *arguments, method=name)

    def compiled(function: Callable) -> Callable:
        options = compiler_options.convolutions()
        return functools.partial(jax.jit(function, compiler_options=options), folded)

    return InferenceFunctions(
        encode=convolution.image_by_image(compiled(method("encode"))),
        descriptor=compiled(method("descriptor")),
        relate=compiled(method("relate")),
    )

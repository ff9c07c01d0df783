"""A network that matches photographs with ImageNet's features and no training at all."""

import jax

from jaxreloc.models import build
from jaxreloc.models.weights.initial import first_variables
from jaxreloc.models.weights.saved_network import LoadedNetwork

MODEL = {"backbone": "efficientnet_lite0", "head": "correlation", "pretrained": "default"}
SIZE_MULTIPLE = 32  # pixels; the backbone halves an image five times


def imagenet_matcher(image_size: tuple[int, int]) -> LoadedNetwork:
    """EfficientNet-lite0 with ImageNet's weights under a correlation head; nothing is trained.

    Args:
      image_size: height and width of the canvas that whole images are fitted into.

    Raises:
      ValueError: a side is no multiple of 32.
    """
    check_canvas(image_size)
    network = build.build_network(MODEL)
    variables = first_variables(MODEL, network, jax.random.key(0))
    config = {"model": MODEL, "data": {"image_size": tuple(image_size)}}
    return LoadedNetwork(network, variables, config)


def check_canvas(image_size: tuple[int, int]) -> None:
    """Checks that the backbone can halve both sides.

    Raises:
      ValueError: it cannot.
    """
    if any(side <= 0 or side % SIZE_MULTIPLE for side in image_size):
        raise ValueError(f"canvas {image_size}: sides are to be multiples of {SIZE_MULTIPLE}")

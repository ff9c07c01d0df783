"""The network that needs no training: matches by ImageNet features, poses by epipolar geometry."""

import jax
import numpy as np
from jaxtyping import Int

from jaxreloc.localization.match_network import MatchNetwork
from jaxreloc.models import build
from jaxreloc.models.saved_network import LoadedNetwork

LONG_SIDE = 512
MULTIPLE = 32
MODEL = {"backbone": "efficientnet_lite0", "head": "correlation", "pretrained": "default"}


def pretrained_network(image_sizes: Int[np.ndarray, "n 2"]) -> MatchNetwork:
    """EfficientNet-lite0 with ImageNet's weights and the correlation of its feature maps.

    Whole images are fitted into a canvas of LONG_SIDE pixels and the images' median aspect. The
    relative poses have no length, so that a location takes two neighbours or more.

    Args:
      image_sizes: width and height of the database images.
    """
    network = build.build_network(MODEL)
    variables = build.first_variables(MODEL, network, jax.random.key(0))
    config = {"model": MODEL, "data": {"image_size": canvas(image_sizes)}}
    return MatchNetwork(LoadedNetwork(network, variables, config))


def canvas(image_sizes: Int[np.ndarray, "n 2"]) -> tuple[int, int]:
    """Height and width of the canvas for images of these widths and heights."""
    width, height = np.median(image_sizes, axis=0)
    scale = LONG_SIDE / max(width, height)
    return tuple(MULTIPLE * max(1, round(side * scale / MULTIPLE)) for side in (height, width))

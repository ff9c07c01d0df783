"""The network that needs no training: matches by ImageNet features, poses by epipolar geometry."""

import numpy as np
from jaxtyping import Int

from jaxreloc.localization.match_network import MatchNetwork
from jaxreloc.models.imagenet_matcher import SIZE_MULTIPLE, imagenet_matcher

LONG_SIDE = 512


def pretrained_network(image_sizes: Int[np.ndarray, "n 2"]) -> MatchNetwork:
    """A matcher for images of these widths and heights.

    Its relative poses have no length, so that a location takes two neighbours or more.
    """
    return MatchNetwork(imagenet_matcher(canvas(image_sizes)))


def canvas(image_sizes: Int[np.ndarray, "n 2"]) -> tuple[int, int]:
    """Height and width, LONG_SIDE at most, of the images' median aspect."""
    width, height = np.median(image_sizes, axis=0)
    scale = LONG_SIDE / max(width, height)
    sides = (max(1, round(side * scale / SIZE_MULTIPLE)) for side in (height, width))
    return tuple(SIZE_MULTIPLE * side for side in sides)

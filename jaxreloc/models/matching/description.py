"""Cell descriptors from a backbone's feature maps, with nothing to learn."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from jaxreloc.models import layers
from jaxreloc.models.backbones import efficientnet_lite
from jaxreloc.models.backbones.features import Features
from jaxreloc.models.matching.descriptors import CellDescriptors

GRIDS = ("detail", "fine", "coarse")
EPSILON = 1e-3  # added to the variance of each channel
# The last feature map of each grid's stride: 4, 8 and 16.
TAPS = {
    "efficientnet_lite0": ("block2", "block4", "block10"),
    "resnet18": ("layer1", "layer2", "layer3"),
    "resnet34": ("layer1", "layer2", "layer3"),
}


class CellDescription(nn.Module):
    """Standardises the channels of the maps, then scales every cell to a unit vector.

    The channels' means and variances are fixed: variables (`batch_stats`) that are 0 and 1 unless
    `imagenet_statistics` gives them, and that training leaves as they are.

    Attributes:
      taps: names of the maps of GRIDS.
    """

    taps: tuple[str, str, str]
    grids = GRIDS
    is_joined = False

    @nn.compact
    def __call__(self, features: Features) -> CellDescriptors:
        return CellDescriptors(
            **{
                grid: layers.l2_normalise(Standardisation(name=grid)(features.maps[tap]))
                for grid, tap in zip(GRIDS, self.taps, strict=True)
            }
        )


class Standardisation(nn.Module):
    """`(x - mean) / sqrt(var + EPSILON)` of each channel, with fixed means and variances."""

    @nn.compact
    def __call__(self, x: Float[Array, "B h w C"]) -> Float[Array, "B h w C"]:
        shape = (x.shape[-1],)
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape).value
        var = self.variable("batch_stats", "var", jnp.ones, shape).value
        shape = (1, 1, 1, -1)
        return (x - mean.reshape(shape)) / jnp.sqrt(var + EPSILON).reshape(shape)


def imagenet_statistics(
    description: nn.Module, backbone_params: Mapping[str, Any]
) -> dict[str, dict[str, np.ndarray]]:
    """`batch_stats` of a description, by grid, whose backbone has ImageNet weights.

    A tapped map of EfficientNet is the sum of the outputs of its stage's blocks, each of which ends
    in a batch normalisation. Its mean is the sum of their biases and its variance, their
    correlation neglected, the sum of their squared scales. For the other backbones, whose maps end
    in a ReLU, nothing is known and the channels stay as they are: an empty dict.

    Args:
      description: has `grids`, the names of its statistics, and `taps`, those of the maps.
    """
    if "block0" not in backbone_params:
        return {}
    taps = zip(description.grids, description.taps, strict=True)
    return {grid: _residual_statistics(backbone_params, tap) for grid, tap in taps}


def _residual_statistics(params: Mapping[str, Any], tap: str) -> dict[str, np.ndarray]:
    names = [f"block{i}" for i in range(sum(stage[0] for stage in efficientnet_lite.STAGES))]
    ends = np.cumsum([stage[0] for stage in efficientnet_lite.STAGES])
    last = names.index(tap)
    first = max([0, *(end for end in ends if end <= last)])
    norms = [params[name]["project"]["norm"] for name in names[first : last + 1]]
    return {
        "mean": np.sum([norm["bias"] for norm in norms], axis=0),
        "var": np.sum([np.square(norm["scale"]) for norm in norms], axis=0),
    }

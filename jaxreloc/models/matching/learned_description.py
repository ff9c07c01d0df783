"""Compact cell descriptors, learned from true matches, on a frozen backbone's feature maps."""

from flax import linen as nn
from jaxtyping import Array, Float

from jaxreloc.models import layers
from jaxreloc.models.backbones.features import Features
from jaxreloc.models.kernels import convolution
from jaxreloc.models.matching.coarse_to_fine import MatchSettings
from jaxreloc.models.matching.description import GRIDS, Standardisation
from jaxreloc.models.matching.descriptors import CellDescriptors, upsample

LEARNED_GRIDS = (*GRIDS, "context")
# The last feature map of strides 4, 8, 16 and 32.
LEARNED_TAPS = {"efficientnet_lite0": ("block2", "block4", "block10", "block14")}

DETAIL_WIDTH, DETAIL_SIZE = 32, 16
FINE_WIDTH, FINE_SIZE = 48, 48
COARSE_WIDTH, COARSE_SIZE = 96, 96
# The matching that the descriptors are trained for: a cell of theirs has seen its surroundings.
LEARNED_SETTINGS = MatchSettings(detail_patch=2)


class LearnedDescription(nn.Module):
    """A small pyramid on standardised maps: each grid sees the coarser ones.

    With x_s the standardised map of stride s, U bilinear upsampling by two, A, B, ... linear maps
    of each cell, K a 3x3 convolution and r the ReLU:

      h16 = h + K r(h),  h = A x_16 + U B x_32;   coarse = C r(h16) + D x_16
      h8  = h + K r(h),  h = A x_8 + U B r(h16);  fine   = C r(h8) + D x_8 + U E x_16
      h4  = h + K r(h),  h = A x_4 + U B x_8;     detail = C r(h4) + D x_4

    each scaled to unit vectors.

    Attributes:
      taps: names of the maps of LEARNED_GRIDS.
    """

    taps: tuple[str, str, str, str]
    grids = LEARNED_GRIDS
    is_joined = True

    @nn.compact
    def __call__(self, features: Features) -> CellDescriptors:
        x = {
            grid: Standardisation(name=grid)(features.maps[tap])
            for grid, tap in zip(LEARNED_GRIDS, self.taps, strict=True)
        }
        coarse_level = _Level(COARSE_WIDTH, name="coarse_level")(x["coarse"], x["context"])
        fine_level = _Level(FINE_WIDTH, name="fine_level")(x["fine"], coarse_level)
        detail_level = _Level(DETAIL_WIDTH, name="detail_level")(x["detail"], x["fine"])
        coarse = _Output(COARSE_SIZE, name="coarse_output")(coarse_level, x["coarse"])
        fine = _Output(FINE_SIZE, name="fine_output")(fine_level, x["fine"])
        around = nn.Dense(FINE_SIZE, use_bias=False, name="fine_from_coarse")(x["coarse"])
        detail = _Output(DETAIL_SIZE, name="detail_output")(detail_level, x["detail"])
        return CellDescriptors(
            detail=layers.l2_normalise(detail),
            fine=layers.l2_normalise(fine + upsample(around)),
            coarse=layers.l2_normalise(coarse),
            is_joined=self.is_joined,
        )


class _Level(nn.Module):
    """`r(h + K r(h))` with `h = A own + U B coarser`."""

    width: int

    @nn.compact
    def __call__(self, own: Array, coarser: Array) -> Float[Array, "B h w width"]:
        h = nn.Dense(self.width, name="own")(own)
        h = h + upsample(nn.Dense(self.width, name="coarser")(coarser))
        return nn.relu(h + _Conv3x3(self.width, name="around")(nn.relu(h)))


class _Output(nn.Module):
    """`C hidden + D own`."""

    size: int

    @nn.compact
    def __call__(self, hidden: Array, own: Array) -> Float[Array, "B h w size"]:
        direct = nn.Dense(self.size, use_bias=False, name="direct")(own)
        return nn.Dense(self.size, name="hidden")(hidden) + direct


class _Conv3x3(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "B h w C"]) -> Float[Array, "B h w features"]:
        initial = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
        kernel = self.param("kernel", initial, (3, 3, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        x = convolution.conv2d(x, kernel, strides=1, padding="SAME")
        return x + bias.reshape(1, 1, 1, -1)

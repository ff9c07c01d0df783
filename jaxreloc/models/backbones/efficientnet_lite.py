"""EfficientNet-lite0 up to its global average pooling.

Source: Tan, Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML
2019, in TensorFlow's "lite" form: no squeeze-and-excitation, ReLU6 for swish, "SAME" padding.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxreloc.models import layers
from jaxreloc.models.backbones.features import Features, check_frozen

PIXEL_MEAN = (127.0, 127.0, 127.0)
PIXEL_STD = (128.0, 128.0, 128.0)
EPSILON = 1e-3

STEM_FEATURES = 32
POOLED_FEATURES = 1280
# (blocks, output channels, kernel size, stride of the first block, expansion) of each stage.
STAGES = (
    (1, 16, 3, 1, 1),
    (2, 24, 3, 2, 6),
    (2, 40, 5, 2, 6),
    (3, 80, 3, 2, 6),
    (3, 112, 5, 1, 6),
    (4, 192, 5, 2, 6),
    (1, 320, 3, 1, 6),
)


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution, 1x1 projection; a shortcut where the shape stays."""

    features: int
    kernel_size: int
    strides: int
    expansion: int
    compute: layers.Compute

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], train: bool) -> Float[Array, "B h w D"]:
        shortcut, hidden = x, x.shape[-1] * self.expansion
        depthwise = self._conv(
            "depthwise", hidden, self.kernel_size, strides=self.strides, depthwise=True
        )
        project = self._conv("project", self.features, 1)
        if self.expansion > 1:
            x = nn.relu6(self._conv("expand", hidden, 1)(x, train))
        x = project(nn.relu6(depthwise(x, train)), train)
        return shortcut + x if x.shape == shortcut.shape else x

    def _conv(self, name: str, features: int, kernel_size: int, **options) -> layers.ConvNorm:
        return layers.ConvNorm(
            features, kernel_size, self.compute, epsilon=EPSILON, name=name, **options
        )


class EfficientNetLite0(nn.Module):
    """RGB images of 0..255 to features; `(images - 127) / 128` is applied here.

    The cell (0, 0) of a map of stride s lies at pixel ((s - 1) / 2, (s - 1) / 2) where the image's
    sides are multiples of s.

    Attributes:
      taps: names of the blocks whose outputs to return as feature maps: `block4` is the last of
        stride 8 (40 channels), `block10` the last of stride 16 (112 channels).
      frozen_until: the last block that training leaves as it is, statistics included; None
        trains all.
    """

    compute: layers.Compute
    taps: tuple[str, ...] = ()
    frozen_until: str | None = None

    @nn.compact
    def __call__(self, images: Array, train: bool) -> Features:
        options = {"compute": self.compute, "epsilon": EPSILON}
        learns = train and self.frozen_until is None
        x = layers.normalise_pixels(images, PIXEL_MEAN, PIXEL_STD)
        stem = layers.ConvNorm(STEM_FEATURES, 3, strides=2, name="stem", **options)
        x = nn.relu6(stem(x, learns))
        block = layers.maybe_remat(InvertedResidual, self.compute)
        maps = {}
        for count, features, kernel_size, first_stride, expansion in STAGES:
            for i in range(count):
                strides = first_stride if i == 0 else 1
                name = f"block{len(maps)}"
                layer = block(features, kernel_size, strides, expansion, self.compute, name=name)
                x = maps[name] = layer(x, learns)
                if name == self.frozen_until:
                    x, learns = jax.lax.stop_gradient(x), train
        check_frozen(self.frozen_until, maps)
        x = nn.relu6(layers.ConvNorm(POOLED_FEATURES, 1, name="top", **options)(x, train))
        taps = {name: maps[name].astype(jnp.float32) for name in self.taps}
        return Features(layers.global_average(x), taps)

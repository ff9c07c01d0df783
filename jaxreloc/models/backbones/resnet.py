"""ResNet-18 and ResNet-34 up to their global average pooling.

Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, table 1,
with torchvision's padding (as many zeros on each side), so that its weights fit.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxreloc.models import layers
from jaxreloc.models.backbones.features import Features, check_frozen
from jaxreloc.models.kernels import convolution

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


class BasicBlock(nn.Module):
    """`relu(shortcut(x) + norm(conv(relu(norm(conv(x))))))`, both convolutions 3x3."""

    features: int
    strides: int
    compute: layers.Compute

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], train: bool) -> Float[Array, "B h w D"]:
        shortcut = x
        x = self._conv("conv1", 3, self.strides)(x, train)
        x = self._conv("conv2", 3)(nn.relu(x), train)
        if self.strides != 1 or shortcut.shape[-1] != self.features:
            shortcut = self._conv("downsample", 1, self.strides)(shortcut, train)
        return nn.relu(shortcut + x)

    def _conv(self, name: str, kernel_size: int, strides: int = 1) -> layers.ConvNorm:
        return layers.ConvNorm(
            self.features,
            kernel_size,
            self.compute,
            strides=strides,
            padding=kernel_size // 2,
            name=name,
        )


class ResNet(nn.Module):
    """RGB images of 0..255 to features; ImageNet's mean and standard deviation are applied here.

    Attributes:
      blocks: residual blocks of the four stages.
      taps: names of the stages (`layer1` .. `layer4`, strides 4 .. 32) to return as feature maps.
      frozen_until: the last stage that training leaves as it is, statistics included; None
        trains all.
    """

    blocks: tuple[int, ...]
    compute: layers.Compute
    taps: tuple[str, ...] = ()
    frozen_until: str | None = None

    @nn.compact
    def __call__(self, images: Array, train: bool) -> Features:
        x = layers.normalise_pixels(images, IMAGENET_MEAN, IMAGENET_STD)
        learns = train and self.frozen_until is None
        x = layers.ConvNorm(64, 7, self.compute, strides=2, padding=3, name="conv1")(x, learns)
        x = convolution.max_pool(nn.relu(x))
        block = layers.maybe_remat(BasicBlock, self.compute)
        maps = {}
        for stage, count in enumerate(self.blocks):
            for i in range(count):
                strides = 2 if stage > 0 and i == 0 else 1
                name = f"layer{stage + 1}_{i}"
                x = block(64 * 2**stage, strides, self.compute, name=name)(x, learns)
            maps[f"layer{stage + 1}"] = x
            if f"layer{stage + 1}" == self.frozen_until:
                x, learns = jax.lax.stop_gradient(x), train
        check_frozen(self.frozen_until, maps)
        taps = {name: maps[name].astype(jnp.float32) for name in self.taps}
        return Features(layers.global_average(x), taps)


RESNET18_BLOCKS = (2, 2, 2, 2)
RESNET34_BLOCKS = (3, 4, 6, 3)

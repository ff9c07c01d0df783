"""The layers that backbones and heads share: a linear map followed by batch normalisation."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxreloc.models.kernels import convolution
from jaxreloc.models.kernels.channels import channel_broadcast, channel_sum

BATCH_NORM_MOMENTUM = 0.9

# The collection of kernels that batch normalisation with running statistics is folded into. Where
# it is present, inference uses it; applying a network with it mutable makes it (`inference.fold`).
FOLDED = "folded"


@dataclasses.dataclass(frozen=True)
class Compute:
    """How a network computes, apart from what it computes.

    Attributes:
      dtype: of activations and products; parameters, batch statistics and outputs stay float32.
      axis_name: the pmap axis over which batch statistics are averaged in training, if any.
      remat: recompute the activations of each block in the backward pass instead of keeping them.
    """

    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None
    remat: bool = False


class ConvNorm(nn.Module):
    """A convolution without bias, then batch normalisation over all but the channel axis.

    Attributes:
      features: output channels; must equal the input's where `depthwise`.
      kernel_size: side of the square kernel.
      strides: of both axes.
      padding: "SAME" (as TensorFlow's, more on the far side), or the rows and columns of zeros
        on each side.
      depthwise: filter each channel by itself.
      epsilon: added to the variance.
    """

    features: int
    kernel_size: int
    compute: Compute
    strides: int = 1
    padding: str | int = "SAME"
    depthwise: bool = False
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], train: bool) -> Float[Array, "B h w D"]:
        x = x.astype(self.compute.dtype)
        geometry = {"strides": self.strides, "depthwise": self.depthwise}
        if not train and (folded := self.folded()):
            x = convolution.conv2d_prepared(x, folded[0], padding=self.padding, **geometry)
            return x + folded[1].reshape(1, 1, 1, -1)
        size = self.kernel_size
        channels, fan = (1, "fan_in") if self.depthwise else (x.shape[-1], "fan_out")
        initial = nn.initializers.variance_scaling(2.0, fan, "normal")
        kernel = self.param("kernel", initial, (size, size, channels, self.features))
        norm = BatchNorm(self.compute, self.epsilon, name="norm")
        x = convolution.conv2d(x, kernel.astype(x.dtype), padding=self.padding, **geometry)
        x = norm(x, train)
        if self.is_mutable_collection(FOLDED) and not self.is_initializing():
            scaled, bias = _fold(kernel, norm)
            self.put_variable(FOLDED, "kernel", convolution.prepare_kernel(scaled, **geometry))
            self.put_variable(FOLDED, "bias", bias)
        return x

    def folded(self) -> tuple[Array, Float[Array, "D"]] | None:
        """Prepared kernel and bias that inference uses, where normalisation has been folded."""
        if not self.has_variable(FOLDED, "kernel"):
            return None
        kernel, bias = (self.get_variable(FOLDED, name) for name in ("kernel", "bias"))
        return kernel.astype(self.compute.dtype), bias.astype(self.compute.dtype)


class DenseNorm(nn.Module):
    """A linear layer without bias, then batch normalisation over the batch axis."""

    features: int
    compute: Compute

    @nn.compact
    def __call__(self, x: Float[Array, "B C"], train: bool) -> Float[Array, "B D"]:
        shape = (x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        x = jnp.dot(x.astype(self.compute.dtype), kernel.astype(self.compute.dtype))
        return BatchNorm(self.compute, name="norm")(x, train)


class BatchNorm(nn.Module):
    """`(x - mean) / sqrt(var + epsilon) * scale + bias`, as `flax.linen.BatchNorm` has it.

    In training, mean and variance are those of the batch, over all axes but the last and over the
    devices of `compute.axis_name`; the running ones are updated where `batch_stats` is mutable.
    Statistics are float32 whatever the compute type.
    """

    compute: Compute
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Float[Array, "*batch C"], train: bool) -> Float[Array, "*batch C"]:
        channels = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, channels)
        bias = self.param("bias", nn.initializers.zeros, channels)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels)
        x = x.astype(jnp.float32)
        if train:
            mean, var = self._batch_statistics(x)
            if self.is_mutable_collection("batch_stats") and not self.is_initializing():
                for running, batch in ((running_mean, mean), (running_var, var)):
                    kept = BATCH_NORM_MOMENTUM * running.value
                    running.value = kept + (1 - BATCH_NORM_MOMENTUM) * batch
        else:
            mean, var = running_mean.value, running_var.value
        factor = scale * jax.lax.rsqrt(var + self.epsilon)
        shift = bias - mean * factor
        x = x * channel_broadcast(factor, x.shape) + channel_broadcast(shift, x.shape)
        return x.astype(self.compute.dtype)

    def _batch_statistics(self, x: Array) -> tuple[Float[Array, "C"], Float[Array, "C"]]:
        count = x.size // x.shape[-1]
        moments = channel_sum(x) / count, channel_sum(jnp.square(x)) / count
        if self.compute.axis_name is not None and not self.is_initializing():
            moments = jax.lax.pmean(moments, self.compute.axis_name)
        mean, mean_square = moments
        return mean, jnp.maximum(mean_square - jnp.square(mean), 0)


def _fold(kernel: Array, norm: BatchNorm) -> tuple[Array, Float[Array, "D"]]:
    """Kernel and bias of the convolution that equals `norm` after a convolution by `kernel`."""
    mean, var = (norm.get_variable("batch_stats", name) for name in ("mean", "var"))
    scale = norm.get_variable("params", "scale") * jax.lax.rsqrt(var + norm.epsilon)
    bias = norm.get_variable("params", "bias") - mean * scale
    return kernel * scale.reshape(1, 1, 1, -1), bias


def maybe_remat(block: type[nn.Module], compute: Compute) -> type[nn.Module]:
    """`block`, whose call is `(x, train)`, rematerialised where `compute` asks for it."""
    return nn.remat(block, static_argnums=(2,)) if compute.remat else block


def global_average(x: Float[Array, "B h w C"]) -> Float[Array, "B C"]:
    """The mean over rows and columns, in float32."""
    return jnp.mean(x.astype(jnp.float32), axis=(1, 2))


def normalise_pixels(
    images: Array, mean: tuple[float, ...], std: tuple[float, ...]
) -> Float[Array, "B H W 3"]:
    """`(images - mean) / std` per channel; `images` are RGB in 0..255, of any number type."""
    shape = (1, 1, 1, 3)
    mean, std = jnp.asarray(mean).reshape(shape), jnp.asarray(std).reshape(shape)
    return (images.astype(jnp.float32) - mean) / std


@jax.named_scope("l2_normalise")
def l2_normalise(x: Float[Array, "*B D"], epsilon: float = 1e-12) -> Float[Array, "*B D"]:
    """`x / max(|x|, epsilon)` along the last axis, with a finite gradient at zero."""
    squared = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(squared, epsilon**2))

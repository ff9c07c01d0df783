"""Convolutions and pooling, the fast kernel for the backend in use chosen in this one place.

On GPUs and TPUs, XLA's own kernels are fast. On CPUs they are not always: there, a depthwise
convolution is written as shifted multiply-adds, a strided one of few channels as an unstrided one
of more channels, for inference a 3x3 one by Winograd's method, and a maximum over windows by
comparisons. All of them equal XLA's up to rounding and can be differentiated.
`python -m benchmarks.networks.cpu_kernels` shows what each saves.
"""

import concurrent.futures
import functools
import os
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, PyTree

from jaxreloc.models.kernels import depthwise as shifted
from jaxreloc.models.kernels import pooling, winograd

# With fewer channels, a convolution of stride 2 gains from moving 2x2 pixels into the channels.
FEW_CHANNELS = 8
# With more weights, reading the transformed kernel takes longer than Winograd's method saves.
MOST_WINOGRAD_WEIGHTS = 512 * 256

Pads = tuple[tuple[int, int], tuple[int, int]]


def conv2d(
    x: Float[Array, "B H W C"],
    kernel: Float[Array, "k k c D"],
    *,
    strides: int,
    padding: str | int,
    depthwise: bool = False,
) -> Float[Array, "B h w D"]:
    """Cross-correlation of `x` with `kernel`, as `jax.lax.conv_general_dilated` defines it.

    Args:
      strides: of both axes.
      padding: "SAME", or the rows and columns of zeros on each side.
      depthwise: each channel is filtered by itself; `c` is then 1 and `D` equals `C`.
    """
    pads = _pads(x.shape, kernel.shape[0], strides, padding)
    if _on_cpu() and depthwise:
        return shifted.depthwise(_unfused(x), kernel, strides, pads)
    if _on_cpu() and strides == 2 and kernel.shape[0] > 2 and x.shape[-1] < FEW_CHANNELS:
        return _space_to_depth(x, kernel, pads)
    if _on_cpu():
        return _dense_on_cpu(x, kernel, strides, pads)
    return _plain(x, kernel, strides, pads, depthwise)


def prepare_kernel(kernel: Float[Array, "k k c D"], *, strides: int, depthwise: bool) -> Array:
    """The kernel as `conv2d_prepared` takes it: computed once, used for many images."""
    size, _, channels, features = kernel.shape
    few_weights = channels * features <= MOST_WINOGRAD_WEIGHTS
    if _on_cpu() and size == 3 and strides == 1 and not depthwise and few_weights:
        return winograd.transform_kernel(kernel)
    return kernel


def conv2d_prepared(
    x: Float[Array, "B H W C"],
    prepared: Array,
    *,
    strides: int,
    padding: str | int,
    depthwise: bool = False,
) -> Float[Array, "B h w D"]:
    """`conv2d` with a kernel from `prepare_kernel`.

    Raises:
      ValueError: a padding other than "SAME" or 1 with a kernel that Winograd's method is to apply.
    """
    if prepared.ndim == winograd.TRANSFORMED_NDIM:
        if padding not in ("SAME", 1):
            raise ValueError(f"padding {padding!r}; a 3x3 kernel of stride 1 takes 'SAME' or 1")
        return winograd.conv3x3(x, prepared)
    return conv2d(x, prepared, strides=strides, padding=padding, depthwise=depthwise)


def max_pool(x: Float[Array, "B H W C"]) -> Float[Array, "B h w C"]:
    """The maximum of each 3x3 window, two pixels apart, with one pixel of padding on each side."""
    if _on_cpu():
        return pooling.max_pool(x)
    return nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))


def image_by_image(
    compiled: Callable[[Array], PyTree],
) -> Callable[[Float[Array, "B H W C"]], PyTree]:
    """`compiled`, a jitted function of a batch of images; on CPUs called for each image by itself.

    There, as many threads as there are cores take an image each: one image's activations stay in a
    core's cache, and its convolutions are too small to occupy several. One shape is compiled,
    whatever the batch.
    """

    def apply(images: Float[Array, "B H W C"]) -> PyTree:
        if not _on_cpu() or len(images) == 1:
            return compiled(images)
        one = lambda i: jax.block_until_ready(compiled(images[i : i + 1]))  # noqa: E731
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
            parts = list(threads.map(one, range(len(images))))
        return jax.tree.map(lambda *each: np.concatenate(each), *parts)

    return apply


def _plain(
    x: Array, kernel: Array, strides: int, pads: Pads, depthwise: bool = False
) -> Float[Array, "B h w D"]:
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(strides, strides),
        padding=pads,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1] if depthwise else 1,
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _dense_on_cpu(x: Array, kernel: Array, strides: int, pads: Pads) -> Float[Array, "B h w D"]:
    """XLA's convolution, with a kernel gradient that reads its operands from memory."""
    return _plain(x, kernel, strides, pads)


def _dense_forward(
    x: Array, kernel: Array, strides: int, pads: Pads
) -> tuple[Array, tuple[Array, Array]]:
    x = _unfused(x)
    return _plain(x, kernel, strides, pads), (x, kernel)


def _dense_backward(
    strides: int, pads: Pads, residuals: tuple[Array, Array], gradient: Array
) -> tuple[Array, Array]:
    convolve = functools.partial(_plain, strides=strides, pads=pads)
    return jax.vjp(convolve, *residuals)[1](_unfused(gradient))


_dense_on_cpu.defvjp(_dense_forward, _dense_backward)


def _unfused(x: Array) -> Array:
    """`x`, which XLA's CPU compiler will not compute again at each use.

    The gradient of a kernel needs transposed operands. The compiler fuses into their strided reads
    whatever elementwise operations made them (a block's normalisation, sum and ReLU), unless it
    counts the last one as expensive, as it does a division by an array. `optimization_barrier` is
    gone before fusion, and a division by a constant becomes a product.
    """
    return x / (1 + 0 * x)


def _space_to_depth(x: Array, kernel: Array, pads: Pads) -> Float[Array, "B h w D"]:
    """A convolution of stride 2 as one of stride 1 with 2x2 pixels in the channels."""
    size, _, channels, features = kernel.shape
    half = -(-size // 2)
    # Pixels beyond the last output's are cropped by a negative padding.
    (rows, row_pads), (columns, column_pads) = (
        _paired_extent(extent, size, pad) for extent, pad in zip(x.shape[1:3], pads)
    )
    zero = jnp.zeros((), x.dtype)
    x = jax.lax.pad(x, zero, [(0, 0, 0), (*row_pads, 0), (*column_pads, 0), (0, 0, 0)])
    x = x.reshape(-1, rows, 2, columns, 2, channels).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(-1, rows, columns, 4 * channels)
    odd = 2 * half - size
    kernel = jnp.pad(kernel, ((0, odd), (0, odd), (0, 0), (0, 0)))
    kernel = kernel.reshape(half, 2, half, 2, channels, features).transpose(0, 2, 1, 3, 4, 5)
    kernel = kernel.reshape(half, half, 4 * channels, features)
    return _dense_on_cpu(x, kernel, 1, ((0, 0), (0, 0)))


def _paired_extent(extent: int, size: int, pads: tuple[int, int]) -> tuple[int, tuple[int, int]]:
    """The pairs of pixels that a convolution of stride 2 reads, and the padding that makes them."""
    outputs = (extent + sum(pads) - size) // 2 + 1
    pairs = outputs - 1 + -(-size // 2)
    return pairs, (pads[0], 2 * pairs - extent - pads[0])


def _pads(shape: tuple[int, ...], size: int, strides: int, padding: str | int) -> Pads:
    """The rows and columns of zeros before and after the image."""
    if padding == "SAME":
        return tuple(jax.lax.padtype_to_pads(shape[1:3], (size, size), (strides, strides), padding))
    return ((padding, padding), (padding, padding))


def _on_cpu() -> bool:
    return jax.default_backend() == "cpu"

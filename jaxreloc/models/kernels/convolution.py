"""Convolutions and pooling, the fast kernel for the backend in use chosen in this one place.

On GPUs and TPUs, XLA's own kernels are fast. On CPUs they are not always: there, a depthwise
convolution is written as shifted multiply-adds, for inference a 3x3 one by Winograd's method, and a
maximum over windows by comparisons. All of them equal XLA's up to rounding and can be
differentiated. `python -m benchmarks.networks.cpu_kernels` shows what each saves.
"""

import concurrent.futures
import os
from collections.abc import Callable

import jax
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Num, PyTree

from jaxreloc.compilation.unfused import unfused
from jaxreloc.models.kernels import depthwise as shifted
from jaxreloc.models.kernels import pooling, winograd

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
        return shifted.depthwise(unfused(x), kernel, strides, pads)
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
) -> Callable[[Num[Array, "B H W C"]], PyTree]:
    """`compiled`, a jitted function of a batch of images; on CPUs called for each image by itself.

    There, as many threads as there are cores take an image each: one image's activations stay in a
    core's cache, and its convolutions are too small to occupy several. One shape is compiled,
    whatever the batch.
    """

    def apply(images: Num[Array, "B H W C"]) -> PyTree:
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


def _pads(shape: tuple[int, ...], size: int, strides: int, padding: str | int) -> Pads:
    """The rows and columns of zeros before and after the image."""
    if padding == "SAME":
        return tuple(jax.lax.padtype_to_pads(shape[1:3], (size, size), (strides, strides), padding))
    return ((padding, padding), (padding, padding))


def _on_cpu() -> bool:
    return jax.default_backend() == "cpu"

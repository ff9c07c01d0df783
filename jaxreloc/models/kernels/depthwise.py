"""Depthwise convolution as a multiply-add of a shifted image for each weight, for CPUs."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxreloc.models.kernels.channels import channel_broadcast, channel_sum

Pads = tuple[tuple[int, int], tuple[int, int]]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def depthwise(
    x: Float[Array, "B H W C"], kernel: Float[Array, "k k 1 C"], strides: int, pads: Pads
) -> Float[Array, "B h w C"]:
    """`y[h, w] = sum_ij x[strides h + i, strides w + j] kernel[i, j]` for each channel.

    Args:
      strides: k at most.
      pads: rows and columns of zeros before and after the image.
    """
    size = kernel.shape[0]
    x = _pad(x, pads)
    rows, columns = ((n - size) // strides + 1 for n in x.shape[1:3])
    offsets = [(i, j) for i in range(size) for j in range(size)]
    return sum(
        _weighted(x[:, i::strides, j::strides][:, :rows, :columns], kernel[i, j, 0])
        for i, j in offsets
    )


def _forward(x: Array, kernel: Array, strides: int, pads: Pads) -> tuple[Array, tuple]:
    return depthwise(x, kernel, strides, pads), (x, kernel)


def _backward(
    strides: int, pads: Pads, residuals: tuple[Array, Array], gradient: Array
) -> tuple[Array, Array]:
    x, kernel = residuals
    x_gradient = _image_gradient(gradient, kernel, strides, pads, x.shape)
    return x_gradient, _kernel_gradient(x, gradient, kernel, strides, pads)


def _image_gradient(
    gradient: Array, kernel: Array, strides: int, pads: Pads, shape: tuple[int, ...]
) -> Array:
    """At padded pixel `strides u + a`, the sum over the weights i = a, a + strides, ... of the
    gradient at `u - i // strides`; likewise for columns."""
    size, batch, channels = kernel.shape[0], shape[0], shape[-1]
    reach = (size - 1) // strides
    around = _pad(gradient, ((reach, reach), (reach, reach)))
    rows, columns = (n + reach for n in gradient.shape[1:3])

    def phase(a: int, b: int) -> Array:
        terms = []
        for i in range(a, size, strides):
            for j in range(b, size, strides):
                up, left = reach - i // strides, reach - j // strides
                shifted = around[:, up : up + rows, left : left + columns]
                terms.append(_weighted(shifted, kernel[i, j, 0]))
        return sum(terms)

    phases = [[phase(a, b) for b in range(strides)] for a in range(strides)]
    padded = jnp.stack([jnp.stack(row, axis=3) for row in phases], axis=2)
    padded = padded.reshape(batch, strides * rows, strides * columns, channels)
    crops = [
        (-pad[0], extent + pad[0] - padded_extent)
        for pad, extent, padded_extent in zip(pads, shape[1:3], padded.shape[1:3])
    ]
    return _pad(padded, crops)


def _kernel_gradient(
    x: Array, gradient: Array, kernel: Array, strides: int, pads: Pads
) -> Float[Array, "k k 1 C"]:
    """For each weight, the sum of the gradient times the shifted image; one image at a time, which
    the caches hold."""
    size = kernel.shape[0]

    def add_image(total: Array, image_and_gradient: tuple[Array, Array]) -> tuple[Array, None]:
        image, image_gradient = (each[None] for each in image_and_gradient)
        image = _pad(image, pads)
        _, rows, columns, _ = image_gradient.shape
        sums = [
            channel_sum(image[:, i::strides, j::strides][:, :rows, :columns] * image_gradient)
            for i in range(size)
            for j in range(size)
        ]
        return total + jnp.stack(sums).reshape(kernel.shape), None

    return jax.lax.scan(add_image, jnp.zeros_like(kernel), (x, gradient))[0]


def _weighted(x: Float[Array, "B H W C"], weight: Float[Array, "C"]) -> Float[Array, "B H W C"]:
    return x * channel_broadcast(weight, x.shape)


def _pad(x: Array, pads: Pads) -> Array:
    """Zeros around the image; negative counts crop it."""
    zero = jnp.zeros((), x.dtype)
    return jax.lax.pad(x, zero, [(0, 0, 0), (*pads[0], 0), (*pads[1], 0), (0, 0, 0)])


depthwise.defvjp(_forward, _backward)

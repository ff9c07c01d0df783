"""Where images show small patches of another one, to a fraction of a pixel, by their grey values.

A patch T(d), d within `radius` of its place in the template image, is looked for in another image
I, in which a known linear map J places its pixels:

    minimise over t   sum_d g(d) (n[I(y + t + J d)] - n[T(d)])^2

n[.] takes away the mean and divides by the standard deviation, so that brightness and contrast do
not count; g is a Gaussian window. Each step solves for a shift s of the template, whose gradients
never change, and moves t by -J s: the inverse compositional algorithm (Baker and Matthews, IJCV
2004), with gain and bias projected out of the gradients.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

WINDOW = 0.7  # deviation of the Gaussian window, of the radius
LONGEST_STEP = 1.0  # template pixels
SMALLEST_DEVIATION = 1e-3  # grey values
# Of the 2 x 2 system, relative to its trace: what has one direction of texture moves along it only.
RIDGE = 1e-3


class Templates(NamedTuple):
    """K patches of (2 radius + 1)^2 = P pixels.

    Attributes:
      values: n[T].
      gradients: of these by x and y, without the part that gain and bias explain.
      inverse: of the sum of g times the gradients' outer products.
      texture: the smaller eigenvalue of that sum, in squared grey values: what fixes the patch in
        the direction in which it is least fixed (Shi and Tomasi, CVPR 1994).
    """

    values: Float[Array, "K P"]
    gradients: Float[Array, "K 2 P"]
    inverse: Float[Array, "K 2 2"]
    texture: Float[Array, "K"]


class Alignment(NamedTuple):
    """M patches found.

    Attributes:
      places: y + t, pixels (x, y).
      similarity: the normalised cross-correlation there, -1 to 1; 0 outside the image.
    """

    places: Float[Array, "M 2"]
    similarity: Float[Array, "M"]


def offsets(radius: int) -> Float[np.ndarray, "P 2"]:
    """The pixels (x, y) of a patch around its place."""
    side = np.arange(-radius, radius + 1, dtype=np.float32)
    return np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)


def templates(
    image: UInt8[Array, "H W"], places: Float[Array, "K 2"], radius: int
) -> Templates:
    """The patches around `places`, pixels (x, y); beyond the border its last pixels go on."""
    g, side = _window(radius), 2 * radius + 3
    pixels = places[:, None] + offsets(radius + 1)[None]
    first = jnp.zeros(pixels.shape[:2], jnp.int32)
    wide = _sampled(image[None], first, pixels).reshape(-1, side, side)
    slope_x = (wide[:, 1:-1, 2:] - wide[:, 1:-1, :-2]) / 2
    slope_y = (wide[:, 2:, 1:-1] - wide[:, :-2, 1:-1]) / 2
    patch = (len(places), -1)
    values, deviation = _normalised(wide[:, 1:-1, 1:-1].reshape(patch), g)
    gradients = jnp.stack([slope_x.reshape(patch), slope_y.reshape(patch)], axis=1)
    gradients = gradients / deviation[:, None, None]
    gradients = gradients - (gradients @ g)[..., None]
    along = ((gradients * values[:, None]) @ g)[..., None]
    gradients = gradients - along * values[:, None]
    system = jnp.einsum("kap,kbp,p->kab", gradients, gradients, g)
    trace, difference = system[:, 0, 0] + system[:, 1, 1], system[:, 0, 0] - system[:, 1, 1]
    smallest = trace / 2 - jnp.sqrt(difference**2 / 4 + system[:, 0, 1] ** 2)
    ridge = (RIDGE * trace + 1e-6)[:, None, None] * jnp.eye(2)[None]
    texture = jnp.maximum(smallest, 0.0) * deviation**2
    return Templates(values, gradients, jnp.linalg.inv(system + ridge), texture)


def align(
    patches: Templates,
    patch: Int[Array, "M"],
    images: UInt8[Array, "N H W"],
    image: Int[Array, "M"],
    start: Float[Array, "M 2"],
    jacobian: Float[Array, "M 2 2"],
    *,
    radius: int,
    steps: int,
) -> Alignment:
    """Finds `patch` of the templates in `image` of the images, from `start` on.

    Args:
      jacobian: J; how far the image's pixel (x, y) moves with the template's.
    """
    g = _window(radius)
    values, inverse = patches.values[patch], patches.inverse[patch]
    gradients = patches.gradients[patch]
    base = start[:, None] + jnp.einsum("mab,pb->mpa", jacobian, jnp.asarray(offsets(radius)))
    index = jnp.broadcast_to(image[:, None], base.shape[:2])

    def seen(moved):
        return _normalised(_sampled(images, index, base + moved[:, None]), g)[0]

    def step(_, moved):
        error = seen(moved) - values
        right = (gradients * error[:, None]) @ g
        shift = jnp.einsum("mab,mb->ma", inverse, right)
        length = jnp.linalg.norm(shift, axis=-1, keepdims=True)
        shift = shift * jnp.minimum(1.0, LONGEST_STEP / (length + 1e-6))
        return moved - jnp.einsum("mab,mb->ma", jacobian, shift)

    moved = jax.lax.fori_loop(0, steps, step, jnp.zeros_like(start))
    places = start + moved
    similarity = (seen(moved) * values) @ g
    height, width = images.shape[1:]
    last = jnp.asarray([width - 1.0, height - 1.0])
    inside = jnp.all((places >= radius) & (places <= last[None] - radius), axis=-1)
    return Alignment(places, jnp.where(inside, similarity, 0.0))


def _window(radius: int) -> Float[np.ndarray, " P"]:
    """Weights of the pixels, of sum 1."""
    squared = np.sum(offsets(radius) ** 2, axis=-1)
    weights = np.exp(-squared / (2 * (WINDOW * radius) ** 2))
    return (weights / weights.sum()).astype(np.float32)


def _normalised(
    values: Float[Array, "M P"], window: Float[np.ndarray, " P"]
) -> tuple[Float[Array, "M P"], Float[Array, "M"]]:
    """Of mean 0 and deviation 1 in the window, and the deviation that they had."""
    values = values - (values @ window)[:, None]
    deviation = jnp.sqrt(values**2 @ window) + SMALLEST_DEVIATION
    return values / deviation[:, None], deviation


def _sampled(
    images: UInt8[Array, "N H W"], image: Int[Array, "M P"], pixels: Float[Array, "M P 2"]
) -> Float[Array, "M P"]:
    """Bilinear; beyond the border its last pixels go on."""
    _, height, width = images.shape
    x = jnp.clip(pixels[..., 0], 0.0, width - 1.0)
    y = jnp.clip(pixels[..., 1], 0.0, height - 1.0)
    column = jnp.minimum(x.astype(jnp.int32), width - 2)
    row = jnp.minimum(y.astype(jnp.int32), height - 2)
    right, down = x - column, y - row
    flat = images.reshape(-1)
    corner = (image * height + row) * width + column

    def at(offset: int) -> Float[Array, "M P"]:
        return flat.at[corner + offset].get(mode="promise_in_bounds").astype(jnp.float32)

    top = at(0) * (1 - right) + at(1) * right
    bottom = at(width) * (1 - right) + at(width + 1) * right
    return top * (1 - down) + bottom * down

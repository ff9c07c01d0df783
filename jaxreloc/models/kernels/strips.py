"""The convolutions of an inverted residual block, a few rows at a time, for CPUs.

The expanded activations are the largest of a network, and nothing but the block's own depthwise
convolution reads them. Made and used strip by strip, they stay in the cache, and the memory for all
of them is not needed.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxreloc.models.kernels.depthwise import Pads, depthwise

ROWS = 4  # of the output in a strip

KernelAndBias = tuple[Float[Array, "k k c D"], Float[Array, "D"]]


def inverted_residual(
    x: Float[Array, "B H W C"],
    expand: KernelAndBias,
    filters: KernelAndBias,
    project: KernelAndBias,
    strides: int,
    pads: Pads,
) -> Float[Array, "B h w D"]:
    """`project(relu6(filters(relu6(expand(x)))))`; the filters are depthwise, the others 1x1.

    Args:
      strides, pads: of the filters; the rows and columns of zeros before and after the image.
    """
    size = filters[0].shape[0]
    batch, height, width, _ = x.shape
    (top, bottom), (left, right) = pads
    rows = (height + top + bottom - size) // strides + 1
    count = -(-rows // ROWS)
    read = (ROWS - 1) * strides + size  # rows of the input that a strip sees
    below = (count - 1) * ROWS * strides + read - height - top

    # With the bias as a channel of ones, what is expanded of the padding is zero.
    expansion = jnp.concatenate([expand[0][0, 0], expand[1][None]])
    x = jnp.concatenate([x, jnp.ones((batch, height, width, 1), x.dtype)], axis=-1)
    zero = jnp.zeros((), x.dtype)
    x = jax.lax.pad(x, zero, [(0, 0, 0), (top, below, 0), (left, right, 0), (0, 0, 0)])

    def strip(index: Array) -> Float[Array, "ROWS w D"]:
        image, row = jnp.divmod(index, count)
        shape = (1, read, *x.shape[2:])
        seen = jax.lax.dynamic_slice(x, (image, row * ROWS * strides, 0, 0), shape)
        hidden = nn.relu6(jnp.dot(seen, expansion))
        hidden = depthwise(hidden, filters[0], strides, ((0, 0), (0, 0)))
        hidden = nn.relu6(hidden + filters[1].reshape(1, 1, 1, -1))
        return (jnp.dot(hidden, project[0][0, 0]) + project[1].reshape(1, 1, 1, -1))[0]

    strips = jax.lax.map(strip, jnp.arange(batch * count))
    return strips.reshape(batch, count * ROWS, *strips.shape[2:])[:, :rows]

"""What is compared between two images: a unit vector for each cell of a fine and a coarse grid."""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from jaxreloc.models import layers

FINE_STRIDE = 8
COARSE_STRIDE = 16
# Weight of the fine map beside the coarse one, which sees more and is less often ambiguous.
FINE_WEIGHT = 0.6


@struct.dataclass
class CellDescriptors:
    """Descriptors of B images, as they are kept of each database image.

    Attributes:
      fine: unit vectors of the cells of stride FINE_STRIDE.
      coarse: unit vectors of the cells of COARSE_STRIDE; the cell (r, c) covers the fine cells
        (2r, 2c) to (2r + 1, 2c + 1).
    """

    fine: Float[Array, "B 2*h 2*w C"]
    coarse: Float[Array, "B h w D"]


def fine_grid(descriptors: CellDescriptors) -> Float[Array, "B 2*h 2*w C+D"]:
    """One unit vector for each fine cell: its own, and the coarse map interpolated to its centre."""
    coarse = layers.l2_normalise(upsample(descriptors.coarse.astype(jnp.float32)))
    return _joined(descriptors.fine.astype(jnp.float32), coarse)


def coarse_grid(descriptors: CellDescriptors) -> Float[Array, "B h w C+D"]:
    """One unit vector for each coarse cell: the mean of its four fine cells, and its own."""
    fine = descriptors.fine.astype(jnp.float32)
    batch, height, width, channels = fine.shape
    blocks = fine.reshape(batch, height // 2, 2, width // 2, 2, channels)
    fine = layers.l2_normalise(jnp.mean(blocks, axis=(2, 4)))
    return _joined(fine, descriptors.coarse.astype(jnp.float32))


def upsample(grid: Float[Array, "B h w D"]) -> Float[Array, "B 2*h 2*w D"]:
    """Bilinear interpolation at the centres of the four quarters of each cell."""
    batch, height, width, channels = grid.shape
    return jax.image.resize(grid, (batch, 2 * height, 2 * width, channels), "bilinear")


def _joined(fine: Array, coarse: Array) -> Array:
    return layers.l2_normalise(jnp.concatenate([FINE_WEIGHT * fine, coarse], axis=-1))

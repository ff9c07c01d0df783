"""What is compared between two images: unit vectors for the cells of three grids."""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Shaped, UInt8

from jaxreloc.models import layers
from jaxreloc.models.kernels.packing import BlockBits, PackedGrid, pack, unpack

DETAIL_STRIDE = 4
FINE_STRIDE = 8
COARSE_STRIDE = 16
# Weight of the fine map beside the coarse one, which sees more and is less often ambiguous.
FINE_WEIGHT = 0.6


QUANTISATION = 127  # the entries of a unit vector are at most 1
# How a map keeps the grids; chosen on validation rooms (docs/experiments/map_size.md).
KEPT_BITS = {
    "detail": BlockBits(4, 2, 2, 0),
    "fine": BlockBits(2, 1, 1, 0),
    "coarse": BlockBits(4, 2, 2, 0),
}


@struct.dataclass
class CellDescriptors:
    """Descriptors of B images: unit vectors for the cells of each stride.

    The cell (r, c) of one grid covers the cells (2r, 2c) to (2r + 1, 2c + 1) of the grid before.

    Attributes:
      detail, fine, coarse: unit vectors, or what `quantise` or `packed` makes of them.
      is_joined: the fine and the coarse descriptors have seen each other and are compared as they
        are; otherwise each is joined with the other's first.
    """

    detail: Shaped[Array, "B 4*h 4*w E"] | PackedGrid
    fine: Shaped[Array, "B 2*h 2*w C"] | PackedGrid
    coarse: Shaped[Array, "B h w D"] | PackedGrid
    is_joined: bool = struct.field(pytree_node=False, default=False)


def quantise(descriptors: CellDescriptors) -> CellDescriptors:
    """The descriptors in eight bits an entry, to be kept of each database image."""
    return jax.tree.map(lambda x: jnp.round(QUANTISATION * x).astype(jnp.int8), descriptors)


def packed(descriptors: CellDescriptors) -> CellDescriptors:
    """The descriptors in one or two bits an entry, as a map keeps them.

    Unit vectors or what `quantise` gave; each grid becomes a `PackedGrid`.
    """
    return descriptors.replace(
        **{name: pack(getattr(descriptors, name), bits) for name, bits in KEPT_BITS.items()}
    )


def packed_outline(canvas_height: int, is_joined: bool) -> CellDescriptors:
    """What `packed` makes, of images of this height (pixels), with 0 for each array."""
    strides = {"detail": DETAIL_STRIDE, "fine": FINE_STRIDE, "coarse": COARSE_STRIDE}
    grids = {
        name: PackedGrid(0, 0, 0, bits=bits, height=canvas_height // strides[name])
        for name, bits in KEPT_BITS.items()
    }
    return CellDescriptors(**grids, is_joined=is_joined)


def restore(kept: CellDescriptors) -> CellDescriptors:
    """Unit vectors again from what `quantise` or `packed` gave; others stay as they are."""
    return jax.tree.map(unit_vectors, kept, is_leaf=_is_packed)


def unit_vectors(grid: Array | PackedGrid) -> Float[Array, "B H W C"]:
    """One grid of `restore`; cells of zeros stay zero."""
    if _is_packed(grid):
        return layers.l2_normalise(unpack(grid))
    if not jnp.issubdtype(grid.dtype, jnp.integer):
        return grid
    return layers.l2_normalise(grid.astype(jnp.float32))


def _is_packed(grid: Array | PackedGrid) -> bool:
    return isinstance(grid, PackedGrid)


def without_canvas(
    descriptors: CellDescriptors, images: UInt8[Array, "B H W 3"]
) -> CellDescriptors:
    """Zeros in the cells that are black all over, as the canvas around an image is."""

    def masked(grid: Array) -> Array:
        batch, height, width, _ = images.shape
        rows, columns = grid.shape[1:3]
        cells = images.reshape(batch, rows, height // rows, columns, width // columns * 3)
        return grid * jnp.any(cells > 0, axis=(2, 4))[..., None]

    return jax.tree.map(masked, descriptors)


def fine_grid(descriptors: CellDescriptors) -> Shaped[Array, "B H W D"]:
    """One unit vector a fine cell: its own, and the coarse map interpolated to its centre."""
    if descriptors.is_joined:
        return descriptors.fine
    coarse = layers.l2_normalise(upsample(descriptors.coarse))
    return _joined(descriptors.fine, coarse)


def coarse_grid(descriptors: CellDescriptors) -> Shaped[Array, "B h w D"]:
    """One unit vector for each coarse cell: the mean of its four fine cells, and its own."""
    if descriptors.is_joined:
        return descriptors.coarse
    batch, height, width, channels = descriptors.fine.shape
    blocks = descriptors.fine.reshape(batch, height // 2, 2, width // 2, 2, channels)
    fine = layers.l2_normalise(jnp.mean(blocks, axis=(2, 4)))
    return _joined(fine, descriptors.coarse)


def upsample(grid: Float[Array, "B h w D"]) -> Float[Array, "B 2*h 2*w D"]:
    """Bilinear interpolation at the centres of the four quarters of each cell."""
    for axis in (1, 2):
        size = grid.shape[axis]
        before, after = (
            jax.lax.slice_in_dim(grid, start, start + 1, axis=axis) for start in (0, size - 1)
        )
        before = jnp.concatenate([before, jax.lax.slice_in_dim(grid, 0, size - 1, axis=axis)], axis)
        after = jnp.concatenate([jax.lax.slice_in_dim(grid, 1, size, axis=axis), after], axis)
        halves = jnp.stack([0.75 * grid + 0.25 * before, 0.75 * grid + 0.25 * after], axis + 1)
        grid = halves.reshape(*grid.shape[:axis], 2 * size, *grid.shape[axis + 1 :])
    return grid


def _joined(fine: Array, coarse: Array) -> Array:
    return layers.l2_normalise(jnp.concatenate([FINE_WEIGHT * fine, coarse], axis=-1))

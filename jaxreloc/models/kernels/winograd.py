"""Winograd's minimal filtering for 3x3 convolutions of stride 1: 16 products where 36 are usual.

Two by two outputs y come from a 4x4 input tile d and the kernel g as
`y = A^T [(G g G^T) * (B^T d B)] A`; over channels the product is a matrix product for each of the
16 positions. Source: Lavin, Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016,
section 4.1, F(2x2, 3x3).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

TILE = 2
TRANSFORMED_NDIM = 3  # [16, C, D]; a kernel has four axes


def transform_kernel(kernel: Float[Array, "3 3 C D"]) -> Float[Array, "16 C D"]:
    """`G g G^T` of each pair of channels."""
    rows = _kernel_rows(kernel)
    columns = jnp.stack([_kernel_rows(rows[i]) for i in range(4)])
    return columns.reshape(16, *kernel.shape[2:])


def conv3x3(
    x: Float[Array, "B H W C"], transformed: Float[Array, "16 C D"]
) -> Float[Array, "B H W D"]:
    """The convolution of stride 1 with one row and column of zeros on each side."""
    batch, height, width, _ = x.shape
    tiles = _input_tiles(x)
    rows, columns = tiles.shape[2:4]
    flat = tiles.reshape(16, batch * rows * columns, x.shape[-1])
    products = jax.lax.dot_general(flat, transformed, (((2,), (1,)), ((0,), (0,))))
    y = _output_tiles(products.reshape(4, 4, batch, rows, columns, transformed.shape[-1]))
    return y[:, :height, :width]


def _kernel_rows(g: Float[Array, "3 ..."]) -> Float[Array, "4 ..."]:
    """G along the first axis."""
    ends, middle = (g[0] + g[2]) / 2, g[1] / 2
    return jnp.stack([g[0], ends + middle, ends - middle, g[2]])


def _input_tiles(x: Float[Array, "B H W C"]) -> Float[Array, "16 B h w C"]:
    """`B^T d B` of the overlapping 4x4 tiles of the padded input, two rows and columns apart."""
    batch, height, width, channels = x.shape
    rows, columns = -(-height // TILE), -(-width // TILE)
    far_rows, far_columns = 1 + TILE * rows - height, 1 + TILE * columns - width
    padded = jnp.pad(x, ((0, 0), (1, far_rows), (1, far_columns), (0, 0)))
    halves = padded.reshape(batch, rows + 1, TILE, columns + 1, TILE, channels)
    tiles = [
        tile
        for row in _tile_rows(halves[:, :, 0], halves[:, :, 1], axis=1)
        for tile in _tile_rows(row[:, :, :, 0], row[:, :, :, 1], axis=2)
    ]
    return jnp.stack(tiles)


def _tile_rows(even: Array, odd: Array, axis: int) -> tuple[Array, Array, Array, Array]:
    """`B^T` along one axis, where tile i has the rows even[i], odd[i], even[i + 1], odd[i + 1]."""
    count = even.shape[axis] - 1
    even, odd, next_even, next_odd = (
        jax.lax.slice_in_dim(x, start, start + count, axis=axis)
        for start in (0, 1)
        for x in (even, odd)
    )
    return even - next_even, odd + next_even, next_even - odd, odd - next_odd


def _output_tiles(m: Float[Array, "4 4 B h w D"]) -> Float[Array, "B H W D"]:
    """`A^T m A` of each tile, the tiles put side by side."""
    _, _, batch, rows, columns, channels = m.shape
    y = jnp.stack([jnp.stack(_tile_sums(row), axis=3) for row in _tile_sums(m)], axis=2)
    return y.reshape(batch, TILE * rows, TILE * columns, channels)


def _tile_sums(m: Array) -> tuple[Array, Array]:
    """`A^T` along the first axis."""
    return m[0] + m[1] + m[2], m[1] - m[2] - m[3]

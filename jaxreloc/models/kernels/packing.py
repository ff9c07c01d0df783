"""Grids of cell descriptors in few bits, as a map keeps them.

A grid is cut into blocks of two by two cells. With x_ij a channel's entry in row i and column j of
a block, less the channel's mean over the image, what is kept of the block are

    sum        (x_00 + x_01 + x_10 + x_11) / 2      rows     (x_00 + x_01 - x_10 - x_11) / 2
    columns    (x_00 - x_01 + x_10 - x_11) / 2      crossed  (x_00 - x_01 - x_10 + x_11) / 2

in as many bits as `BlockBits` says. The transform is orthonormal, and neighbouring cells are alike:
four fifths of a grid's variance lie in the sums, so that the bits go there. Each part is divided by
its deviation in the image, and rounded to one of 2^bits levels whose steps are the best for a
normal distribution. Every image takes the same number of bytes, and is read by itself.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Float16, Int8, Real, UInt8

# Deviations between the levels of a uniform quantiser of a normal distribution, by its bits: what
# Max tabulated ("Quantizing for minimum distortion", 1960).
STEPS = {1: 1.596, 2: 0.9957, 3: 0.586, 4: 0.3352}
SMALLEST = 1e-6  # deviation
LARGEST = 127  # of the levels of a cell


class BlockBits(NamedTuple):
    """Bits that each part of a block takes, in a channel; together 8, 4, 2 or 1.

    Those of a part that is left out are 0.
    """

    sums: int
    rows: int
    columns: int
    crossed: int


# The signs of the four parts, for the rows and columns of a block.
_SIGNS = np.array([[[1, 1], [1, 1]], [[1, 1], [-1, -1]], [[1, -1], [1, -1]], [[1, -1], [-1, 1]]])


@struct.dataclass
class PackedGrid:
    """Grids of B images with C channels.

    Rows that lie far apart share bytes: inner loops are then over channels, in packing and out.

    Attributes:
      codes: of each channel of a block.
      statistics: of each channel its mean, and the deviations of the four parts of its blocks.
      filled: a bit for each cell that is not zero.
      bits, height: of a block's parts, and the grid's.
    """

    codes: UInt8[Array, "B n w C"]
    statistics: Float16[Array, "B 5 C"]
    filled: UInt8[Array, "B m 2*w"]
    bits: BlockBits = struct.field(pytree_node=False)
    height: int = struct.field(pytree_node=False)


def pack(grid: Real[Array, "B H W C"], bits: BlockBits) -> PackedGrid:
    """Packs a grid whose cells are vectors of any length; cells of zeros stay zero.

    Raises:
      ValueError: its height or width is odd, or the bits do not fill bytes.
    """
    grid = jnp.asarray(grid, jnp.float32)
    batch, height, width, channels = grid.shape
    if height % 2 or width % 2:
        raise ValueError(f"{height} x {width} cells have no blocks of 2 x 2")
    if sum(bits) not in (1, 2, 4, 8):
        raise ValueError(f"{bits}: together they are to be 8, 4, 2 or 1")
    filled = jnp.any(grid != 0, axis=-1, keepdims=True)
    count = jnp.maximum(jnp.sum(filled, axis=(1, 2)), 1)
    mean = jnp.sum(grid, axis=(1, 2)) / count
    cells = jnp.where(filled, grid - mean[:, None, None], 0.0)
    blocks = cells.reshape(batch, height // 2, 2, width // 2, 2, channels)
    parts = jnp.einsum("pij,bhiwjc->pbhwc", 0.5 * jnp.asarray(_SIGNS, jnp.float32), blocks)
    deviations = jnp.sqrt(jnp.mean(jnp.square(parts), axis=(2, 3)))
    statistics = jnp.concatenate([mean[None], deviations]).swapaxes(0, 1).astype(jnp.float16)
    values = jnp.zeros(parts.shape[1:], jnp.uint8)
    for k, shift in _kept_parts(bits):
        values = values | _levels(parts[k], statistics[:, k + 1], bits[k]) << shift
    return PackedGrid(
        codes=_pack_bits(values, sum(bits)),
        statistics=statistics,
        filled=_pack_bits(filled[..., 0].astype(jnp.uint8), 1),
        bits=bits,
        height=height,
    )


def unpack(packed: PackedGrid) -> Float[Array, "B H W C"]:
    """The grid again, up to rounding.

    A byte is looked up in a table of the cells that it stands for, which has eight bits for each;
    CPUs take a third of the time that they need to compute the cells from the parts.
    """
    levels, scale = jax.vmap(_look_up)(packed)
    filled = _unpack_bits(packed.filled, 1, packed.height)
    return levels * (filled * scale[:, None, None])[..., None]


def _look_up(packed: PackedGrid) -> tuple[Int8[Array, "H W C"], Float[Array, ""]]:
    """Of one image: the grid in multiples of the second."""
    table = _cells_by_byte(packed)
    scale = jnp.maximum(jnp.max(jnp.abs(table)) / LARGEST, SMALLEST)
    words = jax.lax.bitcast_convert_type(jnp.round(table / scale).astype(jnp.int8), jnp.int32)
    rows, width, channels = packed.codes.shape
    place = packed.codes.astype(jnp.int32) + 256 * jnp.arange(channels)[None, None]
    blocks = [
        jnp.take(words[:, k].reshape(-1), place, mode="clip") for k in range(words.shape[1])
    ]
    blocks = jnp.concatenate(blocks)[: packed.height // 2]
    cells = jax.lax.bitcast_convert_type(blocks, jnp.int8)
    cells = cells.reshape(-1, width, channels, 2, 2).transpose(0, 3, 1, 4, 2)
    return cells.reshape(packed.height, 2 * width, channels), scale


def _cells_by_byte(packed: PackedGrid) -> Float[Array, "C k 256 4"]:
    """The four cells of each of the k blocks that a byte of a channel codes."""
    statistics = packed.statistics.astype(jnp.float32)
    starts = np.arange(0, 8, sum(packed.bits))
    values = np.arange(256)[None, :, None] >> starts[:, None, None]
    cells = statistics[0][:, None, None, None]
    for k, shift in _kept_parts(packed.bits):
        bits = packed.bits[k]
        level = (values >> shift & 2**bits - 1) + (0.5 - 2 ** (bits - 1))
        part = np.float32(0.5 * STEPS[bits] * level * _SIGNS[k].reshape(1, 1, 4))
        cells = cells + statistics[k + 1][:, None, None, None] * part[None]
    return cells


def _kept_parts(bits: BlockBits) -> list[tuple[int, int]]:
    """The parts that have bits, and where these begin."""
    starts = [sum(bits[:k]) for k in range(len(bits))]
    return [(k, start) for k, start in enumerate(starts) if bits[k]]


def _levels(part: Array, deviation: Float16[Array, "B C"], bits: int) -> UInt8[Array, "B h w C"]:
    step = STEPS[bits] * jnp.maximum(deviation.astype(jnp.float32), SMALLEST)
    level = jnp.floor(part / step[:, None, None]) + 2 ** (bits - 1)
    return jnp.clip(level, 0, 2**bits - 1).astype(jnp.uint8)


def _pack_bits(values: UInt8[Array, "B h *C"], bits: int) -> UInt8[Array, "B n *C"]:
    """Values below 2^bits; the k-th part of a byte's bits is of the k-th part of the rows."""
    count = 8 // bits
    padding = [(0, 0)] * values.ndim
    padding[1] = (0, -values.shape[1] % count)
    parts = jnp.split(jnp.pad(values, padding), count, axis=1)
    return sum(part << bits * k for k, part in enumerate(parts))


def _unpack_bits(packed: UInt8[Array, "B n *C"], bits: int, height: int) -> Array:
    """The first `height` rows of what `_pack_bits` packed, int32."""
    shifts = np.arange(0, 8, bits, dtype=np.int32).reshape(1, -1, *[1] * (packed.ndim - 1))
    values = packed[:, None].astype(jnp.int32) >> shifts & 2**bits - 1
    return values.reshape(packed.shape[0], -1, *packed.shape[2:])[:, :height]

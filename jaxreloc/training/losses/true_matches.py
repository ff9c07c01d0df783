"""Where one image's cells lie in another, from depth and the relative pose.

Depth is given on the grid of stride DETAIL_STRIDE: `depth[r, c]` is the distance along z of what
the pixel nearest to the centre of the cell (r, c) shows, 0 where it is not known.
"""

import jax
import jax.numpy as jnp
import jaxlie
from flax import struct
from jaxtyping import Array, Bool, Float

from jaxreloc.models.matching.descriptors import DETAIL_STRIDE
from jaxreloc.models.matching.rays import cell_pixels, viewing_rays

DEPTH_TOLERANCE = 0.06  # of the distance, that both depth maps may differ
MIN_DEPTH = 0.05  # metres
# Samples about a cell's centre that lie further apart, in pixels, straddle an edge.
MAX_SPREAD = 24.0


@struct.dataclass
class TrueMatches:
    """For the cells of B query images, where they lie in the database images.

    Attributes:
      db_cells: row and column, fractional, in the database's grid of the same stride.
      visible: whether the database camera sees what the cell shows.
    """

    db_cells: Float[Array, "B h w 2"]
    visible: Bool[Array, "B h w"]


def true_matches(
    query_depth: Float[Array, "B h w"],
    db_depth: Float[Array, "B h2 w2"],
    query_intrinsics: Float[Array, "B 3 3"],
    db_intrinsics: Float[Array, "B 3 3"],
    db_from_query: jaxlie.SE3,
) -> TrueMatches:
    """The matches of the detail grid's cells.

    Args:
      db_from_query: with batch axis B; the translation in metres, as the depths.
    """
    batch, height, width = query_depth.shape
    rows, columns = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")
    cells_xy = jnp.stack([columns, rows], axis=-1).reshape(1, -1, 2)
    pixels = jnp.broadcast_to(cell_pixels(cells_xy, DETAIL_STRIDE), (batch, height * width, 2))
    depth = query_depth.reshape(batch, -1, 1)
    rays = viewing_rays(pixels, query_intrinsics)
    points = depth * jnp.concatenate([rays, jnp.ones_like(depth)], axis=-1)
    seen = jax.vmap(lambda pose, x: jax.vmap(pose.apply)(x))(db_from_query, points)
    z = seen[..., 2]
    projected = jnp.einsum("bij,bnj->bni", db_intrinsics, seen)
    pixel = projected[..., :2] / jnp.maximum(z, MIN_DEPTH)[..., None]
    cells = (pixel[..., ::-1] - (DETAIL_STRIDE - 1) / 2) / DETAIL_STRIDE

    nearest = jnp.round(cells).astype(jnp.int32)
    extent = jnp.array(db_depth.shape[1:]).reshape(1, 1, 2)
    inside = jnp.all((nearest >= 0) & (nearest < extent), axis=-1)
    index = jnp.where(inside, nearest[..., 0] * db_depth.shape[2] + nearest[..., 1], 0)
    there = jnp.take_along_axis(db_depth.reshape(batch, -1), index, axis=1)
    agrees = jnp.abs(there - z) < DEPTH_TOLERANCE * z
    visible = inside & agrees & (depth[..., 0] > 0) & (z > MIN_DEPTH)
    return TrueMatches(
        db_cells=cells.reshape(batch, height, width, 2),
        visible=visible.reshape(batch, height, width),
    )


def coarser(matches: TrueMatches, stride: int) -> TrueMatches:
    """The matches of the cells of a grid of `stride` pixels, 8 or 16.

    A cell's centre is between four cells of the detail grid: the mean of their matches, visible
    where all four are and none lies on another surface.
    """
    factor = stride // DETAIL_STRIDE
    first = factor // 2 - 1
    corners = [(first + i, first + j) for i in (0, 1) for j in (0, 1)]
    cells = [matches.db_cells[:, i::factor, j::factor] for i, j in corners]
    visible = [matches.visible[:, i::factor, j::factor] for i, j in corners]
    pixels = DETAIL_STRIDE * sum(cells) / len(cells) + (DETAIL_STRIDE - 1) / 2
    spread = DETAIL_STRIDE * jnp.max(jnp.abs(cells[0] - cells[-1]), axis=-1)
    return TrueMatches(
        db_cells=(pixels - (stride - 1) / 2) / stride,
        visible=visible[0] & visible[1] & visible[2] & visible[3] & (spread < MAX_SPREAD),
    )

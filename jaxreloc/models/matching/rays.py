"""Matches as pairs of viewing rays: what a relative pose is estimated from."""

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from jaxreloc.models.matching.correlation import CellMatches
from jaxreloc.models.matching.descriptors import FINE_STRIDE


@struct.dataclass
class RayMatches:
    """K matches a pair of images, the most confident first.

    Attributes:
      x_query, x_db: where each camera sees the point, on its plane z = 1.
      confidence, mass, reverse: see `CellMatches`.
    """

    x_query: Float[Array, "B K 2"]
    x_db: Float[Array, "B K 2"]
    confidence: Float[Array, "B K"]
    mass: Float[Array, "B K"]
    reverse: Float[Array, "B K"]


def ray_matches(
    matches: CellMatches,
    query_intrinsics: Float[Array, "B 3 3"],
    db_intrinsics: Float[Array, "B 3 3"],
) -> RayMatches:
    """The matches seen through the intrinsics of the images that the cells tile."""
    return RayMatches(
        x_query=viewing_rays(cell_pixels(matches.query_cells, FINE_STRIDE), query_intrinsics),
        x_db=viewing_rays(cell_pixels(matches.db_cells, FINE_STRIDE), db_intrinsics),
        confidence=matches.confidence,
        mass=matches.mass,
        reverse=matches.reverse,
    )


def cell_pixels(cells_xy: Float[Array, "*B 2"], stride: int) -> Float[Array, "*B 2"]:
    """The pixel (x, y) that a cell (column, row), whole or fractional, is centred on.

    A map of stride s tiles its image, so that the cell (0, 0) has the pixels 0 .. s - 1 and the
    centre (s - 1) / 2. This is where the features of an ImageNet network lie, although the nominal
    receptive fields of "SAME" padding are centred half a cell further down and right.
    """
    return stride * cells_xy + (stride - 1) / 2


def viewing_rays(
    pixels: Float[Array, "B K 2"], intrinsics: Float[Array, "B 3 3"]
) -> Float[Array, "B K 2"]:
    """The points of the camera's plane z = 1 that pixels (x, y) show.

    Args:
      intrinsics: `[[fx, skew, cx], [0, fy, cy], [0, 0, 1]]`, pixels.
    """
    fx, skew, cx = (intrinsics[:, 0, i, None] for i in range(3))
    fy, cy = (intrinsics[:, 1, i, None] for i in (1, 2))
    y = (pixels[..., 1] - cy) / fy
    x = (pixels[..., 0] - cx - skew * y) / fx
    return jnp.stack([x, y], axis=-1)

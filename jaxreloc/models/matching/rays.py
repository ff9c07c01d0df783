"""Matches as pairs of viewing rays: what a relative pose is estimated from."""

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Real

from jaxreloc.models.matching.cell_tracks import CellTracks
from jaxreloc.models.matching.coarse_to_fine import CellMatches
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


@struct.dataclass
class RayTracks:
    """K query cells, and where N database images show what they show.

    Attributes:
      x_query, x_db: on each camera's plane z = 1.
      weights: the probability of each match to be right; 0 where that is small.
      sigma: deviation of a match, pixels over focal length of each database image.
      query_cells, db_cells: column and row in the fine grids; the database's are fractional.
    """

    x_query: Float[Array, "K 2"]
    x_db: Float[Array, "N K 2"]
    weights: Float[Array, "N K"]
    sigma: Float[Array, "N"]
    query_cells: Float[Array, "K 2"]
    db_cells: Float[Array, "N K 2"]


def with_empty_images(tracks: RayTracks, count: int) -> RayTracks:
    """The tracks with so many images, those that are added without matches."""
    more = count - len(tracks.weights)

    def added(x: Array) -> Array:
        return jnp.pad(x, [(0, more)] + [(0, 0)] * (x.ndim - 1))

    return tracks.replace(
        x_db=added(tracks.x_db),
        weights=added(tracks.weights),
        sigma=jnp.pad(tracks.sigma, (0, more), constant_values=1.0),
        db_cells=added(tracks.db_cells),
    )


def ray_tracks(
    tracks: CellTracks,
    weights: Float[Array, "N K"],
    query_intrinsics: Float[Array, "1 3 3"],
    db_intrinsics: Float[Array, "N 3 3"],
    deviation_px: float,
) -> RayTracks:
    """The tracks seen through the intrinsics of the images that the cells tile."""
    focal_px = jnp.sqrt(db_intrinsics[:, 0, 0] * db_intrinsics[:, 1, 1])
    query_pixels = cell_pixels(tracks.query_cells[None], FINE_STRIDE)
    return RayTracks(
        x_query=viewing_rays(query_pixels, query_intrinsics)[0],
        x_db=viewing_rays(cell_pixels(tracks.db_cells, FINE_STRIDE), db_intrinsics),
        weights=weights,
        sigma=deviation_px / focal_px,
        query_cells=tracks.query_cells,
        db_cells=tracks.db_cells,
    )


def ray_matches(
    matches: CellMatches,
    query_intrinsics: Float[Array, "#B 3 3"],
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


def cell_pixels(cells_xy: Real[Array, "*B 2"], stride: int) -> Float[Array, "*B 2"]:
    """The pixel (x, y) that a cell (column, row), whole or fractional, is centred on.

    A map of stride s tiles its image, so that the cell (0, 0) has the pixels 0 .. s - 1 and the
    centre (s - 1) / 2. This is where the features of an ImageNet network lie, although the nominal
    receptive fields of "SAME" padding are centred half a cell further down and right.
    """
    return stride * cells_xy + (stride - 1) / 2


def viewing_rays(
    pixels: Float[Array, "B K 2"], intrinsics: Float[Array, "#B 3 3"]
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

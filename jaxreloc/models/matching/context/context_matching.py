"""Coarse matches in the light of both whole images.

Two cells are compared by their descriptors as `coarse_to_fine` does, and by what attention has told
each of its surroundings and of the other image. With f the descriptors and x what attention makes
of f, of the cells' viewing rays and of the best matches by f alone, the logit of a pair is

    T (f_q . f_d - 1) + A x_q . B x_d + B x_q . A x_d

T being today's temperature; B begins at zero, and with it the matches are today's. A cell may have
no counterpart: that is one more outcome of each softmax, with a logit of its own.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from jaxreloc.models.matching.context.pooled_attention import PooledAttentionBlock
from jaxreloc.models.matching.descriptors import COARSE_STRIDE
from jaxreloc.models.matching.learned_description import LEARNED_SETTINGS
from jaxreloc.models.matching.rays import cell_pixels, viewing_rays

WIDTH = 64
HEADS = 4
BLOCKS = 3
COMPARED = 64  # dimensions of A and B
FREQUENCIES = 6  # of the rays' angles
NO_COUNTERPART = -14.0  # first logit of that outcome; of cells that are alike it is 0
OUTSIDE = -1e4  # logit of a cell that shows nothing
SMALLEST = 1e-6


@struct.dataclass
class CoarseGrid:
    """Coarse cells of B images.

    Attributes:
      descriptors: unit vectors, zero where the canvas is empty.
      rays: of the cells' centres, on the camera's plane z = 1.
    """

    descriptors: Float[Array, "B h w C"]
    rays: Float[Array, "B h w 2"]

    @property
    def filled(self) -> Bool[Array, "B h w"]:
        """The cells that show something."""
        return jnp.any(self.descriptors != 0, axis=-1)


@struct.dataclass
class ContextScores:
    """Of all pairs of the n cells of B queries and the m of their database images, by rows.

    Attributes:
      logits: of the pairs.
      query_none, db_none: of having no counterpart.
    """

    logits: Float[Array, "B n m"]
    query_none: Float[Array, "B n"]
    db_none: Float[Array, "B m"]

    def of_query(self) -> Float[Array, "B n"]:
        """The logarithm of what the outcomes of each query cell are normalised by."""
        return jnp.logaddexp(jax.nn.logsumexp(self.logits, axis=2), self.query_none)

    def of_db(self) -> Float[Array, "B m"]:
        """The same of each database cell's."""
        return jnp.logaddexp(jax.nn.logsumexp(self.logits, axis=1), self.db_none)


class ContextMatching(nn.Module):
    """Scores of all pairs of coarse cells; both images go through the same parameters."""

    @nn.compact
    def __call__(self, query: CoarseGrid, db: CoarseGrid) -> ContextScores:
        temperature = LEARNED_SETTINGS.coarse_temperature
        f_query, f_db = (_flat(grid.descriptors) for grid in (query, db))
        plain = temperature * (jnp.einsum("bnc,bmc->bnm", f_query, f_db) - 1)
        masked = plain + _outside(query)[:, :, None] + _outside(db)[:, None]
        told = first_matches(masked, _flat(query.rays), _flat(db.rays))
        embedding = _Embedding(name="embedding")
        x = [
            embedding(grid, of_grid.reshape(*grid.rays.shape[:3], -1))
            for grid, of_grid in zip((query, db), told, strict=True)
        ]
        for i in range(BLOCKS):
            x = PooledAttentionBlock(HEADS, name=f"block{i}")(*x, query.filled, db.filled)
        norm = nn.LayerNorm(name="norm")
        compared = nn.Dense(COMPARED, use_bias=False, name="compared")
        zero = nn.initializers.zeros
        shifted = nn.Dense(COMPARED, use_bias=False, kernel_init=zero, name="shifted")
        none = nn.Dense(1, kernel_init=zero, name="none")
        y_query, y_db = (norm(_flat(y)) for y in x)
        left = jnp.concatenate([compared(y_query), shifted(y_query)], axis=-1)
        right = jnp.concatenate([shifted(y_db), compared(y_db)], axis=-1)
        return ContextScores(
            logits=masked + jnp.einsum("bnc,bmc->bnm", left, right),
            query_none=NO_COUNTERPART + none(y_query)[..., 0],
            db_none=NO_COUNTERPART + none(y_db)[..., 0],
        )


class _Embedding(nn.Module):
    """Of a cell's descriptor, its ray, and where its first match lies."""

    @nn.compact
    def __call__(self, grid: CoarseGrid, told: Float[Array, "B h w K"]) -> Float[Array, "B h w D"]:
        x = nn.Dense(WIDTH, name="descriptor")(grid.descriptors * jnp.sqrt(jnp.float32(10)))
        x = x + nn.Dense(WIDTH, name="ray")(ray_waves(grid.rays))
        hidden = nn.Dense(WIDTH, name="told")(
            jnp.concatenate([told, ray_waves(told[..., :2]), grid.rays], axis=-1)
        )
        return x + nn.Dense(WIDTH, name="told_out")(nn.gelu(hidden))


def first_matches(
    logits: Float[Array, "B n m"], query_rays: Float[Array, "B n 2"], db_rays: Float[Array, "B m 2"]
) -> tuple[Float[Array, "B n 6"], Float[Array, "B m 6"]]:
    """What the descriptors alone say of each cell's match: of the queries', and the database's.

    With w the products of the forward and the reverse probability: the mean ray by w, its
    deviation along each axis, the logarithm of the sum of w and of their largest.

    Args:
      logits: at most 0.
    """
    likelihood = jnp.exp(logits)
    rows, columns = (jnp.sum(likelihood, axis=k, keepdims=True) for k in (2, 1))
    both = jnp.square(likelihood) / (rows * columns + 1e-30)

    def told(spelling: str, rays: Array, largest: Array) -> Array:
        moments = jnp.concatenate([rays, jnp.square(rays), jnp.ones_like(rays[..., :1])], axis=-1)
        sums = jnp.einsum(spelling, both, moments)
        mean, total = sums[..., :4] / (sums[..., 4:] + SMALLEST), sums[..., 4]
        spread = jnp.sqrt(jnp.maximum(mean[..., 2:] - jnp.square(mean[..., :2]), 0.0) + SMALLEST)
        sure = 0.2 * jnp.log(jnp.stack([total, largest], axis=-1) + 1e-4)
        return jnp.concatenate([mean[..., :2], spread, sure], axis=-1)

    return (
        told("bnm,bmk->bnk", db_rays, jnp.max(both, axis=2)),
        told("bnm,bnk->bmk", query_rays, jnp.max(both, axis=1)),
    )


def ray_waves(rays: Float[Array, "*B 2"]) -> Float[Array, "*B 24"]:
    """Sines and cosines of the angles of rays, in octaves from one wave in some 180 degrees."""
    angles = 2 * jnp.arctan(rays)
    phases = jnp.concatenate([2.0**k * angles for k in range(FREQUENCIES)], axis=-1)
    return jnp.concatenate([jnp.sin(phases), jnp.cos(phases)], axis=-1)


def cell_rays(
    shape: tuple[int, int],
    intrinsics: Float[Array, "B 3 3"],
    pitch: int = 1,
    origin: Int[Array, "B 2"] | None = None,
) -> Float[Array, "B h w 2"]:
    """Where the centres of coarse cells lie on the plane z = 1 of each camera.

    Args:
      pitch: every so many-th row and column of cells,
      origin: from this row and column on; None: from the first.
    """
    count = len(intrinsics)
    rows, columns = jnp.meshgrid(*map(jnp.arange, shape), indexing="ij")
    cells = pitch * jnp.stack([columns, rows], axis=-1).reshape(1, -1, 2)
    first = jnp.zeros((count, 2), jnp.int32) if origin is None else origin
    pixels = cell_pixels(cells + first[:, None, ::-1], COARSE_STRIDE)
    return viewing_rays(pixels, intrinsics).reshape(count, *shape, 2)


def _flat(grid: Float[Array, "B h w C"]) -> Float[Array, "B n C"]:
    return grid.reshape(grid.shape[0], -1, grid.shape[-1])


def _outside(grid: CoarseGrid) -> Float[Array, "B n"]:
    return jnp.where(grid.filled, 0.0, OUTSIDE).reshape(len(grid.rays), -1)

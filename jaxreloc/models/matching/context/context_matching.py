"""Coarse matches in the light of both whole images.

Two cells are compared by their descriptors as `coarse_to_fine` does, and by what attention has told
each of its surroundings and of the other image. With f the descriptors, the logit of a pair is

    T (f_q . f_d - 1) + A x_q . B x_d + B x_q . A x_d

T being the temperature of the plain matching; B begins at zero, and with it the matches are the
plain ones. A cell may have no counterpart: that is one more outcome of each softmax, with a logit
of its own.

Of x: each cell is embedded by its descriptor, those of its four fine cells, its viewing ray, and
where its best matches by f alone lie. Blocks of 2x2 cells are tokens that attend to their own image
and to the other one (`attention`), as EfficientLoFTR has it (Wang et al., CVPR 2024, arXiv
2403.04765): a sixteenth of the cost among all cells. With U bilinear upsampling of the tokens t and
a perceptron g, x = e + g([e, U t]).
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Bool, Float, Int, Shaped

from jaxreloc.models.matching.context.attention import AttentionBlock
from jaxreloc.models.matching.descriptors import COARSE_STRIDE, upsample
from jaxreloc.models.matching.learned_description import LEARNED_SETTINGS
from jaxreloc.models.matching.rays import cell_pixels, viewing_rays

WIDTH = 64  # of a cell
TOKEN_WIDTH = 96
HEADS = 4
BLOCKS = 4
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
      fine: those of the four fine cells of each, by rows.
      rays: of the cells' centres, on the camera's plane z = 1.
    """

    descriptors: Float[Array, "B h w C"]
    fine: Float[Array, "B h w 4*F"]
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
        cells = [
            embedding(grid, of_grid.reshape(*grid.rays.shape[:3], -1))
            for grid, of_grid in zip((query, db), told, strict=True)
        ]
        x = _InContext(name="in_context")(*cells, query.filled, db.filled)
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
    """Of a cell's descriptors, its ray, and where its first match lies."""

    @nn.compact
    def __call__(self, grid: CoarseGrid, told: Float[Array, "B h w K"]) -> Float[Array, "B h w D"]:
        described = jnp.concatenate([grid.descriptors, grid.fine], axis=-1)
        x = nn.Dense(WIDTH, name="descriptor")(described * jnp.sqrt(jnp.float32(10)))
        x = x + nn.Dense(WIDTH, name="ray")(ray_waves(grid.rays))
        hidden = nn.Dense(WIDTH, name="told")(
            jnp.concatenate([told, ray_waves(told[..., :2]), grid.rays], axis=-1)
        )
        return x + nn.Dense(WIDTH, name="told_out")(nn.gelu(hidden))


class _InContext(nn.Module):
    """The cells of both images by what tokens of 2x2 of them have told each other."""

    @nn.compact
    def __call__(
        self,
        query: Float[Array, "B h w D"],
        db: Float[Array, "B h2 w2 D"],
        query_filled: Bool[Array, "B h w"],
        db_filled: Bool[Array, "B h2 w2"],
    ) -> list[Float[Array, "B height width D"]]:
        cells, filled = (query, db), (query_filled, db_filled)
        norm, joined = nn.LayerNorm(name="norm"), nn.Dense(TOKEN_WIDTH, name="joined")
        hidden, out = nn.Dense(TOKEN_WIDTH, name="hidden"), nn.Dense(WIDTH, name="out")
        normed = [norm(x) * f[..., None] for x, f in zip(cells, filled, strict=True)]
        heard = [jnp.any(by_blocks(f[..., None]), axis=-1).reshape(len(f), -1) for f in filled]
        tokens = [joined(by_blocks(x)) for x in normed]
        grids = [x.shape for x in tokens]
        tokens = [x.reshape(len(x), -1, TOKEN_WIDTH) for x in tokens]
        for i in range(BLOCKS):
            tokens = AttentionBlock(HEADS, name=f"block{i}")(*tokens, *heard)
        told = [
            upsample((x * f[..., None]).reshape(shape))
            for x, f, shape in zip(tokens, heard, grids, strict=True)
        ]
        return [
            x + out(nn.gelu(hidden(jnp.concatenate([y, z], axis=-1))))
            for x, y, z in zip(cells, normed, told, strict=True)
        ]


def by_blocks(cells: Shaped[Array, "B H W D"]) -> Shaped[Array, "B H//2 W//2 4*D"]:
    """What each block of 2x2 cells has, one after the other, by rows."""
    batch, height, width, size = cells.shape
    blocks = cells.reshape(batch, height // 2, 2, width // 2, 2, size)
    return jnp.moveaxis(blocks, 2, 3).reshape(batch, height // 2, width // 2, 4 * size)


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

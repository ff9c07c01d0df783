"""Attention among the cells of one image and with those of another, on every second cell."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float

from jaxreloc.models.matching.descriptors import upsample

POOL = 2  # cells along each axis that share a message


class PooledAttentionBlock(nn.Module):
    """What a cell learns of its own image and of the other one, added to what it knows.

    With t the means of POOL x POOL cells of the normalised x, U bilinear upsampling, and a
    perceptron f of two layers,

      x + f([x, U W [attention(t, t), attention(t, t_other)]])

    Queries, keys and values are of the pooled cells, as EfficientLoFTR has it (Wang et al., CVPR
    2024, arXiv 2403.04765): attention costs a sixteenth of that among all cells. Both images go
    through the same parameters.
    """

    heads: int

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B h w D"],
        other: Float[Array, "B h2 w2 D"],
        filled: Bool[Array, "B h w"],
        other_filled: Bool[Array, "B h2 w2"],
    ) -> tuple[Float[Array, "B h w D"], Float[Array, "B h2 w2 D"]]:
        width = x.shape[-1]
        norm = nn.LayerNorm(name="norm")
        own_attention = _Attention(self.heads, name="own")
        other_attention = _Attention(self.heads, name="other")
        joined = nn.Dense(width, name="joined")
        hidden, out = nn.Dense(2 * width, name="hidden"), nn.Dense(width, name="out")
        tokens = [pooled(norm(a), b) for a, b in ((x, filled), (other, other_filled))]

        def updated(x: Array, own: tuple, there: tuple) -> Array:
            batch, height, width_, _ = x.shape
            parts = [own_attention(own[0], *own), other_attention(own[0], *there)]
            message = joined(jnp.concatenate(parts, axis=-1)) * own[1][..., None]
            message = message.reshape(batch, height // POOL, width_ // POOL, width)
            y = jnp.concatenate([norm(x), upsample(message)], axis=-1)
            return x + out(nn.gelu(hidden(y)))

        return updated(x, *tokens), updated(other, *tokens[::-1])


class _Attention(nn.Module):
    """Of several heads; tokens that show nothing are not attended to."""

    heads: int

    @nn.compact
    def __call__(
        self,
        to: Float[Array, "B n D"],
        of: Float[Array, "B m D"],
        of_filled: Bool[Array, "B m"],
    ) -> Float[Array, "B n D"]:
        batch, _, width = to.shape
        size = width // self.heads

        def split(name: str, tokens: Array) -> Array:
            projected = nn.Dense(width, use_bias=False, name=name)(tokens)
            return projected.reshape(batch, -1, self.heads, size)

        query, key, value = split("query", to), split("key", of), split("value", of)
        logits = jnp.einsum("bnhd,bmhd->bhnm", query, key) / jnp.sqrt(jnp.float32(size))
        weights = jax.nn.softmax(jnp.where(of_filled[:, None, None], logits, -1e4), axis=-1)
        return jnp.einsum("bhnm,bmhd->bnhd", weights, value).reshape(batch, -1, width)


def pooled(
    x: Float[Array, "B h w D"], filled: Bool[Array, "B h w"]
) -> tuple[Float[Array, "B n D"], Bool[Array, "B n"]]:
    """The means of POOL x POOL cells, and which of them have any that shows something.

    Cells that show nothing count as zeros.
    """
    batch, height, width, size = x.shape
    blocks = (x * filled[..., None]).reshape(batch, height // POOL, POOL, width // POOL, POOL, size)
    cells = filled.reshape(batch, height // POOL, POOL, width // POOL, POOL)
    return (
        jnp.mean(blocks, axis=(2, 4)).reshape(batch, -1, size),
        jnp.any(cells, axis=(2, 4)).reshape(batch, -1),
    )

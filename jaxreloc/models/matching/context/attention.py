"""Attention among the tokens of one image, and with those of another."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float


class AttentionBlock(nn.Module):
    """What tokens learn of their own image, then of the other one, then of themselves.

    With n the layer norm and f a perceptron of two layers,

      t + attention(n t, n t);   t + attention(n t, n t_other);   t + f(n t)

    Both images go through the same parameters, at once.
    """

    heads: int

    @nn.compact
    def __call__(
        self,
        tokens: Float[Array, "B n D"],
        other: Float[Array, "B m D"],
        filled: Bool[Array, "B n"],
        other_filled: Bool[Array, "B m"],
    ) -> list[Float[Array, "B k D"]]:
        width = tokens.shape[-1]
        both, heard = [tokens, other], [filled, other_filled]
        own, across = (_Attention(self.heads, name=x) for x in ("own", "across"))
        norms = [nn.LayerNorm(name=f"norm{i}") for i in range(3)]
        hidden, out = nn.Dense(2 * width, name="hidden"), nn.Dense(width, name="out")
        normed = [norms[0](x) for x in both]
        both = [x + own(y, y, f) for x, y, f in zip(both, normed, heard, strict=True)]
        normed = [norms[1](x) for x in both]
        there = zip(both, normed, normed[::-1], heard[::-1], strict=True)
        both = [x + across(y, z, f) for x, y, z, f in there]
        return [x + out(nn.gelu(hidden(norms[2](x)))) for x in both]


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
        message = jnp.einsum("bhnm,bmhd->bnhd", weights, value).reshape(batch, -1, width)
        return nn.Dense(width, name="out")(message)

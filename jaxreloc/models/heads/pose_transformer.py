"""A small transformer from the matched viewing rays of a pair to its relative pose."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxreloc.models import layers
from jaxreloc.models.heads.pose_prediction import PairReliability, RelativePose
from jaxreloc.models.matching.rays import RayMatches

TOKENS = 96  # the most confident matches
WIDTH = 96
ATTENTION_HEADS = 4
LAYERS = 3
POOLS = 4
HIDDEN = 192


class PoseTransformer(nn.Module):
    """Pre-norm encoder layers over the matches, attention pooling, and linear outputs.

    It does not depend on the order of the matches. Rotations start at the identity, translations at
    zero, standard deviations at one and the probability of overlap at one half.
    """

    compute: layers.Compute

    @nn.compact
    def __call__(self, matches: RayMatches) -> RelativePose:
        dtype = self.compute.dtype
        x = nn.Dense(WIDTH, dtype=dtype, name="embedding")(match_tokens(matches, TOKENS))
        block = nn.remat(_EncoderLayer) if self.compute.remat else _EncoderLayer
        for i in range(LAYERS):
            x = block(dtype, name=f"layer{i}")(x)
        x = nn.LayerNorm(dtype=dtype, name="norm")(x)
        attention = nn.softmax(nn.Dense(POOLS, dtype=dtype, name="attention")(x), axis=1)
        pooled = jnp.einsum("bkp,bkd->bpd", attention, x).reshape(x.shape[0], POOLS * WIDTH)
        hidden = nn.relu(nn.Dense(HIDDEN, dtype=dtype, name="hidden")(pooled)).astype(jnp.float32)
        small = nn.initializers.normal(0.01)

        def output(name: str, size: int) -> Array:
            return nn.Dense(size, kernel_init=small, name=name)(hidden)

        identity = jnp.array([[1.0, 0.0, 0.0, 0.0]])
        log_std = output("log_std", 2)
        return RelativePose(
            t=output("translation", 3),
            q_wxyz=identity + output("rotation", 4),
            reliability=PairReliability(
                log_std_t=log_std[:, 0],
                log_std_rotation=log_std[:, 1],
                overlap_logit=output("overlap", 1)[:, 0],
            ),
        )


class _EncoderLayer(nn.Module):
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "B K D"]) -> Float[Array, "B K D"]:
        y = nn.LayerNorm(dtype=self.dtype)(x)
        x = x + nn.MultiHeadDotProductAttention(ATTENTION_HEADS, dtype=self.dtype)(y, y)
        y = nn.LayerNorm(dtype=self.dtype)(x)
        y = nn.relu(nn.Dense(2 * WIDTH, dtype=self.dtype)(y))
        return x + nn.Dense(WIDTH, dtype=self.dtype)(y)


def match_tokens(matches: RayMatches, count: int) -> Float[Array, "B k 19"]:
    """What the transformer is told of each of the first `count` matches, all of order one.

    Both rays, their difference, how sure the match is, the difference weighed by that, and the
    products of the rays' coordinates, in which the epipolar constraint is linear.
    """
    first = jax.tree.map(lambda x: x[:, :count], matches)
    x_query, x_db = first.x_query, first.x_db
    confidence = first.confidence[..., None]
    homogeneous_query, homogeneous_db = (
        jnp.concatenate([x, jnp.ones_like(x[..., :1])], axis=-1) for x in (x_query, x_db)
    )
    products = homogeneous_query[..., :, None] * homogeneous_db[..., None, :]
    flow = 5 * (x_db - x_query)
    sureness = jnp.stack([first.mass, first.reverse], axis=-1)
    parts = [2 * x_query, 2 * x_db, flow, sureness, confidence, flow * confidence]
    parts.append(products.reshape(*products.shape[:2], 9)[..., :8])
    return jnp.concatenate(parts, axis=-1)

"""The paper's pair head: regress the relative pose from both images' pooled features.

Source: Laskar, Melekhov, Kalia, Kannala, ICCVW 2017, arXiv 1707.09733, section 3.1.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxreloc.models import layers
from jaxreloc.models.backbones.features import Features
from jaxreloc.models.heads.pose_prediction import RelativePose

HIDDEN_FEATURES = 1024


class ConcatHead(nn.Module):
    """FC(1024), batch norm and ReLU on the two pooled vectors, then a linear layer for each of
    translation and quaternion. The quaternion's bias starts at the identity."""

    compute: layers.Compute

    @nn.compact
    def __call__(
        self,
        db_features: Features,
        query_features: Features,
        db_intrinsics: Float[Array, "B 3 3"],
        query_intrinsics: Float[Array, "B 3 3"],
        train: bool,
    ) -> RelativePose:
        del db_intrinsics, query_intrinsics  # the paper's head looks at features alone
        x = jnp.concatenate([db_features.pooled, query_features.pooled], axis=-1)
        x = layers.DenseNorm(HIDDEN_FEATURES, self.compute, name="hidden")(x, train)
        x = nn.relu(x).astype(jnp.float32)
        return RelativePose(
            t=nn.Dense(3, name="translation")(x),
            q_wxyz=nn.Dense(4, bias_init=_identity_quaternion, name="quaternion")(x),
        )


def _identity_quaternion(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
    del key
    return jnp.eye(1, *shape, dtype=dtype).reshape(shape)

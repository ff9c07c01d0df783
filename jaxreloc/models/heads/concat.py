"""The paper's pair head: regress the relative pose from both images' features, side by side.

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
CELL_FEATURES = 32


class ConcatHead(nn.Module):
    """FC(1024), batch norm and ReLU on the two images' vectors, then a linear layer for each of
    translation and quaternion. The quaternion's bias starts at the identity.

    An image's vector is its pooled features, as in the paper. With `grid`, which the paper has not,
    it is what a linear layer of CELL_FEATURES, batch norm and ReLU make of each cell of the
    backbone's last map, one cell after the other: it says where in the image things are.

    Attributes:
      grid: rows and columns of cells; None pools.
    """

    compute: layers.Compute
    grid: tuple[int, int] | None = None

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
        seen = seen_by_head(db_features, self.grid), seen_by_head(query_features, self.grid)
        x = jnp.concatenate(self._vectors(*seen, train), axis=-1)
        x = layers.DenseNorm(HIDDEN_FEATURES, self.compute, name="hidden")(x, train)
        x = nn.relu(x).astype(jnp.float32)
        return RelativePose(
            t=nn.Dense(3, name="translation")(x),
            q_wxyz=nn.Dense(4, bias_init=_identity_quaternion, name="quaternion")(x),
        )

    def _vectors(self, db: Array, query: Array, train: bool) -> tuple[Array, Array]:
        if self.grid is None:
            return db, query
        both = jnp.concatenate([db, query])
        cells = layers.DenseNorm(CELL_FEATURES, self.compute, name="cells")
        x = nn.relu(cells(both.reshape(-1, both.shape[-1]), train)).reshape(len(both), -1)
        return x[: len(db)], x[len(db) :]


def seen_by_head(
    features: Features, grid: tuple[int, int] | None
) -> Float[Array, "B dim"] | Float[Array, "B rows columns C"]:
    """All that the head sees of images: their pooled features, or the cells of their one map."""
    if grid is None:
        return features.pooled
    (cells,) = features.maps.values()
    if cells.shape[1:3] == grid:
        return cells
    return jax.image.resize(cells, (len(cells), *grid, cells.shape[-1]), "linear")


def _identity_quaternion(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
    del key
    return jnp.eye(1, *shape, dtype=dtype).reshape(shape)

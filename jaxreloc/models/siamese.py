"""The siamese network: one branch for both images of a pair, then a pair head."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from jaxreloc.models import layers
from jaxreloc.models.backbones.features import Features
from jaxreloc.models.heads.pose_prediction import RelativePose
from jaxreloc.models.matching.context.context_matching import CoarseGrid, ContextScores
from jaxreloc.models.matching.descriptors import CellDescriptors
from jaxreloc.models.matching.rays import RayMatches


class SiameseNetwork(nn.Module):
    """Predicts `db_from_query` of image pairs.

    Attributes:
      backbone: `(images, train) -> Features`, shared by both images.
      head: `(db_features, query_features, db_intrinsics, query_intrinsics, train) -> RelativePose`.
    """

    backbone: nn.Module
    head: nn.Module

    def __call__(
        self,
        db_images: Array,
        query_images: Array,
        db_intrinsics: Float[Array, "B 3 3"],
        query_intrinsics: Float[Array, "B 3 3"],
        train: bool,
    ) -> RelativePose:
        """The relative pose of B pairs, both images in one pass through the branch.

        Args:
          db_images, query_images: RGB [B, H, W, 3], 0..255, uint8 or float.
          db_intrinsics, query_intrinsics: pinhole matrices of these images (pixels).
          train: use and update the statistics of this batch (mutable `batch_stats`) instead of
            the running ones.
        """
        features = self.encode(jnp.concatenate([db_images, query_images]), train)
        pairs = db_images.shape[0]
        db_features = jax.tree.map(lambda x: x[:pairs], features)
        query_features = jax.tree.map(lambda x: x[pairs:], features)
        return self.relate(db_features, query_features, db_intrinsics, query_intrinsics, train)

    def encode(self, images: Array, train: bool = False) -> Features:
        """Features of RGB images [B, H, W, 3] in 0..255; every leaf has the leading batch axis."""
        return self.backbone(images, train)

    def descriptor(self, features: Features) -> Float[Array, "B D"]:
        """L2-normalised pooled features, whose dot product is the retrieval's similarity."""
        return layers.l2_normalise(features.pooled)

    def relate(
        self,
        db_features: Features,
        query_features: Features,
        db_intrinsics: Float[Array, "B 3 3"],
        query_intrinsics: Float[Array, "B 3 3"],
        train: bool = False,
    ) -> RelativePose:
        """The relative pose of B pairs from their encoded features."""
        return self.head(db_features, query_features, db_intrinsics, query_intrinsics, train)

    def describe(self, features: Features) -> CellDescriptors:
        """The descriptors of B images' cells, by a head that matches."""
        return self.head.describe(features)

    def match(
        self,
        db: CellDescriptors,
        query: CellDescriptors,
        db_intrinsics: Float[Array, "B 3 3"],
        query_intrinsics: Float[Array, "#B 3 3"],
        coarse: tuple[Int[Array, "B n 2"], Float[Array, "B n"]] | None = None,
    ) -> RayMatches:
        """The matches of B pairs, by a head that matches; one query may be given for all."""
        return self.head.match(db, query, db_intrinsics, query_intrinsics, coarse)

    def in_context(self, db: CoarseGrid, query: CoarseGrid) -> ContextScores:
        """The scores of all pairs of coarse cells of B pairs, by a head with context."""
        return self.head.in_context(db, query)

    def regress(self, matches: RayMatches) -> RelativePose:
        """The relative pose that matches tell of, by a head that matches."""
        return self.head.regress(matches)

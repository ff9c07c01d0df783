"""The pair head that reads the relative pose from the correlation of both images' feature maps."""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from jaxreloc.models import layers
from jaxreloc.models.backbones.features import Features
from jaxreloc.models.heads.pose_prediction import RelativePose
from jaxreloc.models.heads.pose_transformer import PoseTransformer
from jaxreloc.models.matching import coarse_to_fine, rays, refinement
from jaxreloc.models.matching.coarse_to_fine import MatchSettings
from jaxreloc.models.matching.context.context_matching import (
    CoarseGrid,
    ContextMatching,
    ContextScores,
)
from jaxreloc.models.matching.description import CellDescription
from jaxreloc.models.matching.descriptors import CellDescriptors
from jaxreloc.models.matching.learned_description import COARSE_SIZE, FINE_SIZE, LearnedDescription
from jaxreloc.models.matching.rays import RayMatches


class CorrelationHead(nn.Module):
    """Describes the cells of both images, matches them, and regresses the pose from the matches.

    The three steps can be called apart: descriptors are computed once for each database image, and
    the matches serve geometric estimators as well.

    Attributes:
      description: from the backbone's maps to the descriptors of cells.
      settings: of the matching.
      context: of the coarse matching in the light of both images, where there is one.
    """

    compute: layers.Compute
    description: CellDescription | LearnedDescription
    settings: MatchSettings = MatchSettings()
    context: ContextMatching | None = None

    def setup(self):
        self.regression = PoseTransformer(self.compute)

    def __call__(
        self,
        db_features: Features,
        query_features: Features,
        db_intrinsics: Float[Array, "B 3 3"],
        query_intrinsics: Float[Array, "#B 3 3"],
        train: bool,
    ) -> RelativePose:
        descriptors = self.describe(db_features), self.describe(query_features)
        if self.is_initializing() and self.context is not None:
            sizes = COARSE_SIZE, 4 * FINE_SIZE, 2
            blank = CoarseGrid(*(jnp.zeros((1, 2, 2, size)) for size in sizes))
            self.context(blank, blank)
        return self.regress(self.match(*descriptors, db_intrinsics, query_intrinsics))

    def describe(self, features: Features) -> CellDescriptors:
        """Descriptors of B images."""
        return self.description(features)

    def match(
        self,
        db: CellDescriptors,
        query: CellDescriptors,
        db_intrinsics: Float[Array, "B 3 3"],
        query_intrinsics: Float[Array, "#B 3 3"],
        coarse: tuple[Int[Array, "B n 2"], Float[Array, "B n"]] | None = None,
    ) -> RayMatches:
        """The matches of B pairs; they have no parameters.

        Args:
          coarse: the coarse matches, such as `coarse_in_context`'s; None: by the descriptors.
        """
        matches = coarse_to_fine.match(query, db, self.settings, coarse)
        matches = refinement.refine(
            matches, query.detail, db.detail, self.settings.detail_patch
        )
        return rays.ray_matches(matches, query_intrinsics, db_intrinsics)

    def in_context(self, db: CoarseGrid, query: CoarseGrid) -> ContextScores:
        """The scores of all pairs of coarse cells of B pairs of images."""
        return self.context(query, db)

    def regress(self, matches: RayMatches) -> RelativePose:
        """The relative pose that the matches of each pair tell of."""
        return self.regression(matches)

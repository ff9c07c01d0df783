"""A network with a correlation head, for inference: whole images in, matches or poses out."""

import dataclasses
import functools
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import jaxlie
import numpy as np
from flax import struct
from jaxtyping import Array, Float, PyTree, UInt8

from jaxreloc.compilation import compiler_options
from jaxreloc.compilation.kept_programs import Program
from jaxreloc.data import transforms
from jaxreloc.geometry._kernels.location import LocationConfig
from jaxreloc.geometry.fusion import FusionConfig, Reliability
from jaxreloc.geometry.relative_pose import (
    RelativePoseConfig,
    RelativePoseEstimate,
    estimate_relative_pose,
)
from jaxreloc.localization.networks.confidence import ConfidenceModel
from jaxreloc.localization.networks.relations import PairRelations
from jaxreloc.models import RelativePose, SiameseNetwork, inference
from jaxreloc.models.kernels import convolution
from jaxreloc.models.matching import cell_tracks, descriptors, rays
from jaxreloc.models.matching.coarse_to_fine import MatchSettings
from jaxreloc.models.matching.descriptors import FINE_STRIDE, CellDescriptors
from jaxreloc.models.matching.rays import RayMatches, RayTracks
from jaxreloc.models.weights import saved_network
from jaxreloc.usage import check_choice

# How the relative pose of a pair comes about:
#   network   the head's, from the most confident matches.
#   matches   of the matches alone, by RANSAC; |t| = 1.
#   refined   by RANSAC, which starts from the head's pose too; |t| is the head's.
ESTIMATORS = ("network", "matches", "refined")

# Sampson error of an inlier, in fine cells: matches are right to a fraction of a cell.
INLIER_CELLS = 0.3
# The share of a pair's matches that must agree. The confidence weighs it, too: on validation rooms
# at 256 pixels 0.25 instead cost 5% of recall within 10 cm and left no fewer wrong poses.
MIN_SUPPORT = 0.18
# Of the support of the query's best pair; a pair with less adds more doubt than knowledge.
MIN_RELATIVE_SUPPORT = 0.6
# The head's lengths are right to half of their logarithm.
FUSION = FusionConfig(location=LocationConfig(length_std=0.5))
SHORTEST = 1e-6  # metres, of a translation
WIDEST_DIRECTION_STD = 1.5  # radians
SAMPLING_SEED = 0
# A pair is left out below this.
MIN_OVERLAP_PROBABILITY = 0.5
# Tracks: query cells that are kept, and deviation of a match, pixels of the canvas.
TRACK_CELLS = 1000
MATCH_DEVIATION_PX = 1.0
EVERY = sys.maxsize
# Coarse query cells along each axis of which one is compared to rank images.
SIMILARITY_STRIDE = 2
# The logit of a match being right, of log confidence and log similarity of its image, fitted to
# the true poses of seven validation rooms; what is less likely than the last one is left out.
MATCH_BIAS, CONFIDENCE_WEIGHT, SIMILARITY_WEIGHT = 3.48, 0.589, 0.736
MIN_MATCH_PROBABILITY = 0.15
SMALLEST_CONFIDENCE = 1e-4
# Fitted on seven validation rooms:
# python -m benchmarks.trust.refusal --split=validation --rooms=7 --fit
CONFIDENCE = {
    "network": ConfidenceModel(bias=-9.505, weights=(2.249, -3.004), threshold=0.258),
    "matches": ConfidenceModel(bias=-10.769, weights=(1.178, -3.994), threshold=0.5),
    "refined": ConfidenceModel(bias=-7.486, weights=(1.752, -3.424), threshold=0.5),
}


@struct.dataclass
class MatchFeatures:
    """What is known of B images: for retrieval, and for the pair head."""

    descriptor: Float[Array, "B D"] | None  # a map keeps it apart
    cells: CellDescriptors  # quantised, or packed


class MatchNetwork:
    """A `PoseNetwork` that is a `Matcher`, too; each method compiles once per shape.

    Args:
      loaded: the network with its variables and config; `config["data"]["image_size"]` is the
        canvas (height and width, multiples of 32) that whole images are fitted into, and
        `config["estimator"]`, "matches" if absent, one of ESTIMATORS.
      estimator: instead of the config's.

    Attributes:
      canvas: its height and width.
      fusion_config: what suits the poses that `relate` gives.
    """

    fusion_config = FUSION

    def __init__(self, loaded: saved_network.LoadedNetwork, estimator: str | None = None):
        self.loaded = loaded
        self.estimator = estimator or loaded.config.get("estimator", "matches")
        check_choice("estimator", self.estimator, ESTIMATORS)
        self.canvas = tuple(loaded.config["data"]["image_size"])
        variables = jax.device_put(inference.fold(loaded.network, loaded.variables))
        apply = functools.partial(loaded.network.apply, variables)
        encode = Program(
            functools.partial(_encode, loaded.network),
            "encode",
            of=loaded.network,
            compiler_options=compiler_options.convolutions(),
        )
        self._encode = convolution.image_by_image(functools.partial(encode, variables))
        match = functools.partial(_match_one_to_many, apply)
        self._match = jax.jit(match, compiler_options=compiler_options.wide_vectors())
        relate = functools.partial(
            relate_matches, loaded.network, variables, estimator=self.estimator
        )
        self._relate = jax.jit(
            lambda db, db_intrinsics, query, query_intrinsics: relate(
                match(db, db_intrinsics, query, query_intrinsics), db_intrinsics, query_intrinsics
            ),
            compiler_options=compiler_options.wide_vectors(),
        )
        settings = loaded.network.head.settings
        self._similarity = Program(
            lambda db, query: cell_tracks.similarity(
                query.cells, db.cells, settings, stride=SIMILARITY_STRIDE
            ),
            "similarity",
            of=settings,
            compiler_options=compiler_options.wide_vectors(),
        )
        self._match_tracks = Program(
            functools.partial(_match_tracks, settings=settings),
            "match_tracks",
            of=settings,
            static=["every_cell"],
            compiler_options=compiler_options.wide_vectors(),
        )
        is_joined = loaded.network.head.description.is_joined
        packed = MatchFeatures(None, descriptors.packed_outline(self.canvas[0], is_joined))
        quantised = MatchFeatures(0, CellDescriptors(0, 0, 0, is_joined=is_joined))
        self.feature_formats = jax.tree.structure(packed), jax.tree.structure(quantised)
        self._kept = Program(_kept, "kept")

    def prepare(
        self, image: UInt8[np.ndarray, "h w 3"], intrinsics: Float[np.ndarray, "3 3"]
    ) -> tuple[UInt8[np.ndarray, "height width 3"], Float[np.ndarray, "3 3"]]:
        """The whole image on a black canvas, and its intrinsics there."""
        return transforms.resize_to_fit(image, intrinsics, *self.canvas)

    def encode(self, images: UInt8[np.ndarray, "B height width 3"]) -> MatchFeatures:
        """Features with leading axis B."""
        return self._encode(images)

    def kept(self, features: MatchFeatures) -> MatchFeatures:
        """Features in a quarter of their bytes, as a map keeps them."""
        return self._kept(features)

    def descriptor(self, features: MatchFeatures) -> Float[Array, "B dim"]:
        """L2-normalised retrieval descriptors."""
        return features.descriptor

    def match(
        self,
        db_features: MatchFeatures,
        db_intrinsics: Float[np.ndarray, "N 3 3"],
        query_features: MatchFeatures,
        query_intrinsics: Float[np.ndarray, "1 3 3"],
    ) -> RayMatches:
        """Matches of one query (leading axis 1) with N database images; batch axis N."""
        return self._match(db_features, db_intrinsics, query_features, query_intrinsics)

    def cell_pixels(self) -> Float[np.ndarray, "h w 2"]:
        """Centres of the fine cells on the canvas, x and y."""
        rows, columns = np.indices([side // FINE_STRIDE for side in self.canvas])
        return np.stack([columns, rows], axis=-1) * FINE_STRIDE + (FINE_STRIDE - 1) / 2

    def similarity(
        self, db_features: MatchFeatures, query_features: MatchFeatures
    ) -> Float[Array, "N"]:
        """How much of the query (leading axis 1) each image shows: its mean coarse confidence."""
        return self._similarity(db_features, query_features)

    def match_tracks(
        self,
        db_features: MatchFeatures,
        db_intrinsics: Float[np.ndarray, "N 3 3"],
        query_features: MatchFeatures,
        query_intrinsics: Float[np.ndarray, "1 3 3"],
        similarity: Float[Array, "N"],
        *,
        every_cell: bool = False,
    ) -> RayTracks:
        """Matches of one query with N images on one choice of its cells; see `Matcher`."""
        return self._match_tracks(
            db_features,
            db_intrinsics,
            query_features,
            query_intrinsics,
            similarity,
            every_cell=every_cell,
        )

    def relate(
        self,
        db_features: MatchFeatures,
        db_intrinsics: Float[np.ndarray, "N 3 3"],
        query_features: MatchFeatures,
        query_intrinsics: Float[np.ndarray, "1 3 3"],
    ) -> PairRelations:
        """`db_from_query` of one query and N database images, and how far to trust it."""
        return self._relate(db_features, db_intrinsics, query_features, query_intrinsics)

    def save(self, folder: pathlib.Path) -> None:
        """See `PoseNetwork`."""
        self.loaded.save(folder)


def relate_matches(
    network: SiameseNetwork,
    variables: Mapping[str, Any],
    matches: RayMatches,
    db_intrinsics: Float[Array, "N 3 3"],
    query_intrinsics: Float[Array, "1 3 3"],
    *,
    estimator: str,
) -> PairRelations:
    """The relations of one query to N images by their matches."""
    relations = _related(
        network, variables, matches, db_intrinsics, query_intrinsics, estimator=estimator
    )
    best = jnp.max(relations.support)
    supported = relations.support >= MIN_RELATIVE_SUPPORT * best
    return relations.replace(
        valid=relations.valid & supported, confidence_model=CONFIDENCE[estimator]
    )


def _related(
    network: SiameseNetwork,
    variables: Mapping[str, Any],
    matches: RayMatches,
    db_intrinsics: Float[Array, "N 3 3"],
    query_intrinsics: Float[Array, "1 3 3"],
    *,
    estimator: str,
) -> PairRelations:
    """`relate_matches`, each pair for itself."""
    if estimator == "matches":
        estimate = pose_of_matches(matches, db_intrinsics, query_intrinsics)
        return PairRelations(
            db_from_query=estimate.db_from_query,
            valid=estimate.success,
            support=jnp.mean(estimate.inliers, axis=-1),
            overlap_probability=jnp.ones(estimate.success.shape),
        )
    head = network.apply(variables, matches, method="regress")
    overlap_probability = jax.nn.sigmoid(head.reliability.overlap_logit)
    overlaps = overlap_probability > MIN_OVERLAP_PROBABILITY
    head_pose = _as_se3(head)
    if estimator == "network":
        support = jnp.ones(overlap_probability.shape)
        stated = _stated(head, head_pose)
        return PairRelations(head_pose, overlaps, support, overlap_probability, stated)
    estimate = pose_of_matches(matches, db_intrinsics, query_intrinsics, head_pose)
    return PairRelations(
        db_from_query=_with_lengths(estimate, head_pose),
        valid=estimate.success & overlaps,
        support=jnp.mean(estimate.inliers, axis=-1),
        overlap_probability=overlap_probability,
    )


def pose_of_matches(
    matches: RayMatches,
    db_intrinsics: Float[Array, "N 3 3"],
    query_intrinsics: Float[Array, "1 3 3"],
    initial: jaxlie.SE3 | None = None,
) -> RelativePoseEstimate:
    """RANSAC and refinement, with a threshold that suits how matches are found here."""
    focal_px = jnp.sqrt(_focal_px(db_intrinsics) * _focal_px(query_intrinsics))
    return estimate_relative_pose(
        matches.x_query,
        matches.x_db,
        matches.confidence,
        threshold=INLIER_CELLS * FINE_STRIDE / focal_px,
        key=jax.random.key(SAMPLING_SEED),
        initial=initial,
        config=RelativePoseConfig(min_inliers=round(MIN_SUPPORT * matches.confidence.shape[-1])),
    )


def _stated(head: RelativePose, head_pose: jaxlie.SE3) -> Reliability:
    """The head's standard deviations; its direction and log length are as sure as t is long."""
    length = jnp.linalg.norm(head_pose.translation(), axis=-1)
    relative_std = jnp.exp(head.reliability.log_std_t) / (length + SHORTEST)
    return Reliability(
        rotation_std=jnp.exp(head.reliability.log_std_rotation),
        direction_std=jnp.minimum(relative_std, WIDEST_DIRECTION_STD),
        length_std=relative_std,
    )


def _with_lengths(estimate: RelativePoseEstimate, head_pose: jaxlie.SE3) -> jaxlie.SE3:
    """The estimate's poses with the head's lengths; of a camera that only turned, the head's t."""
    pose, t = estimate.db_from_query, head_pose.translation()
    length = jnp.linalg.norm(t, axis=-1, keepdims=True)
    t = jnp.where(estimate.pure_rotation[:, None], t, length * pose.translation())
    return jaxlie.SE3(jnp.concatenate([pose.rotation().wxyz, t], axis=-1))


def _focal_px(intrinsics: Float[Array, "B 3 3"]) -> Float[Array, "B"]:
    return jnp.sqrt(intrinsics[:, 0, 0] * intrinsics[:, 1, 1])


def _as_se3(pose: RelativePose) -> jaxlie.SE3:
    q_wxyz = pose.q_wxyz / jnp.linalg.norm(pose.q_wxyz, axis=-1, keepdims=True)
    return jaxlie.SE3(jnp.concatenate([q_wxyz, pose.t], axis=-1))


def _encode(
    network: SiameseNetwork, variables: PyTree, images: UInt8[Array, "B H W 3"]
) -> MatchFeatures:
    apply = functools.partial(network.apply, variables)
    features = apply(images, method="encode")
    cells = apply(features, method="describe")
    return MatchFeatures(
        descriptor=apply(features, method="descriptor"),
        cells=descriptors.quantise(descriptors.without_canvas(cells, images)),
    )


def _kept(features: MatchFeatures) -> MatchFeatures:
    return MatchFeatures(None, descriptors.packed(features.cells))


def _match_one_to_many(
    apply,
    db_features: MatchFeatures,
    db_intrinsics: Float[Array, "N 3 3"],
    query_features: MatchFeatures,
    query_intrinsics: Float[Array, "1 3 3"],
) -> RayMatches:
    return apply(
        db_features.cells,
        query_features.cells,
        db_intrinsics,
        query_intrinsics,
        method="match",
    )


def _match_tracks(
    db_features: MatchFeatures,
    db_intrinsics: Float[Array, "N 3 3"],
    query_features: MatchFeatures,
    query_intrinsics: Float[Array, "1 3 3"],
    similarity: Float[Array, "N"],
    *,
    every_cell: bool,
    settings: MatchSettings,
) -> RayTracks:
    if every_cell:
        settings = dataclasses.replace(settings, candidates=EVERY, max_matches=EVERY)
    else:
        settings = dataclasses.replace(settings, max_matches=TRACK_CELLS)
    tracks = cell_tracks.match_tracks(
        query_features.cells, db_features.cells, similarity > 0, settings
    )
    weights = match_probability(tracks.confidence, similarity)
    return rays.ray_tracks(tracks, weights, query_intrinsics, db_intrinsics, MATCH_DEVIATION_PX)


def match_probability(
    confidence: Float[Array, "N K"], similarity: Float[Array, "N"]
) -> Float[Array, "N K"]:
    """How likely each match is right, by its confidence and its image's similarity; or 0."""
    of_image = SIMILARITY_WEIGHT * jnp.log(similarity + SMALLEST_CONFIDENCE)
    logit = (
        MATCH_BIAS
        + CONFIDENCE_WEIGHT * jnp.log(confidence + SMALLEST_CONFIDENCE)
        + of_image[:, None]
    )
    probability = jax.nn.sigmoid(logit)
    likely = (probability > MIN_MATCH_PROBABILITY) & (similarity > 0)[:, None]
    return jnp.where(likely, probability, 0.0)

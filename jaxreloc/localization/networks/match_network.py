"""A network with a correlation head, for inference: whole images in, matches or poses out."""

import dataclasses
import functools
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int, PyTree, UInt8

from jaxreloc.compilation import compiler_options
from jaxreloc.compilation.kept_programs import Program
from jaxreloc.geometry._kernels.location import LocationConfig
from jaxreloc.geometry.fusion import FusionConfig
from jaxreloc.images import cell_centres, resize_to_fit
from jaxreloc.localization.networks.confidence import match_probability
from jaxreloc.localization.networks.match_relations import ESTIMATORS, relate_matches
from jaxreloc.localization.networks.relations import PairRelations
from jaxreloc.models import SiameseNetwork, inference
from jaxreloc.models.kernels import convolution
from jaxreloc.models.matching import cell_tracks, descriptors, rays
from jaxreloc.models.matching.coarse_to_fine import MatchSettings
from jaxreloc.models.matching.context.coarse_in_context import coarse_in_context
from jaxreloc.models.matching.descriptors import FINE_STRIDE, CellDescriptors
from jaxreloc.models.matching.rays import RayMatches, RayTracks
from jaxreloc.models.weights import saved_network
from jaxreloc.usage import check_choice

# The head's lengths are right to half of their logarithm.
FUSION = FusionConfig(location=LocationConfig(length_std=0.5))
# Tracks: query cells that are kept, and deviation of a match, pixels of the canvas.
TRACK_CELLS = 1000
MATCH_DEVIATION_PX = 1.0
EVERY = sys.maxsize
# Coarse query cells along each axis of which one is compared to rank images.
SIMILARITY_STRIDE = 2


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
            compiler_options=compiler_options.convolutions,
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
            compiler_options=compiler_options.wide_vectors,
        )
        self._match_tracks = Program(
            functools.partial(_match_tracks, settings=settings),
            "match_tracks",
            of=settings,
            static=["every_cell"],
            compiler_options=compiler_options.wide_vectors,
        )
        self.has_context = loaded.network.head.context is not None
        if self.has_context:
            # Without wide vectors: with them the XLA of JAX 0.10.2 makes NaN of finite scores.
            coarse = Program(
                functools.partial(_coarse_in_context, loaded.network),
                "coarse_in_context",
                of=loaded.network,
            )
            of_context = {"params": {"head": {"context": variables["params"]["head"]["context"]}}}
            self._coarse_in_context = functools.partial(coarse, of_context)
            self._relate_in_context = jax.jit(
                lambda coarse, db, db_intrinsics, query, query_intrinsics: relate(
                    match(db, db_intrinsics, query, query_intrinsics, coarse),
                    db_intrinsics,
                    query_intrinsics,
                ),
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
        return resize_to_fit(image, intrinsics, *self.canvas)

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
        return cell_centres(self.canvas, FINE_STRIDE)

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

    def match_tracks_in_context(
        self,
        db_features: MatchFeatures,
        db_intrinsics: Float[np.ndarray, "N 3 3"],
        query_features: MatchFeatures,
        query_intrinsics: Float[np.ndarray, "1 3 3"],
    ) -> RayTracks:
        """See `ContextMatcher`."""
        arguments = db_features, db_intrinsics, query_features, query_intrinsics
        coarse = self._coarse_in_context(*arguments)
        return self._match_tracks(*arguments, None, coarse, every_cell=False)

    def relate_in_context(
        self,
        db_features: MatchFeatures,
        db_intrinsics: Float[np.ndarray, "N 3 3"],
        query_features: MatchFeatures,
        query_intrinsics: Float[np.ndarray, "1 3 3"],
    ) -> PairRelations:
        """As `relate`, with coarse matches that know both images; where `has_context`."""
        arguments = db_features, db_intrinsics, query_features, query_intrinsics
        return self._relate_in_context(self._coarse_in_context(*arguments), *arguments)

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
    coarse: tuple[Int[Array, "N n 2"], Float[Array, "N n"]] | None = None,
) -> RayMatches:
    return apply(
        db_features.cells,
        query_features.cells,
        db_intrinsics,
        query_intrinsics,
        coarse,
        method="match",
    )


def _match_tracks(
    db_features: MatchFeatures,
    db_intrinsics: Float[Array, "N 3 3"],
    query_features: MatchFeatures,
    query_intrinsics: Float[Array, "1 3 3"],
    similarity: Float[Array, "N"] | None,
    coarse: tuple[Int[Array, "N n 2"], Float[Array, "N n"]] | None = None,
    *,
    every_cell: bool,
    settings: MatchSettings,
) -> RayTracks:
    """Args: similarity: None: the mean confidence of `coarse`."""
    if similarity is None:
        similarity = jnp.mean(coarse[1], axis=1)
    if every_cell:
        settings = dataclasses.replace(settings, candidates=EVERY, max_matches=EVERY)
    else:
        settings = dataclasses.replace(settings, max_matches=TRACK_CELLS)
    cells = query_features.cells, db_features.cells
    tracks = cell_tracks.match_tracks(*cells, settings, coarse)
    weights = match_probability(tracks.confidence, similarity)
    return rays.ray_tracks(tracks, weights, query_intrinsics, db_intrinsics, MATCH_DEVIATION_PX)


def _coarse_in_context(
    network: SiameseNetwork,
    variables: PyTree,
    db_features: MatchFeatures,
    db_intrinsics: Float[Array, "N 3 3"],
    query_features: MatchFeatures,
    query_intrinsics: Float[Array, "1 3 3"],
) -> tuple[Array, Array]:
    return coarse_in_context(
        lambda query, db: network.apply(variables, db, query, method="in_context"),
        query_features.cells,
        db_features.cells,
        query_intrinsics,
        db_intrinsics,
    )

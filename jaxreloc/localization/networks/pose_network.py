"""`PoseNetwork`: all that maps and the localizer know of a network."""

import pathlib
from typing import Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array, Float, PyTree, UInt8

from jaxreloc.geometry.fusion import FusionConfig
from jaxreloc.localization.networks.relations import PairRelations


@runtime_checkable
class PoseNetwork(Protocol):
    """Describes images once, and relates a query to many database images by their features.

    Images come in batches of one shape, which compiles once. A network that is a `Matcher`, too,
    gets its poses from all matches.

    An image is described in two steps. `encode` makes what `relate` compares, which a map keeps as
    `kept` makes it. `descriptor` makes the vector that ranks images, which a map keeps apart, since
    a search reads it for all images and the features for a few. Intrinsics are no part of either: a
    map holds them beside the features, so that `relate` can be asked with other ones.
    """

    # Of what `kept` makes, whose leaves a map stores; then of what maps of earlier versions hold,
    # which differ in the number of leaves.
    feature_formats: tuple[jax.tree_util.PyTreeDef, ...]
    fusion_config: FusionConfig  # suits the relative poses that `relate` gives

    def prepare(
        self, image: UInt8[np.ndarray, "h w 3"], intrinsics: Float[np.ndarray, "3 3"]
    ) -> tuple[UInt8[np.ndarray, "height width 3"], Float[np.ndarray, "3 3"]]:
        """The network's input image, of one shape for all, and its intrinsics."""

    def encode(self, images: UInt8[np.ndarray, "B height width 3"]) -> PyTree:
        """Features, each with leading axis B."""

    def kept(self, features: PyTree) -> PyTree:
        """The features as a map keeps them; the methods below take either as the database's."""

    def descriptor(self, features: PyTree) -> Float[Array, "B dim"]:
        """L2-normalised descriptors, whose inner product ranks the database's images."""

    def relate(
        self,
        db_features: PyTree,
        db_intrinsics: Float[np.ndarray, "N 3 3"],
        query_features: PyTree,
        query_intrinsics: Float[np.ndarray, "1 3 3"],
    ) -> PairRelations:
        """`db_from_query` of one query (leading axis 1) and N database images."""

    def save(self, folder: pathlib.Path) -> None:
        """Writes what `load_network` reads into a folder, as every map holds it."""

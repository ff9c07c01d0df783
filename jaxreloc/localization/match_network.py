"""A network with a correlation head, for inference: whole images in, matches or poses out."""

import functools

import jax
import jax.numpy as jnp
import jaxlie
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, UInt8

from jaxreloc.data import transforms
from jaxreloc.geometry.relative_pose import (
    RelativePoseConfig,
    RelativePoseEstimate,
    estimate_relative_pose,
)
from jaxreloc.models import convolution, inference, saved_network
from jaxreloc.models.matching import descriptors
from jaxreloc.models.matching.descriptors import FINE_STRIDE, CellDescriptors
from jaxreloc.models.matching.rays import RayMatches

# Sampson error of an inlier, in fine cells: matches are right to a fraction of a cell.
INLIER_CELLS = 0.3
# Of 600 matches, pairs that share nothing rarely have more inliers, true pairs rarely fewer.
RANSAC = RelativePoseConfig(min_inliers=80)
SAMPLING_SEED = 0


@struct.dataclass
class MatchFeatures:
    """What is kept of B images: for retrieval, and for the pair head."""

    descriptor: Float[Array, "B D"]
    cells: CellDescriptors  # quantised


class MatchNetwork:
    """Encodes images and matches pairs; each method compiles once per shape.

    Args:
      loaded: the network with its variables and config; `config["data"]["image_size"]` is the
        canvas (height and width, multiples of 32) that whole images are fitted into.
    """

    def __init__(self, loaded: saved_network.LoadedNetwork):
        self.loaded = loaded
        self._canvas = tuple(loaded.config["data"]["image_size"])
        variables = jax.device_put(inference.fold(loaded.network, loaded.variables))
        apply = functools.partial(loaded.network.apply, variables)
        encode = functools.partial(
            convolution.map_images, functools.partial(_encode, apply), cpu_batch=inference.CPU_BATCH
        )
        self._encode = jax.jit(encode, compiler_options=convolution.compiler_options())
        self._match = jax.jit(functools.partial(_match_one_to_many, apply))
        probe = jax.ShapeDtypeStruct((1, *self._canvas, 3), np.uint8)
        self.feature_structure = jax.tree.structure(jax.eval_shape(self._encode, probe))

    def prepare(
        self, image: UInt8[np.ndarray, "h w 3"], intrinsics: Float[np.ndarray, "3 3"]
    ) -> tuple[UInt8[np.ndarray, "height width 3"], Float[np.ndarray, "3 3"]]:
        """The whole image on a black canvas, and its intrinsics there."""
        return transforms.resize_to_fit(image, intrinsics, *self._canvas)

    def encode(self, images: UInt8[np.ndarray, "B height width 3"]) -> MatchFeatures:
        """Features with leading axis B, as they are kept."""
        return self._encode(images)

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

    def relate(
        self,
        db_features: MatchFeatures,
        db_intrinsics: Float[np.ndarray, "N 3 3"],
        query_features: MatchFeatures,
        query_intrinsics: Float[np.ndarray, "1 3 3"],
    ) -> tuple[jaxlie.SE3, Bool[Array, "N"]]:
        """`db_from_query` of one query and N database images, and which of them are valid."""
        estimate = self.estimate(db_features, db_intrinsics, query_features, query_intrinsics)
        return estimate.db_from_query, estimate.success

    def estimate(
        self,
        db_features: MatchFeatures,
        db_intrinsics: Float[np.ndarray, "N 3 3"],
        query_features: MatchFeatures,
        query_intrinsics: Float[np.ndarray, "1 3 3"],
    ) -> RelativePoseEstimate:
        """The relative poses that the matches give without training: |t| = 1."""
        matches = self.match(db_features, db_intrinsics, query_features, query_intrinsics)
        focal_px = np.sqrt(_focal_px(db_intrinsics) * _focal_px(query_intrinsics))
        return estimate_relative_pose(
            matches.x_query,
            matches.x_db,
            matches.confidence,
            threshold=INLIER_CELLS * FINE_STRIDE / focal_px,
            key=jax.random.key(SAMPLING_SEED),
            config=RANSAC,
        )


def _focal_px(intrinsics: Float[np.ndarray, "B 3 3"]) -> Float[np.ndarray, "B"]:
    return np.sqrt(intrinsics[:, 0, 0] * intrinsics[:, 1, 1])


def _encode(apply, images: UInt8[Array, "B H W 3"]) -> MatchFeatures:
    features = apply(images, method="encode")
    cells = apply(features, method=lambda network, x: network.head.describe(x))
    cells = jax.tree.map(lambda x: x * _has_content(images, x.shape[1]), cells)
    return MatchFeatures(
        descriptor=apply(features, method="descriptor"),
        cells=descriptors.quantise(cells),
    )


def _has_content(images: UInt8[Array, "B H W 3"], rows: int) -> Bool[Array, "B rows w 1"]:
    """False in the cells that are black all over, as the canvas around an image is."""
    batch, height, width, _ = images.shape
    stride = height // rows
    cells = images.reshape(batch, rows, stride, width // stride, stride * 3)
    return jnp.any(cells > 0, axis=(2, 4))[..., None]


def _match_one_to_many(
    apply,
    db_features: MatchFeatures,
    db_intrinsics: Float[Array, "N 3 3"],
    query_features: MatchFeatures,
    query_intrinsics: Float[Array, "1 3 3"],
) -> RayMatches:
    query = descriptors.restore(query_features.cells)

    def match(db: CellDescriptors, intrinsics: Float[Array, "3 3"]) -> RayMatches:
        db, intrinsics = jax.tree.map(lambda x: x[None], (db, intrinsics))
        pair = descriptors.restore(db), query, intrinsics, query_intrinsics
        matches = apply(*pair, method=lambda network, *pair: network.head.match(*pair))
        return jax.tree.map(lambda x: x[0], matches)

    return jax.vmap(match)(db_features.cells, db_intrinsics)

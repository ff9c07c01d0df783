"""The paper's siamese network for inference: images in, regressed relative poses out."""

import dataclasses
import functools
import pathlib

import jax
import jax.numpy as jnp
import jaxlie
import numpy as np
from flax import struct
from jaxtyping import Array, Float, PyTree, UInt8

from jaxreloc.geometry.fusion import FusionConfig
from jaxreloc.images import center_crop, resize_short_side, resize_to_fit
from jaxreloc.localization.networks.relations import PairRelations
from jaxreloc.models.backbones.features import Features
from jaxreloc.models.heads.pose_prediction import RelativePose
from jaxreloc.models.inference import inference_functions
from jaxreloc.models.weights import saved_network
from jaxreloc.models.weights.backbone_weights import DEFAULT
from jaxreloc.models.weights.network_weights import first_variables


@struct.dataclass
class RegressionFeatures:
    """What is known of B images: for retrieval, and for the pair head."""

    descriptor: Float[Array, "B dim"]  # a map keeps it apart
    pair: Features


class RegressionNetwork:
    """A `PoseNetwork` whose head regresses the pose; each method compiles once per shape.

    Args:
      loaded: the network with its variables and config; `config["data"]` says which input it was
        trained on: whole images fitted into `image_size`, height and width, or without one
        `short_side`, then a centre crop of `crop` x `crop` pixels.

    Attributes:
      fusion_config: what suits the poses that `relate` gives.
    """

    fusion_config = FusionConfig()

    def __init__(self, loaded: saved_network.LoadedNetwork):
        self.loaded = loaded
        data = loaded.config["data"]
        self._whole = data.get("image_size")
        if self._whole is None:
            self._short_side, self._crop = data["short_side"], data["crop"]
        height, width = self._whole or (self._crop, self._crop)
        self._functions = inference_functions(loaded)
        self._ranking = self._functions
        model = loaded.config["model"]
        if model.get("retrieval") == "imagenet":
            imagenet = {"backbone": model["backbone"], "pretrained": DEFAULT}
            variables = first_variables(imagenet, loaded.network, jax.random.key(0))
            self._ranking = inference_functions(dataclasses.replace(loaded, variables=variables))
        probe = jax.ShapeDtypeStruct((1, height, width, 3), np.uint8)
        encode = functools.partial(loaded.network.apply, loaded.variables, method="encode")
        self.feature_formats = (jax.tree.structure(jax.eval_shape(encode, probe)),)

    def prepare(
        self, image: UInt8[np.ndarray, "h w 3"], intrinsics: Float[np.ndarray, "3 3"]
    ) -> tuple[UInt8[np.ndarray, "height width 3"], Float[np.ndarray, "3 3"]]:
        """The network's input image and its intrinsics, from an image of any size."""
        if self._whole is not None:
            return resize_to_fit(image, intrinsics, *self._whole)
        resized = resize_short_side(image, intrinsics, self._short_side)
        return center_crop(*resized, self._crop)

    def encode(self, images: UInt8[np.ndarray, "B height width 3"]) -> RegressionFeatures:
        """Features with leading axis B."""
        pair = self._functions.encode(images)
        ranking = pair if self._ranking is self._functions else self._ranking.encode(images)
        return RegressionFeatures(self._ranking.descriptor(ranking), pair)

    def kept(self, features: RegressionFeatures) -> Features:
        """Those of the pair head."""
        return features.pair

    def descriptor(self, features: RegressionFeatures) -> Float[Array, "B dim"]:
        """L2-normalised retrieval descriptors."""
        return features.descriptor

    def relate(
        self,
        db_features: Features | RegressionFeatures,
        db_intrinsics: Float[np.ndarray, "N 3 3"],
        query_features: Features | RegressionFeatures,
        query_intrinsics: Float[np.ndarray, "1 3 3"],
    ) -> PairRelations:
        """One query (leading axis 1) beside N database images; a regressed pose is always valid.

        Either may be as `encode` or as `kept` gives it: an image of the map may be the query.
        """
        n = len(db_intrinsics)
        db_features, query_features = map(_of_pairs, (db_features, query_features))
        repeated_features, repeated_intrinsics = _repeat((query_features, query_intrinsics), n)
        pose = self._functions.relate(
            db_features, repeated_features, db_intrinsics, repeated_intrinsics
        )
        return PairRelations(_as_se3(pose), jnp.ones(n, bool))

    def save(self, folder: pathlib.Path) -> None:
        """See `PoseNetwork`."""
        self.loaded.save(folder)


def _of_pairs(features: Features | RegressionFeatures) -> Features:
    return features.pair if isinstance(features, RegressionFeatures) else features


@functools.partial(jax.jit, static_argnums=1)
def _repeat(tree: PyTree, n: int) -> PyTree:
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (n, *x.shape[1:])), tree)


@jax.jit
def _as_se3(pose: RelativePose) -> jaxlie.SE3:
    q_wxyz = pose.q_wxyz / jnp.linalg.norm(pose.q_wxyz, axis=-1, keepdims=True)
    return jaxlie.SE3.from_rotation_and_translation(jaxlie.SO3(q_wxyz), pose.t)

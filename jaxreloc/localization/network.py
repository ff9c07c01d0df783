"""A trained network as compiled functions of fixed shapes."""

import functools
import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import jaxlie
import numpy as np
from jaxtyping import Array, Float, PyTree, UInt8

from jaxreloc.data import transforms
from jaxreloc.models import saved_network


class InferenceNetwork:
    """Encodes images and relates pairs; each method compiles once per shape.

    Args:
      loaded: the network with its variables and config; `config["data"]` says which input it was
        trained on (`short_side`, then a centre crop of `crop` x `crop` pixels).
    """

    def __init__(self, loaded: saved_network.LoadedNetwork):
        self.file = loaded.file
        self._short_side = loaded.config["data"]["short_side"]
        self._crop = loaded.config["data"]["crop"]
        variables = jax.device_put(loaded.variables)
        apply = functools.partial(loaded.network.apply, variables)
        self._encode = jax.jit(functools.partial(apply, method="encode"))
        self._descriptor = jax.jit(functools.partial(apply, method="descriptor"))
        probe = jax.ShapeDtypeStruct((1, 64, 64, 3), np.uint8)
        self.feature_structure = jax.tree.structure(jax.eval_shape(self._encode, probe))
        self._relate = jax.jit(functools.partial(_relate_one_to_many, apply))

    def prepare(
        self, image: UInt8[np.ndarray, "h w 3"], intrinsics: Float[np.ndarray, "3 3"]
    ) -> tuple[UInt8[np.ndarray, "crop crop 3"], Float[np.ndarray, "3 3"]]:
        """The network's input image and its intrinsics, from an image of any size."""
        resized = transforms.resize_short_side(image, intrinsics, self._short_side)
        return transforms.center_crop(*resized, self._crop)

    def encode(self, images: UInt8[np.ndarray, "B crop crop 3"]) -> PyTree:
        """Features with leading axis B, as the pair head takes them."""
        return self._encode(images)

    def descriptor(self, features: PyTree) -> Float[Array, "B dim"]:
        """L2-normalised retrieval descriptors."""
        return self._descriptor(features)

    def relate(
        self,
        db_features: PyTree,
        db_intrinsics: Float[np.ndarray, "N 3 3"],
        query_features: PyTree,
        query_intrinsics: Float[np.ndarray, "1 3 3"],
    ) -> jaxlie.SE3:
        """`db_from_query` of one query (leading axis 1) and N database images; batch axis N."""
        return self._relate(db_features, db_intrinsics, query_features, query_intrinsics)


def load_inference_network(
    path: str | os.PathLike, model: Mapping[str, Any] | None = None
) -> InferenceNetwork:
    """Reads what training saved; see `saved_network.load_network` for `path` and `model`."""
    return InferenceNetwork(saved_network.load_network(path, model))


def _relate_one_to_many(
    apply, db_features, db_intrinsics, query_features, query_intrinsics
) -> jaxlie.SE3:
    n = db_intrinsics.shape[0]
    repeated = jax.tree.map(
        lambda x: jnp.broadcast_to(x, (n, *x.shape[1:])), (query_features, query_intrinsics)
    )
    pose = apply(db_features, repeated[0], db_intrinsics, repeated[1], method="relate")
    q_wxyz = pose.q_wxyz / jnp.linalg.norm(pose.q_wxyz, axis=-1, keepdims=True)
    return jaxlie.SE3.from_rotation_and_translation(jaxlie.SO3(q_wxyz), pose.t)

"""A network whose answers are known, for tests of what stands around it."""

import jax
import jax.numpy as jnp
import jaxlie
import numpy as np

from jaxreloc.formats.frames import PosedFrames
from jaxreloc.geometry.fusion import FusionConfig
from jaxreloc.localization.confidence import ConfidenceModel
from jaxreloc.localization.relations import PairRelations


class OracleNetwork:
    """Reads the camera pose that `oracle_frames` wrote into the picture, and so relates exactly.

    Its features are the poses themselves; its descriptor is the viewing direction and position,
    L2-normalised.
    """

    feature_structure = jax.tree.structure({"pose": 0})
    fusion_config = FusionConfig()

    def prepare(self, image, intrinsics):
        return image, intrinsics

    def encode(self, images):
        return {"pose": pose_in_picture(images)}

    def descriptor(self, features):
        x = jnp.concatenate(
            [features["pose"][:, 4:], jnp.ones_like(features["pose"][:, :1])], axis=1
        )
        return x / jnp.linalg.norm(x, axis=1, keepdims=True)

    def relate(self, db_features, db_intrinsics, query_features, query_intrinsics):
        db = jaxlie.SE3(jnp.asarray(db_features["pose"]))
        query = jaxlie.SE3(jnp.broadcast_to(query_features["pose"], (len(db_intrinsics), 7)))
        db_from_query = jax.vmap(lambda a, b: a.inverse() @ b)(db, query)
        return PairRelations(db_from_query, np.ones(len(db_intrinsics), bool))


class UprightOracle(OracleNetwork):
    """Relates by what `sign_picture` wrote along the upper edge, and refuses all else."""

    feature_structure = jax.tree.structure({"pose": 0, "support": 0})
    confidence_model = ConfidenceModel(bias=0.0, weights=(0.0, 0.0), threshold=0.5)

    def prepare(self, image, intrinsics):
        return image[:1, :32], intrinsics

    def encode(self, images):
        pose = pose_in_picture(images[..., 2:30, :])
        signed = images[:, 0, 30, :1] > 0
        return {
            "pose": np.where(signed, pose, np.float32([1, 0, 0, 0, 0, 0, 0])[None]),
            "support": images[:, 0, 30, 0] / np.float32(255),
        }

    def relate(self, db_features, db_intrinsics, query_features, query_intrinsics):
        exact = super().relate(db_features, db_intrinsics, query_features, query_intrinsics)
        support = np.broadcast_to(query_features["support"], len(db_intrinsics))
        return exact.replace(
            valid=support > 0,
            support=support,
            overlap_probability=np.ones(len(support), np.float32),
            confidence_model=self.confidence_model,
        )


def sign_picture(picture, pose_pixels, support):
    """Writes a pose of `oracle_frames` along the upper edge, for `UprightOracle`."""
    picture[0, 2:30] = pose_pixels
    picture[0, 30] = round(255 * support)


def pose_in_picture(images) -> np.ndarray:
    """The `wxyz_xyz` whose bytes are the pixels of pictures [*b, 1, 28, 3]."""
    return np.ascontiguousarray(images[..., 0, :, 0]).view(np.float32)


def oracle_frames(rng, n, scene="room") -> PosedFrames:
    """n frames whose pictures hold their own pose as bytes."""
    tangent = rng.normal(size=(n, 6)) * np.array([1, 1, 1, 0.3, 0.3, 0.3])
    poses = jax.vmap(jaxlie.SE3.exp)(jnp.asarray(tangent, jnp.float32))
    pixels = np.ascontiguousarray(np.asarray(poses.wxyz_xyz)).view(np.uint8)
    return PosedFrames(
        scene=scene,
        names=tuple(f"{i:03d}.png" for i in range(n)),
        world_from_cam=np.asarray(jax.vmap(jaxlie.SE3.as_matrix)(poses), np.float64),
        intrinsics=np.tile(np.eye(3), (n, 1, 1)),
        image_sizes=np.tile([28, 1], (n, 1)),
        images=list(np.tile(pixels[:, None, :, None], (1, 1, 1, 3))),
    )

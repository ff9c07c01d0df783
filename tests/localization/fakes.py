"""A network whose answers are known, for tests of what stands around it."""

import jax
import jax.numpy as jnp
import jaxlie
import numpy as np

from jaxreloc.formats.frames import PosedFrames


class OracleNetwork:
    """Reads the camera pose that `oracle_frames` wrote into the picture, and so relates exactly.

    Its features are the poses themselves; its descriptor is the viewing direction and position,
    L2-normalised.
    """

    def prepare(self, image, intrinsics):
        return image, intrinsics

    def encode(self, images):
        return {"pose": images.astype(np.float32)[:, 0, :, 0] / 1e3}

    def descriptor(self, features):
        x = jnp.concatenate([features["pose"][:, 4:], jnp.ones_like(features["pose"][:, :1])], axis=1)
        return x / jnp.linalg.norm(x, axis=1, keepdims=True)

    def relate(self, db_features, db_intrinsics, query_features, query_intrinsics):
        db = jaxlie.SE3(jnp.asarray(db_features["pose"]))
        query = jaxlie.SE3(jnp.broadcast_to(query_features["pose"], (len(db_intrinsics), 7)))
        return jax.vmap(lambda a, b: a.inverse() @ b)(db, query)


def oracle_frames(rng, n, scene="room") -> PosedFrames:
    """n frames whose pictures hold their own pose, in thousandths, as int32 pixels."""
    tangent = rng.normal(size=(n, 6)) * np.array([1, 1, 1, 0.3, 0.3, 0.3])
    poses = jax.vmap(jaxlie.SE3.exp)(jnp.asarray(tangent, jnp.float32))
    parameters = np.round(np.asarray(poses.wxyz_xyz) * 1e3).astype(np.int32)
    pictures = [np.broadcast_to(row[None, :, None], (1, 7, 3)) for row in parameters]
    wxyz_xyz = parameters / 1e3
    wxyz_xyz[:, :4] /= np.linalg.norm(wxyz_xyz[:, :4], axis=1, keepdims=True)
    return PosedFrames(
        scene=scene,
        names=tuple(f"{i:03d}.png" for i in range(n)),
        world_from_cam=np.asarray(jax.vmap(jaxlie.SE3.as_matrix)(jaxlie.SE3(jnp.asarray(wxyz_xyz))), np.float64),
        intrinsics=np.tile(np.eye(3), (n, 1, 1)),
        image_sizes=np.tile([7, 1], (n, 1)),
        images=pictures,
    )

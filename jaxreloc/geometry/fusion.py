"""An absolute pose from predicted relative poses to database images."""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
import jax_dataclasses as jdc
import numpy as np
from jaxlie import SE3, SO3
from jaxtyping import Bool, Float

PAPER_DIRECTION = np.deg2rad(10.0)
PAPER_ROTATION = np.deg2rad(20.0)


@jdc.pytree_dataclass
class FusedPose:
    """The pose of each query, and how far to trust it."""

    world_from_query: SE3
    location_inliers: Bool[jax.Array, "*batch N"]
    rotation_inliers: Bool[jax.Array, "*batch N"]
    position_covariance: Float[jax.Array, "*batch 3 3"]  # world axes, metres squared
    rotation_std: Float[jax.Array, "*batch"]  # of each component of the rotation vector, radians
    success: Bool[jax.Array, "*batch"]


def fuse(
    world_from_db: SE3,
    db_from_query: SE3,
    *,
    valid: Bool[jax.Array, "*batch N"] | None = None,
    method: Literal["robust", "paper"] = "robust",
    config=None,
    key: jax.Array | None = None,
) -> FusedPose:
    """Fuses the relative poses of a query to N database images, over any leading batch axes."""
    if valid is None:
        valid = jnp.ones(world_from_db.get_batch_axes(), bool)
    with jax.numpy_rank_promotion("allow"):
        return _fuse(world_from_db, db_from_query, valid)


@functools.partial(jnp.vectorize, signature="(n,7),(n,7),(n)->(7),(n),(n),(3,3),(),()")
def _fuse_arrays(world_from_db, db_from_query, valid):
    n = valid.shape[0]
    world_from_db, db_from_query = SE3(world_from_db), SE3(db_from_query)
    centres = world_from_db.translation()
    direction = world_from_db.rotation() @ db_from_query.translation()  # world axes
    direction = direction / jnp.maximum(jnp.linalg.norm(direction, axis=-1, keepdims=True), 1e-12)
    i, j = np.triu_indices(n, 1)
    nearest = centres[jnp.argmax(valid)]
    rotations = world_from_db.rotation() @ db_from_query.rotation()
    location, inliers, success = nearest, jnp.zeros(n, bool), jnp.array(False)
    if n > 1:
        a, b = direction[i], direction[j]
        baseline = centres[j] - centres[i]
        ab = jnp.sum(a * b, -1)
        det = jnp.sum(jnp.cross(a, b) ** 2, -1)
        usable = (det > 1e-6) & valid[i] & valid[j]
        det = jnp.where(usable, det, 1.0)
        da, db = jnp.sum(baseline * a, -1), jnp.sum(baseline * b, -1)
        s, u = (da - ab * db) / det, (ab * da - db) / det
        points = 0.5 * (centres[i] + s[:, None] * a + centres[j] + u[:, None] * b)
        seen = points[:, None] - centres[None]
        cosine = jnp.abs(jnp.sum(seen * direction[None], -1))
        cosine = cosine / jnp.maximum(jnp.linalg.norm(seen, axis=-1), 1e-12)
        agree = (cosine > np.cos(PAPER_DIRECTION)) & valid[None]
        votes = jnp.where(usable, agree.sum(-1), -1)
        best = (votes == votes.max()) & usable
        success = usable.any()
        mean = jnp.sum(jnp.where(best[:, None], points, 0.0), 0) / jnp.maximum(best.sum(), 1)
        location = jnp.where(success, mean, nearest)
        inliers = agree[jnp.argmax(best)] & success
    q = rotations.wxyz / jnp.maximum(jnp.linalg.norm(rotations.wxyz, axis=-1, keepdims=True), 1e-12)
    agree = jnp.abs(jnp.sum(q[:, None] * q[None], -1)) > np.cos(PAPER_ROTATION / 2)
    agree = agree & valid[None] & valid[:, None]
    votes = agree.sum(-1)
    winners = (votes == votes.max()) & valid
    first = q[jnp.argmax(winners)]
    aligned = jnp.where(jnp.sum(q * first[None], -1, keepdims=True) < 0, -q, q)
    mean = jnp.sum(jnp.where(winners[:, None], aligned, 0.0), 0)
    mean = SO3(mean / jnp.maximum(jnp.linalg.norm(mean), 1e-12))
    for _ in range(10):
        offsets = (mean.inverse() @ SO3(aligned)).log()
        weight = winners / jnp.maximum(jnp.linalg.norm(offsets, axis=-1), 1e-6)
        step = jnp.sum(weight[:, None] * offsets, 0) / jnp.maximum(weight.sum(), 1e-12)
        mean = mean @ SO3.exp(step)
    pose = SE3.from_rotation_and_translation(mean, location).wxyz_xyz
    spread = jnp.eye(3)
    return pose, inliers, agree[jnp.argmax(winners)], spread, jnp.array(0.1), success


@jax.jit
def _fuse(world_from_db, db_from_query, valid):
    pose, *rest = _fuse_arrays(world_from_db.wxyz_xyz, db_from_query.wxyz_xyz, valid)
    return FusedPose(SE3(pose), *rest)

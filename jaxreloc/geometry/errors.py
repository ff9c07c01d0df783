"""How far apart two rotations or positions are. Angles are radians, in [0, pi].

Exact to float32 near 0 and near pi, where `arccos` of a trace or a dot product is not, and with
finite gradients everywhere (zero at a coincidence).
"""

import jax
import jax.numpy as jnp
from jaxlie import SE3, SO3
from jaxtyping import Float

from jaxreloc.geometry import poses


def rotation_error(a: SO3, b: SO3) -> Float[jax.Array, "*batch"]:
    """Geodesic distance `|log(a^-1 b)|`, radians: `2 atan2(|v|, |w|)` of the quaternion a^-1 b."""
    difference = poses.compose(poses.inverse(a), b).wxyz
    return 2.0 * jnp.arctan2(_norm(difference[..., 1:]), jnp.abs(difference[..., 0]))


def position_error(a: SE3, b: SE3) -> Float[jax.Array, "*batch"]:
    """Distance between the translations (for `world_from_cam`: the camera centres), metres."""
    return _norm(a.translation() - b.translation())


def _norm(v: Float[jax.Array, "*batch n"]) -> Float[jax.Array, "*batch"]:
    """Euclidean norm whose gradient at zero is zero instead of NaN."""
    squared = jnp.sum(v * v, axis=-1)
    positive = squared > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1.0)), 0.0)

"""How far apart two rotations, positions or directions are. Angles are radians, in [0, pi].

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


def direction_error(
    t_a: Float[jax.Array, "*batch 3"], t_b: Float[jax.Array, "*batch 3"]
) -> Float[jax.Array, "*batch"]:
    """Angle between two vectors of any length, signed (opposite vectors are pi apart), radians.

    Kahan's `2 atan2(|a/|a| - b/|b||, |a/|a| + b/|b||)`. A zero vector is pi/2 from everything.
    """
    t_a, t_b = jnp.broadcast_arrays(t_a, t_b)
    unit_a, unit_b = _unit(t_a), _unit(t_b)
    defined = jnp.any(t_a != 0, axis=-1) & jnp.any(t_b != 0, axis=-1)
    angle = 2.0 * jnp.arctan2(_norm(unit_a - unit_b), _norm(unit_a + unit_b))
    return jnp.where(defined, angle, jnp.pi / 2)


def _unit(v: Float[jax.Array, "*batch 3"]) -> Float[jax.Array, "*batch 3"]:
    """`v / |v|`, zero for the zero vector; of any finite `v`, whose square might overflow."""
    largest = jnp.max(jnp.abs(v), axis=-1, keepdims=True)
    v = v * jnp.where(largest > 1e18, 1e-20, jnp.where(largest < 1e-18, 1e20, 1.0))
    norm = _norm(v)[..., None]
    return v / jnp.where(norm > 0, norm, 1.0)


def _norm(v: Float[jax.Array, "*batch n"]) -> Float[jax.Array, "*batch"]:
    """Euclidean norm whose gradient at zero is zero instead of NaN."""
    squared = jnp.sum(v * v, axis=-1)
    positive = squared > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1.0)), 0.0)

"""Relative poses of image pairs, and the two frames in which their translations are written.

A pose `a_from_b` maps points, `x_a = a_from_b @ x_b`; `world_from_cam` therefore holds the camera
centre, in metres, as its translation. Quaternions are unit Hamilton `wxyz`.

jaxlie promotes ranks when its operands have batch axes, which the setting
`jax_numpy_rank_promotion="raise"` forbids; the functions here allow it for jaxlie's calls alone, so
batched code uses `inverse`, `compose` and `rotate` in place of the operators.
"""

from typing import TypeVar

import jax
import numpy as np
from jaxlie import SE3, SO3
from jaxtyping import Float

Transform = TypeVar("Transform", SE3, SO3)


def inverse(a_from_b: Transform) -> Transform:
    """`b_from_a`, over any leading batch axes."""
    with jax.numpy_rank_promotion("allow"):
        return a_from_b.inverse()


def compose(a_from_b: Transform, b_from_c: Transform) -> Transform:
    """`a_from_c = a_from_b @ b_from_c`, over any leading batch axes, which broadcast."""
    with jax.numpy_rank_promotion("allow"):
        return a_from_b @ b_from_c


def rotate(
    a_from_b: SO3, vector_b: Float[jax.Array | np.ndarray, "*batch 3"]
) -> Float[jax.Array, "*batch 3"]:
    """`vector_a`: the vector in the axes of a, over any leading batch axes, which broadcast."""
    with jax.numpy_rank_promotion("allow"):
        return a_from_b @ vector_b


def relative_pose(world_from_db: SE3, world_from_query: SE3) -> SE3:
    """`db_from_query = inverse(world_from_db) @ world_from_query`, over any leading batch axes.

    Its translation is the query's centre in the database camera's axes, metres.
    """
    return compose(inverse(world_from_db), world_from_query)


def to_camera_axes(
    world_from_db: SE3, t_world: Float[jax.Array | np.ndarray, "*batch 3"]
) -> Float[jax.Array, "*batch 3"]:
    """`R_world_from_db^T t_world`: an offset in world axes, written in the database camera's.

    The lists that the paper's authors published hold `centre_query - centre_db` in world axes;
    this turns such a label into the translation of `db_from_query`.
    """
    return rotate(inverse(world_from_db.rotation()), t_world)

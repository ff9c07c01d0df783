"""Other pairs of cameras that would have seen the same matches: mirrored, and turned in place."""

import jax
import jax.numpy as jnp
import jaxlie
from jaxtyping import Array, Bool, Float

from jaxreloc.models.matching.rays import RayMatches

# A turned ray that leaves the half space in front of its camera by this depth is held there.
MIN_DEPTH = 0.15


def mirror(
    matches: RayMatches, db_from_query: jaxlie.SE3, mirrored: Bool[Array, "B"]
) -> tuple[RayMatches, jaxlie.SE3]:
    """The pairs seen in a mirror that swaps left and right, where `mirrored`.

    With S = diag(-1, 1, 1), rays become S x, the rotation S R S and the translation S t.
    """
    sign = jnp.where(mirrored, -1.0, 1.0)[:, None]
    x_sign = jnp.concatenate([sign, jnp.ones_like(sign)], axis=-1)
    # S turns a rotation about the axis (a, b, c) into one about (a, -b, -c).
    q_sign = jnp.concatenate([jnp.ones_like(x_sign), sign, sign], axis=-1)
    t_sign = jnp.concatenate([x_sign, jnp.ones_like(sign)], axis=-1)
    matches = matches.replace(
        x_query=matches.x_query * x_sign[:, None], x_db=matches.x_db * x_sign[:, None]
    )
    signs = jnp.concatenate([q_sign, t_sign], axis=-1)
    return matches, jaxlie.SE3(db_from_query.wxyz_xyz * signs)


def turn_cameras(
    matches: RayMatches,
    db_from_query: jaxlie.SE3,
    db_turn: jaxlie.SO3,
    query_turn: jaxlie.SO3,
) -> tuple[RayMatches, jaxlie.SE3]:
    """The pairs had each camera been turned about its centre, `x_new = turn @ x_old`."""
    matches = matches.replace(
        x_query=_turned(matches.x_query, query_turn), x_db=_turned(matches.x_db, db_turn)
    )
    new_from_db, new_from_query = (
        jax.vmap(lambda r: jaxlie.SE3.from_rotation(jaxlie.SO3(r)))(turn.wxyz)
        for turn in (db_turn, query_turn)
    )
    turned = jax.vmap(lambda a, x, b: a @ x @ b.inverse())
    return matches, turned(new_from_db, db_from_query, new_from_query)


def random_turns(
    key: jax.Array, count: int, std: tuple[float, float, float]
) -> jaxlie.SO3:
    """Rotations whose vectors are normal with these standard deviations about x, y, z (radians)."""
    vectors = jax.random.normal(key, (count, 3)) * jnp.array([std])
    return jax.vmap(jaxlie.SO3.exp)(vectors)


def _turned(x: Float[Array, "B K 2"], turn: jaxlie.SO3) -> Float[Array, "B K 2"]:
    homogeneous = jnp.concatenate([x, jnp.ones_like(x[..., :1])], axis=-1)
    matrices = jax.vmap(lambda q: jaxlie.SO3(q).as_matrix())(turn.wxyz)
    rays = jnp.einsum("bij,bkj->bki", matrices, homogeneous)
    return rays[..., :2] / jnp.maximum(rays[..., 2:], MIN_DEPTH)

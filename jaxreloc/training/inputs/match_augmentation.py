"""Other pairs of cameras that would have seen the same matches: mirrored, and turned in place."""

import dataclasses

import jax
import jax.numpy as jnp
import jaxlie
from jaxtyping import Array, Bool, Float, UInt32

from jaxreloc.models.matching.rays import RayMatches

# A turned ray that leaves the half space in front of its camera by this depth is held there.
MIN_DEPTH = 0.15


@dataclasses.dataclass(frozen=True)
class MatchAugmentation:
    """A random mirror, a random turn of each camera, and a random choice among the matches.

    Attributes:
      turn_std_deg: standard deviations of the turns about x, y, z.
      kept: the share of matches that go on, the surest first as before.
    """

    turn_std_deg: tuple[float, float, float] = (4.0, 4.0, 8.0)
    kept: float = 0.85

    def __call__(
        self,
        matches: RayMatches,
        db_from_query: jaxlie.SE3,
        draw: UInt32[Array, "B"],
    ) -> tuple[RayMatches, jaxlie.SE3]:
        """Augmented pairs; each depends on its own `draw` alone."""
        keys = jax.vmap(lambda seed: jax.random.split(jax.random.key(seed), 3))(draw)
        mirrored = jax.vmap(jax.random.bernoulli)(keys[:, 0])
        std = jnp.deg2rad(jnp.array(self.turn_std_deg)).reshape(1, 1, 3)
        vectors = jax.vmap(lambda key: jax.random.normal(key, (2, 3)))(keys[:, 1]) * std
        turns = [jax.vmap(jaxlie.SO3.exp)(vectors[:, k]) for k in (0, 1)]
        matches = thin(matches, keys[:, 2], self.kept)
        return turn_cameras(*mirror(matches, db_from_query, mirrored), *turns)


def thin(matches: RayMatches, keys: Array, kept: float) -> RayMatches:
    """The share `kept` of the matches of each pair, chosen at random, in their order."""
    count = matches.confidence.shape[1]
    chosen = max(1, round(kept * count))

    def choose(key: Array) -> Array:
        return jnp.sort(jax.random.permutation(key, count)[:chosen])

    index = jax.vmap(choose)(keys)
    return jax.vmap(lambda pair, at: jax.tree.map(lambda x: x[at], pair))(matches, index)


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


def _turned(x: Float[Array, "B K 2"], turn: jaxlie.SO3) -> Float[Array, "B K 2"]:
    homogeneous = jnp.concatenate([x, jnp.ones_like(x[..., :1])], axis=-1)
    matrices = jax.vmap(lambda q: jaxlie.SO3(q).as_matrix())(turn.wxyz)
    rays = jnp.einsum("bij,bkj->bki", matrices, homogeneous)
    return rays[..., :2] / jnp.maximum(rays[..., 2:], MIN_DEPTH)

"""The rotation-only model of a pair: its fit, and whether the pair shows any parallax at all.

A camera that only turned satisfies `x_db ~ R x_query` for all its matches. Then every direction of
motion explains them equally well, and an essential matrix returns one that noise has chosen.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from jaxreloc.geometry._kernels import lanes
from jaxreloc.geometry._kernels.lanes import Lane, Vector, dot
from jaxreloc.geometry.two_view.epipolar import Matches

EXPLAINED_SHARE = 0.85  # of the epipolar inliers
NEGLIGIBLE = 1e-3  # of the squared threshold: for matches without noise
WIDENING = 4.0  # of the squared threshold
PARALLAX_DEVIATIONS = 5.0
RATIO_DEVIATION = 1.0  # times 1 / sqrt(n), of (a + b) / 2b for sums a, b of n squared normals
DAMPING = 1e-6


def fit_rotation(q_wxyz: Vector, matches: Matches, threshold: Lane, steps: int) -> Vector:
    """Refines the rotation `db_from_query` by the transfer error in the db image.

    Minimizes Geman and McClure's `w r / (1 + r / 2 threshold^2)` of the squared distance r between
    `R x_query` and x_db in the plane z = 1, by reweighted Gauss-Newton, 3 degrees of freedom. The
    quaternion's components are scalars.
    """

    def body(_, q):
        y, visible = _transfer(q, matches)
        offset = (matches.x_db[:, 0] - y[0], matches.x_db[:, 1] - y[1])
        scale = 2.0 * threshold**2
        robust = (scale / (scale + dot(offset, offset))) ** 2
        weights = jnp.where(visible, matches.weights * robust, 0.0)
        # d(y)/d(rotation vector): one row for each coordinate
        rows = (
            (-y[0] * y[1], 1.0 + y[0] ** 2, -y[1]),
            (-1.0 - y[1] ** 2, y[0] * y[1], y[0]),
        )
        normal = [
            [jnp.vdot(weights, sum(row[i] * row[j] for row in rows)) for j in range(i + 1)]
            for i in range(3)
        ]
        right = tuple(
            jnp.vdot(weights, sum(row[i] * o for row, o in zip(rows, offset, strict=True)))
            for i in range(3)
        )
        step = lanes.solve_positive(normal, right, DAMPING * lanes.trace(normal))
        turn = (jnp.ones_like(q[0]),) + tuple(0.5 * x for x in step)
        return lanes.unit(lanes.quaternion_product(turn, q))

    return jax.lax.fori_loop(0, steps, body, q_wxyz)


def transfer_error(q_wxyz: Vector, matches: Matches) -> Float[jax.Array, "K"]:
    """Squared distance between `R x_query` and x_db in the plane z = 1; infinite behind it."""
    y, visible = _transfer(q_wxyz, matches)
    offset = (matches.x_db[:, 0] - y[0], matches.x_db[:, 1] - y[1])
    return jnp.where(visible, dot(offset, offset), jnp.inf)


def no_parallax(
    q_wxyz: Vector,
    epipolar_squared: Float[jax.Array, "K"],
    matches: Matches,
    inliers: Bool[jax.Array, "K"],
    threshold: Lane,
) -> Bool[jax.Array, ""]:
    """Whether the rotation explains the epipolar inliers, no significant parallax being left.

    Two conditions: `EXPLAINED_SHARE` of the inliers' weight is explained within twice the
    threshold; and among all matches that both models explain so, the mean square of the transfer
    error, two components of variance 2 sigma^2 (noise of both images), does not exceed four times
    that of Sampson's error, of variance sigma^2, by more than `PARALLAX_DEVIATIONS` standard
    deviations of the ratio. The second makes the verdict independent of how generous the threshold
    is.
    """
    squared = transfer_error(q_wxyz, matches)
    explained = squared < 2.0 * WIDENING * threshold**2
    mass = jnp.vdot(explained & inliers, matches.weights)
    compared = explained & (epipolar_squared < WIDENING * threshold**2)
    weights = jnp.where(compared, matches.weights, 0.0)
    count = jnp.sum(weights) ** 2 / (jnp.vdot(weights, weights) + lanes.TINY)
    transferred = jnp.vdot(weights, jnp.where(compared, squared, 0.0))
    epipolar = jnp.vdot(weights, epipolar_squared) * count / jnp.maximum(count - 5.0, 1.0)
    bound = 1.0 + PARALLAX_DEVIATIONS * RATIO_DEVIATION / jnp.sqrt(count + 1.0)
    return (mass > EXPLAINED_SHARE * jnp.vdot(inliers, matches.weights)) & (
        transferred <= bound * 4.0 * epipolar + NEGLIGIBLE * threshold**2 * jnp.sum(weights)
    )


def _transfer(q_wxyz: Vector, matches: Matches) -> tuple[Vector, Bool[jax.Array, "K"]]:
    """`R x_query` in the plane z = 1, and where it lies before the camera."""
    query = (matches.x_query[:, 0], matches.x_query[:, 1], jnp.ones_like(matches.weights))
    x, y, z = lanes.transform(lanes.rotation_rows(q_wxyz), query)
    visible = z > 0.1
    z = jnp.where(visible, z, 1.0)
    return (x / z, y / z), visible

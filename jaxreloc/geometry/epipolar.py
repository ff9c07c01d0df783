"""How well relative poses explain matches: Sampson's error, depth signs, and their refinement.

Matches are coordinates in the plane z = 1 of the two cameras (pixels times the inverse of the
intrinsics), so that errors and thresholds are pixels over the focal length: radians at the image's
centre. With `E = [t]_x R` of `db_from_query`, Sampson's squared error of a match is

    s = (x_db^T E x_query)^2 / (|E x_query|_{1,2}^2 + |E^T x_db|_{1,2}^2),

to first order the squared distance to the nearest pair of points that fits E exactly (Sampson
1982; Hartley and Zisserman, 11.4.3); with noise of standard deviation sigma in every coordinate,
sqrt(s) has the standard deviation sigma.

Refinement minimizes the sum of Geman and McClure's `w s / (1 + s / c^2)` over rotation and
direction by reweighted Gauss-Newton. Both the numerator and the denominator of s are quadratic in
the nine entries e of E, so that each step only needs weighted sums of fixed products of the
matches' coordinates: one matrix product over all hypotheses. The gradient keeps the
denominator's part (Chojnacki et al., "On the fitting of surfaces to data with covariances",
PAMI 2000); without it the result would be biased where the denominator varies, near an epipole.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxlie import SE3
from jaxtyping import Bool, Float

from jaxreloc.geometry import essential, lanes
from jaxreloc.geometry.lanes import Lane, LanePose, Vector, cross, dot

LONGEST_STEP = 0.5  # radians
FAR_PARALLAX = 6.0
FLOOR_OF_PARALLAX = 0.3  # of the threshold
DAMPING = 1e-6  # of the normal matrix's trace


class Matches(NamedTuple):
    """The matches of one pair of images; a weight of zero masks a match."""

    x_query: Float[jax.Array, "K 2"]
    x_db: Float[jax.Array, "K 2"]
    weights: Float[jax.Array, "K"]


class Residuals(NamedTuple):
    """Of every lane and match, `[lanes, K]`."""

    squared: jax.Array  # Sampson's s
    denominator: jax.Array
    parallax: jax.Array  # along the motion, radians; negative behind a camera
    plausible: jax.Array  # neither significantly behind a camera nor far nearer than the rest


def sampson_error(
    db_from_query: SE3,
    x_query: Float[jax.Array, "*batch K 2"],
    x_db: Float[jax.Array, "*batch K 2"],
) -> Float[jax.Array, "*batch K"]:
    """Distance to the epipolar constraint, `sqrt(s)`, in units of the plane z = 1."""
    pose = lanes.expand(lanes.pose_from_array(db_from_query.wxyz_xyz))
    squared, _ = _sampson(pose, x_query[..., 0], x_query[..., 1], x_db[..., 0], x_db[..., 1])
    return jnp.sqrt(squared + lanes.TINY**2)


def in_front(
    db_from_query: SE3,
    x_query: Float[jax.Array, "*batch K 2"],
    x_db: Float[jax.Array, "*batch K 2"],
    tolerance: float = 0.0,
) -> Bool[jax.Array, "*batch K"]:
    """Whether each match triangulates before both cameras.

    A point's depths are negative where its parallax runs against the direction of motion. With a
    `tolerance` (radians) only a parallax that exceeds it counts: noise decides the sign of a
    far point.
    """
    pose = lanes.expand(lanes.pose_from_array(db_from_query.wxyz_xyz))
    parallaxes = _signed_parallaxes(
        pose, x_query[..., 0], x_query[..., 1], x_db[..., 0], x_db[..., 1]
    )
    return jnp.minimum(*parallaxes) > -tolerance


def residuals(pose: LanePose, matches: Matches, threshold: Lane) -> Residuals:
    """Errors of every pose (lanes `[n]`) for every match.

    A wrong match that lies on its epipolar line by chance mostly has an absurd depth. One behind a
    camera by more than the threshold is implausible, and so is one whose parallax exceeds
    `FAR_PARALLAX` times the geometric mean over the pose's inliers (or the threshold, if larger):
    under a short baseline such matches alone would decide the direction.
    """
    image = coordinates(matches)
    pose = lanes.expand(pose)
    squared, denominator = _sampson(pose, *image)
    in_db, in_query = _signed_parallaxes(pose, *image)
    smaller, larger = jnp.minimum(in_db, in_query), jnp.maximum(in_db, in_query)

    forward = smaller > -threshold
    inlier = forward & (squared < threshold**2)
    logarithm = jnp.where(inlier, jnp.log(jnp.abs(larger) + FLOOR_OF_PARALLAX * threshold), 0.0)
    mass = jnp.where(inlier, 1.0, 0.0) @ matches.weights + lanes.TINY
    typical = jnp.maximum(jnp.exp(logarithm @ matches.weights / mass), threshold)
    plausible = forward & (larger < FAR_PARALLAX * typical[:, None])
    return Residuals(squared, denominator, smaller, plausible)


def msac_cost(pose: LanePose, matches: Matches, threshold: Lane) -> Lane:
    """Per lane the sum of `w min(s / threshold^2, 1)`, depths ignored; lower is better.

    Torr and Zisserman, "MLESAC" (CVIU 2000).
    """
    squared, _ = _sampson(lanes.expand(pose), *coordinates(matches))
    return _finite_cost(jnp.minimum(squared / threshold**2, 1.0) @ matches.weights)


def msac_cost_in_front(pose: LanePose, matches: Matches, threshold: Lane) -> Lane:
    """`msac_cost` where an implausible match, or one behind a camera, costs as an outlier.

    Here every negative depth counts, however small the parallax: far points split evenly under
    every pose, and the two solutions of a planar scene differ by little else.
    """
    error = residuals(pose, matches, threshold)
    accepted = error.plausible & (error.parallax > 0)
    cost = jnp.where(accepted, jnp.minimum(error.squared / threshold**2, 1.0), 1.0)
    return _finite_cost(cost @ matches.weights)


def choose_by_depth(pose: LanePose, matches: Matches, threshold: Lane) -> LanePose:
    """Of the four poses of each lane's essential matrix the one with positive depths.

    Every inlier votes by the smaller of its two signed parallaxes, cut at the threshold: points
    whose parallax drowns in noise hardly count.
    """
    image = coordinates(matches)
    squared, _ = _sampson(lanes.expand(pose), *image)
    inlier = squared < threshold**2

    def votes(parallax):
        return jnp.where(inlier, jnp.clip(parallax / threshold, -1.0, 1.0), 0.0) @ matches.weights

    candidates = []
    for rotated in (pose, essential.twisted(pose)):
        in_db, in_query = _signed_parallaxes(lanes.expand(rotated), *image)
        candidates.append((votes(jnp.minimum(in_db, in_query)), rotated))
        candidates.append((votes(-jnp.maximum(in_db, in_query)), essential.opposite(rotated)))
    most, best = candidates[0]
    for count, candidate in candidates[1:]:
        best = lanes.where(count > most, candidate, best)
        most = jnp.maximum(count, most)
    return best


def refine(pose: LanePose, matches: Matches, scale: Lane, threshold: Lane) -> LanePose:
    """Local optimization: minimizes the robust Sampson error of all plausible matches.

    `scale` is the Geman-McClure constant c of each step, `[steps]`: residuals well above it lose
    their influence. Implausible matches (see `residuals`) are left out.
    """
    products = _products(matches)

    def step(i, pose):
        moments = _moments(pose, matches, products, scale[i], threshold)
        return lanes.retract(pose, _newton_direction(pose, moments), LONGEST_STEP)

    return jax.lax.fori_loop(0, scale.shape[0], step, pose)


def normal_matrix(
    pose: LanePose, matches: Matches, scale: Lane, threshold: Lane
) -> tuple[Vector, ...]:
    """`sum_k w_k J_k^T J_k` of sqrt(s) by (rotation vector, tangents of t), 5 x 5 lanes.

    The weights are the robust ones; divided by the noise's variance this is the information.
    """
    moments = _moments(pose, matches, _products(matches), scale, threshold)
    return _normal_matrix(pose, moments)[0]


class _Products(NamedTuple):
    """Products of each match's coordinates."""

    numerator: jax.Array  # [45, K], upper triangle of q q^T, q = x_db (x) x_query
    query: jax.Array  # [6, K], upper triangle of x_query x_query^T
    db: jax.Array  # [6, K]


class _Moments(NamedTuple):
    """The quadratic model of the cost at fixed weights: lanes."""

    numerator: tuple[Vector, ...]  # 9 x 9
    query: tuple[Vector, ...]  # 3 x 3
    db: tuple[Vector, ...]


def _products(matches: Matches) -> _Products:
    one = jnp.ones_like(matches.weights)
    query = (matches.x_query[:, 0], matches.x_query[:, 1], one)
    db = (matches.x_db[:, 0], matches.x_db[:, 1], one)
    both = tuple(a * b for a in db for b in query)
    return _Products(_upper_triangle(both), _upper_triangle(query), _upper_triangle(db))


def _upper_triangle(a: Vector) -> jax.Array:
    return jnp.stack([a[i] * a[j] for i, j in zip(*np.triu_indices(len(a)), strict=True)])


def _moments(pose, matches, products: _Products, scale, threshold) -> _Moments:
    error = residuals(pose, matches, threshold)
    robust = (scale**2 / (scale**2 + error.squared)) ** 2
    weights = jnp.where(error.plausible, matches.weights[None] * robust, 0.0) / error.denominator
    of_denominator = weights * error.squared
    return _Moments(
        lanes.symmetric(_weighted_sums(weights, products.numerator), 9),
        lanes.symmetric(_weighted_sums(of_denominator, products.query), 3),
        lanes.symmetric(_weighted_sums(of_denominator, products.db), 3),
    )


def _weighted_sums(weights: jax.Array, products: jax.Array) -> Vector:
    return tuple(jnp.einsum("fk,nk->fn", products, weights))


def _newton_direction(pose: LanePose, moments: _Moments) -> Vector:
    normal, derivatives = _normal_matrix(pose, moments)
    gradient = _gradient(pose, moments)
    right = tuple(-dot(column, gradient) for column in derivatives)
    return lanes.solve_positive(normal, right, DAMPING * lanes.trace(normal))


def _normal_matrix(pose: LanePose, moments: _Moments):
    """`J^T M J` (lower triangle) with the columns J = dE of the five degrees of freedom."""
    derivatives = _essential_derivatives(pose)
    products = [lanes.transform(moments.numerator, column) for column in derivatives]
    normal = tuple(
        tuple(dot(derivatives[j], products[i]) for j in range(i + 1)) for i in range(5)
    )
    return normal, derivatives


def _essential_derivatives(pose: LanePose) -> tuple[Vector, ...]:
    """Five columns of nine entries (E row by row): R <- exp(w) R, then t along its tangents."""
    rotation = lanes.rotation_rows(pose.q_wxyz)
    columns = tuple(zip(*rotation))
    t_in_query = tuple(dot(pose.t, column) for column in columns)
    derivatives = []
    for axis in range(3):  # [t]_x [axis]_x R = (axis t^T - t_axis I) R
        turned = [[-pose.t[axis] * entry for entry in row] for row in rotation]
        turned[axis] = [a + b for a, b in zip(turned[axis], t_in_query, strict=True)]
        derivatives.append(tuple(entry for row in turned for entry in row))
    for tangent in lanes.tangent_basis(pose.t):
        crossed = (cross(tangent, column) for column in columns)
        derivatives.append(tuple(entry for row in zip(*crossed) for entry in row))
    return tuple(derivatives)


def _gradient(pose: LanePose, moments: _Moments) -> Vector:
    """Half the cost's derivative by the nine entries of E, at fixed robust weights."""
    rows = essential.essential_rows(pose)
    entries = tuple(entry for row in rows for entry in row)
    numerator = lanes.transform(moments.numerator, entries)
    columns = tuple(zip(*rows))
    gradient = []
    for i in range(3):
        for j in range(3):
            part = numerator[3 * i + j]
            if i < 2:
                part = part - dot(rows[i], moments.query[j])
            if j < 2:
                part = part - dot(moments.db[i], columns[j])
            gradient.append(part)
    return tuple(gradient)


def coordinates(matches: Matches) -> Vector:
    """u, v of x_query and p, q of x_db, each `[1, K]`, to meet lanes `[n, 1]`."""
    return tuple(
        x[None] for x in (*jnp.moveaxis(matches.x_query, -1, 0), *jnp.moveaxis(matches.x_db, -1, 0))
    )


def _sampson(pose: LanePose, u, v, p, q) -> tuple[jax.Array, jax.Array]:
    """`s` and its denominator for x_query = (u, v, 1), x_db = (p, q, 1)."""
    e = essential.essential_rows(pose)
    line_0 = e[0][0] * u + e[0][1] * v + e[0][2]
    line_1 = e[1][0] * u + e[1][1] * v + e[1][2]
    line_2 = e[2][0] * u + e[2][1] * v + e[2][2]
    back_0 = e[0][0] * p + e[1][0] * q + e[2][0]
    back_1 = e[0][1] * p + e[1][1] * q + e[2][1]
    residual = p * line_0 + q * line_1 + line_2
    denominator = line_0**2 + line_1**2 + back_0**2 + back_1**2 + lanes.TINY
    return residual**2 / denominator, denominator


def _signed_parallaxes(pose: LanePose, u, v, p, q) -> tuple[jax.Array, jax.Array]:
    """The parallax along the motion as db and query see it, radians; negative behind that camera.

    With a = x_db, b = R x_query and n = a x b, the depths are `-(b x t) . n / |n|^2` in db and
    `-(a x t) . n / |n|^2` in the query; |n| / (|a| |b|) is the sine of the parallax.
    """
    one = jnp.ones_like(u)
    a, b = (p, q, one), lanes.transform(lanes.rotation_rows(pose.q_wxyz), (u, v, one))
    normal = cross(a, b)
    size = dot(a, a) * dot(b, b)
    parallaxes = []
    for ray in (b, a):
        across = cross(ray, pose.t)
        length = jnp.sqrt(dot(across, across) * size + lanes.TINY)
        parallaxes.append(-dot(across, normal) / length)
    return tuple(parallaxes)


def _finite_cost(cost: Lane) -> Lane:
    return jnp.where(jnp.isfinite(cost), cost, jnp.inf)

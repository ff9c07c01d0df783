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

from jaxreloc.geometry._kernels import lanes
from jaxreloc.geometry._kernels.lanes import Lane, LanePose, Vector, cross, dot
from jaxreloc.geometry.two_view import essential

LONGEST_STEP = 0.5  # radians
FAR_PARALLAX = 5.0
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


def in_front(
    db_from_query: SE3,
    x_query: Float[jax.Array | np.ndarray, "*batch K 2"],
    x_db: Float[jax.Array | np.ndarray, "*batch K 2"],
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
    `FAR_PARALLAX` times the squared mean root over the pose's inliers (or the threshold, if
    larger): under a short baseline such matches alone would decide the direction.
    """
    image = coordinates(matches)
    pose = lanes.expand(pose)
    squared, denominator = _sampson(pose, *image)
    in_db, in_query = _signed_parallaxes(pose, *image)
    smaller, larger = jnp.minimum(in_db, in_query), jnp.maximum(in_db, in_query)

    forward = smaller > -threshold
    inlier = forward & (squared < threshold**2)
    mass = jnp.where(inlier, 1.0, 0.0) @ matches.weights + lanes.TINY
    root = jnp.where(inlier, jnp.sqrt(jnp.maximum(larger, 0.0) + lanes.TINY), 0.0)
    typical = jnp.maximum((root @ matches.weights / mass) ** 2, threshold)
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


def refine(
    pose: LanePose,
    matches: Matches,
    scale: Float[jax.Array, "steps lanes"],
    threshold: Lane,
) -> LanePose:
    """Local optimization: minimizes the robust Sampson error of all plausible matches.

    `scale` is the Geman-McClure constant c of each step and lane (or of all, `[steps, 1]`):
    residuals well above it lose their influence. Implausible matches (see `residuals`) are left
    out.
    """
    products = _products(matches)

    def step(i, pose):
        gradient, normal = _quadratic_model(pose, matches, products, scale[i], threshold)
        rows = [[normal[:, j, k] for k in range(5)] for j in range(5)]
        right = tuple(-gradient[:, j] for j in range(5))
        move = lanes.solve_positive(rows, right, DAMPING * lanes.trace(rows))
        return lanes.retract(pose, move, LONGEST_STEP)

    return jax.lax.fori_loop(0, scale.shape[0], step, pose)


def normal_matrix(
    pose: LanePose, matches: Matches, scale: Float[jax.Array, "lanes"], threshold: Lane
) -> Float[jax.Array, "lanes 5 5"]:
    """`sum_k w_k J_k^T J_k` of sqrt(s) by (rotation vector, tangents of t).

    The weights are the robust ones; divided by the noise's variance this is the information.
    """
    return _quadratic_model(pose, matches, _products(matches), scale, threshold)[1]


class _Products(NamedTuple):
    """Products of each match's homogeneous coordinates, upper triangles row by row."""

    numerator: Float[jax.Array, "45 K"]  # q q^T, q = x_db (x) x_query
    denominator: Float[jax.Array, "12 K"]  # x_query x_query^T, then x_db x_db^T


def _products(matches: Matches) -> _Products:
    one = jnp.ones_like(matches.weights)
    query = (*matches.x_query.T, one)
    db = (*matches.x_db.T, one)
    both = tuple(a * b for a in db for b in query)
    return _Products(
        jnp.stack(_upper_triangle(both)),
        jnp.stack(_upper_triangle(query) + _upper_triangle(db)),
    )


def _upper_triangle(a: Vector) -> Vector:
    return tuple(a[i] * a[j] for i, j in zip(*np.triu_indices(len(a)), strict=True))


def _places_in_triangle(n: int) -> np.ndarray:
    """Where each entry of a symmetric n x n matrix lies in its upper triangle, `[n, n]`."""
    places = np.zeros((n, n), int)
    places[np.triu_indices(n)] = np.arange(n * (n + 1) // 2)
    return np.maximum(places, places.T)


def _quadratic_model(
    pose: LanePose,
    matches: Matches,
    products: _Products,
    scale: Float[jax.Array, "#lanes"],
    threshold: Lane,
) -> tuple[Float[jax.Array, "lanes 5"], Float[jax.Array, "lanes 5 5"]]:
    """Half the gradient of the cost at fixed robust weights, and Gauss-Newton's matrix."""
    error = residuals(pose, matches, threshold)
    squared_scale = scale[:, None] ** 2
    robust = (squared_scale / (squared_scale + error.squared)) ** 2
    weights = jnp.where(error.plausible, matches.weights[None] * robust, 0.0) / error.denominator
    numerator = jnp.einsum("nk,fk->nf", weights, products.numerator)[:, _places_in_triangle(9)]
    denominator = jnp.einsum("nk,fk->nf", weights * error.squared, products.denominator)

    columns = _essential_and_derivatives(pose)
    moved = jnp.einsum("naj,nij->nai", columns, numerator)
    by_entries = moved[:, :1] - _denominator_gradient(pose, denominator)[:, None]
    forms = jnp.einsum("nai,nbi->nab", jnp.concatenate([by_entries, moved[:, 1:]], 1), columns)
    return forms[:, 0, 1:], forms[:, 1:, 1:]


def _denominator_gradient(
    pose: LanePose, sums: Float[jax.Array, "lanes 12"]
) -> Float[jax.Array, "lanes 9"]:
    """Half the derivative of the weighted denominators by the nine entries of E.

    The denominator holds the first two components of the lines `E x_query` and `E^T x_db`.
    """
    of_query, of_db = (lanes.symmetric(tuple(half.T), 3) for half in (sums[:, :6], sums[:, 6:]))
    rows = essential.essential_rows(pose)
    columns = tuple(zip(*rows))
    gradient = []
    for i in range(3):
        for j in range(3):
            along_query = dot(rows[i], of_query[j]) if i < 2 else 0.0
            along_db = dot(of_db[i], columns[j]) if j < 2 else 0.0
            gradient.append(along_query + along_db + jnp.zeros_like(pose.t[0]))
    return jnp.stack(gradient, axis=-1)


def _essential_and_derivatives(pose: LanePose) -> Float[jax.Array, "lanes 6 9"]:
    """The nine entries of E, then their derivatives by the five degrees of freedom.

    With R <- exp(w) R first, `[t]_x [w]_x R = (w t^T - (t . w) I) R`, then t along its tangents.
    """
    rotation = lanes.rotation_rows(pose.q_wxyz)
    columns = tuple(zip(*rotation))
    t_in_query = tuple(dot(pose.t, column) for column in columns)
    derivatives = []
    for axis in range(3):
        turned = [[-pose.t[axis] * entry for entry in row] for row in rotation]
        turned[axis] = [a + b for a, b in zip(turned[axis], t_in_query, strict=True)]
        derivatives.append(turned)
    for tangent in lanes.tangent_basis(pose.t):
        derivatives.append(tuple(zip(*(cross(tangent, column) for column in columns))))
    matrices = [essential.essential_rows(pose), *derivatives]
    stacked = jnp.stack([entry for rows in matrices for row in rows for entry in row], axis=-1)
    return stacked.reshape(-1, 6, 9)


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

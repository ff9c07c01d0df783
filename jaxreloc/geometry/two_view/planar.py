"""The second relative pose that the matches of a planar scene allow."""

import jax.numpy as jnp

from jaxreloc.geometry._kernels import lanes
from jaxreloc.geometry._kernels.lanes import Lane, LanePose, Vector, cross, dot
from jaxreloc.geometry.two_view import epipolar
from jaxreloc.geometry.two_view.epipolar import Matches

RIDGE = 1e-6  # of the normal matrix's trace


def twin(pose: LanePose, matches: Matches, threshold: Lane) -> LanePose:
    """The pose that would explain the matches as well, were their points on one plane.

    The points of a plane `m . x = 1 / depth` (query axes, unit baseline) map by the homography
    `R (I + a m^T)`, a = R^T t. With c = a + m |a|^2 / 2 its metric part is
    `H^T H = I + m c^T + c m^T`: exchanging m and c changes nothing, and leads to

        m' = c,  a' = m - c |m|^2 / (2 |c|^2),  R' = R (I + a m^T) (I + a' c^T)^-1,  t' = R' a'

    (the second of the solutions of Longuet-Higgins, "The reconstruction of a plane surface from
    two perspective projections", Proc. R. Soc. B 1986). The plane is fitted to the inverse depths
    of the pose's plausible inliers. For a scene that is not planar the result is a wrong pose.
    """
    rotation = lanes.rotation_rows(pose.q_wxyz)
    a = lanes.transform(tuple(zip(*rotation)), pose.t)
    m = _inverse_depth_plane(pose, matches, threshold)
    c = tuple(x + 0.5 * y for x, y in zip(a, m, strict=True))
    ratio = 0.5 * dot(m, m) / (dot(c, c) + lanes.TINY)
    a_twin = tuple(x - ratio * y for x, y in zip(m, c, strict=True))

    determinant = 1.0 + dot(a, m)
    determinant = jnp.where(jnp.abs(determinant) > 1e-3, determinant, 1e-3)
    metric = _identity_plus(a, m, 1.0)
    inverse = _identity_plus(a_twin, c, -1.0 / determinant)
    rows = _product(rotation, _product(metric, inverse))
    t = lanes.transform(rows, a_twin)
    return LanePose(lanes.quaternion_from_rows(rows), lanes.unit(t))


def _inverse_depth_plane(pose: LanePose, matches: Matches, threshold: Lane) -> Vector:
    """m of the least squares fit `m . x_query = 1 / depth`, residuals weighted as in the image.

    From `x_db x (R x_query + t / depth) = 0`, with p = x_db x t:
    `1 / depth = -p . (x_db x R x_query) / |p|^2`.
    """
    error = epipolar.residuals(pose, matches, threshold)
    inlier = error.plausible & (error.squared < threshold**2)
    u, v, p, q = epipolar.coordinates(matches)
    one = jnp.ones_like(u)
    wide = lanes.expand(pose)
    x_query, x_db = (u, v, one), (p, q, one)
    across = cross(x_db, wide.t)
    turned = lanes.transform(lanes.rotation_rows(wide.q_wxyz), x_query)
    weights = jnp.where(inlier, matches.weights[None], 0.0)
    squared = weights * dot(across, across)
    right = -weights * dot(across, cross(x_db, turned))
    normal = lanes.symmetric(
        tuple(_sum(squared * x_query[i] * x_query[j]) for i in range(3) for j in range(i, 3)), 3
    )
    right = tuple(_sum(right * x) for x in x_query)
    return lanes.solve_positive(normal, right, RIDGE * lanes.trace(normal))


def _sum(x) -> Lane:
    return jnp.sum(x, axis=-1)


def _identity_plus(a: Vector, b: Vector, scale):
    """`I + scale a b^T`."""
    return tuple(
        tuple(scale * x * y + float(i == j) for j, y in enumerate(b)) for i, x in enumerate(a)
    )


def _product(left, right):
    return tuple(tuple(dot(row, column) for column in zip(*right)) for row in left)

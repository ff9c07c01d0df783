"""The poses of a camera that sees three known points: Grunert's method, in lanes.

With unit rays f_i, points P_i, the distances a = |P_2 P_3|, b = |P_1 P_3|, c = |P_1 P_2| and the
cosines of the angles between the rays opposite to them, the law of cosines gives three equations
for the lengths s_i along the rays. s_2 = u s_1 and s_3 = v s_1 turn them into a quartic for v
(Grunert 1841; Haralick et al., "Review and analysis of solutions of the three point perspective
pose estimation problem", IJCV 1994). Ferrari's roots are polished by Newton's method, on the
quartic and then on the three equations themselves, so that single precision suffices.
"""

import functools
from typing import NamedTuple

import jax.numpy as jnp

from jaxreloc.compilation.unfused import unfused
from jaxreloc.geometry._kernels import lanes
from jaxreloc.geometry._kernels.lanes import Lane, Matrix, Vector, cross, dot

POLISH_QUARTIC = 3
POLISH_LENGTHS = 3
TINY = 1e-12


class CameraPose(NamedTuple):
    """world_from_camera in lanes: rows of the rotation, and the centre."""

    rotation: Matrix
    centre: Vector


def p3p(
    rays: tuple[Vector, Vector, Vector], points: tuple[Vector, Vector, Vector]
) -> tuple[CameraPose, Lane]:
    """Up to four poses of each lane, along a new leading axis, and which of them are solutions.

    Args:
      rays: of the three points in the camera's axes, of any length.
      points: in the world, not on a line.

    Returns:
      The poses, finite also where they are no solution, and a mask: the point lies before the
      camera along every ray, and the three equations hold.
    """
    rays, points = lanes.expand((rays, points), 0)  # the axis of the solutions
    rays = tuple(lanes.unit(ray) for ray in rays)
    unit = jnp.sqrt(_squared_distance(points[0], points[2])) + TINY
    scaled = tuple(tuple(x / unit for x in point) for point in points)
    sides = (
        _squared_distance(scaled[1], scaled[2]),
        _squared_distance(scaled[0], scaled[2]),
        _squared_distance(scaled[0], scaled[1]),
    )
    cosines = (dot(rays[1], rays[2]), dot(rays[0], rays[2]), dot(rays[0], rays[1]))
    lengths, solved = _lengths(sides, cosines)
    in_camera = tuple(
        tuple(length * x for x in ray) for length, ray in zip(lengths, rays, strict=True)
    )
    rotation = _aligned(in_camera, scaled)
    turned = lanes.transform(rotation, in_camera[0])
    centre = tuple(unit * (x - y) for x, y in zip(scaled[0], turned, strict=True))
    finite = jnp.isfinite(sum(centre) + sum(sum(row) for row in rotation))
    for row in rotation:  # of points in one place or on a line there is no triangle to turn
        finite = finite & (jnp.abs(dot(row, row) - 1) < 1e-2)
    identity = tuple(tuple(float(i == j) for j in range(3)) for i in range(3))
    rotation = tuple(
        tuple(jnp.where(finite, x, one) for x, one in zip(row, ones, strict=True))
        for row, ones in zip(rotation, identity, strict=True)
    )
    centre = tuple(jnp.where(finite, x, 0.0) for x in centre)
    return CameraPose(rotation, centre), solved & finite


def _lengths(sides: Vector, cosines: Vector) -> tuple[Vector, Lane]:
    """s_1, s_2, s_3 of the four solutions, [4, lanes] each, and which are ones."""
    a2, b2, c2 = sides
    alpha, beta, gamma = cosines
    b2 = jnp.maximum(b2, TINY)
    difference, total, c_share, a_share = (a2 - c2) / b2, (a2 + c2) / b2, c2 / b2, a2 / b2
    coefficients = (
        (difference - 1) ** 2 - 4 * c_share * alpha**2,
        4
        * (
            difference * (1 - difference) * beta
            - (1 - total) * alpha * gamma
            + 2 * c_share * alpha**2 * beta
        ),
        2
        * (
            difference**2
            - 1
            + 2 * difference**2 * beta**2
            + 2 * (1 - c_share) * alpha**2
            - 4 * total * alpha * beta * gamma
            + 2 * (1 - a_share) * gamma**2
        ),
        4
        * (
            -difference * (1 + difference) * beta
            + 2 * a_share * gamma**2 * beta
            - (1 - total) * alpha * gamma
        ),
        (1 + difference) ** 2 - 4 * a_share * gamma**2,
    )
    v = _quartic_roots(coefficients)
    denominator = 2 * (gamma - v * alpha)
    denominator = jnp.where(jnp.abs(denominator) > 1e-6, denominator, 1e-6)
    u = ((difference - 1) * v**2 - 2 * difference * beta * v + 1 + difference) / denominator
    s_1 = jnp.sqrt(b2 / jnp.maximum(1 + v**2 - 2 * v * beta, TINY))
    lengths = (s_1, u * s_1, v * s_1)
    for _ in range(POLISH_LENGTHS):
        lengths = _newton(lengths, (a2, b2, c2), cosines)
    lengths = tuple(unfused(x) for x in lengths)  # each is compared with all others
    errors = _equations(lengths, (a2, b2, c2), cosines)
    solved = sum(jnp.abs(x) for x in errors) < 1e-3 * (a2 + b2 + c2)
    for length in lengths:
        solved = solved & (length > 0)
    return lengths, solved & ~_repeated(lengths, solved)


def _repeated(lengths: Vector, solved: Lane) -> Lane:
    """Whether a solution [4, lanes] is one before it again, as where roots are polished to one."""
    repeated = [jnp.zeros(solved.shape[1:], bool)]
    for i in range(1, solved.shape[0]):
        same = [
            solved[j] & (sum(jnp.abs(x[i] - x[j]) for x in lengths) < 1e-3 * jnp.abs(lengths[0][j]))
            for j in range(i)
        ]
        repeated.append(functools.reduce(jnp.logical_or, same))
    return jnp.stack(repeated)


def _quartic_roots(coefficients: tuple[Lane, ...]) -> Lane:
    """Real parts of the four roots [4, lanes], real ones polished; highest coefficient first."""
    leading = coefficients[0]
    leading = jnp.where(jnp.abs(leading) > 1e-9, leading, 1e-9)
    a, b, c, d = (x / leading for x in coefficients[1:])
    p = b - 3 * a**2 / 8
    q = c - a * b / 2 + a**3 / 8
    r = d - a * c / 4 + a**2 * b / 16 - 3 * a**4 / 256
    z = jnp.maximum(_largest_cubic_root(2 * p, p**2 - 4 * r, -(q**2)), 1e-9)
    m = jnp.sqrt(z)
    roots = []
    for sign in (1.0, -1.0):
        square = -(z + 2 * p + sign * 2 * q / m)
        half = jnp.sqrt(jnp.maximum(square, 0.0))
        roots += [(sign * m + half) / 2, (sign * m - half) / 2]
    x = jnp.concatenate(roots) - a / 4
    for _ in range(POLISH_QUARTIC):
        value = (((x + a) * x + b) * x + c) * x + d
        slope = ((4 * x + 3 * a) * x + 2 * b) * x + c
        step = value / jnp.where(jnp.abs(slope) > 1e-9, slope, 1e-9)
        x = x - jnp.clip(step, -0.1 * (1 + jnp.abs(x)), 0.1 * (1 + jnp.abs(x)))
    return x


def _largest_cubic_root(a: Lane, b: Lane, c: Lane) -> Lane:
    """Of x^3 + a x^2 + b x + c, by Cardano's and Viete's formulas."""
    p = b - a**2 / 3
    q = 2 * a**3 / 27 - a * b / 3 + c
    discriminant = q**2 / 4 + p**3 / 27
    root = jnp.sqrt(jnp.maximum(discriminant, 0.0))
    one = jnp.cbrt(-q / 2 + root) + jnp.cbrt(-q / 2 - root)
    radius = jnp.sqrt(jnp.maximum(-p / 3, TINY))
    cosine = jnp.clip(-q / (2 * radius**3), -1.0, 1.0)
    three = 2 * radius * jnp.cos(jnp.arccos(cosine) / 3)
    x = jnp.where(discriminant > 0, one, three) - a / 3
    for _ in range(2):
        slope = (3 * x + 2 * a) * x + b
        x = x - (((x + a) * x + b) * x + c) / jnp.where(jnp.abs(slope) > 1e-9, slope, 1e-9)
    return x


def _equations(lengths: Vector, sides: Vector, cosines: Vector) -> Vector:
    """What the law of cosines leaves, for the sides opposite to the points 1, 2 and 3."""
    pairs = ((1, 2), (0, 2), (0, 1))
    return tuple(
        lengths[i] ** 2 + lengths[j] ** 2 - 2 * lengths[i] * lengths[j] * cosine - side
        for (i, j), side, cosine in zip(pairs, sides, cosines, strict=True)
    )


def _newton(lengths: Vector, sides: Vector, cosines: Vector) -> Vector:
    s_1, s_2, s_3 = lengths
    alpha, beta, gamma = cosines
    zero = jnp.zeros_like(s_1)
    columns = (
        (zero, s_1 - s_3 * beta, s_1 - s_2 * gamma),
        (s_2 - s_3 * alpha, zero, s_2 - s_1 * gamma),
        (s_3 - s_2 * alpha, s_3 - s_1 * beta, zero),
    )
    right = tuple(-0.5 * x for x in _equations(lengths, sides, cosines))
    determinant = dot(columns[0], cross(columns[1], columns[2]))
    inverse = jnp.where(jnp.abs(determinant) > 1e-9, 1 / determinant, 0.0)
    steps = (
        dot(right, cross(columns[1], columns[2])),
        dot(columns[0], cross(right, columns[2])),
        dot(columns[0], cross(columns[1], right)),
    )
    bound = 0.2 * (s_1 + jnp.abs(s_2) + jnp.abs(s_3))
    return tuple(
        s + jnp.clip(step * inverse, -bound, bound) for s, step in zip(lengths, steps, strict=True)
    )


def _aligned(first: tuple[Vector, ...], second: tuple[Vector, ...]) -> Matrix:
    """The rotation that takes the triangle `first` to the congruent triangle `second`."""
    (a, b, c), (d, e, f) = _axes(first), _axes(second)
    return tuple(
        tuple(d[i] * a[j] + e[i] * b[j] + f[i] * c[j] for j in range(3)) for i in range(3)
    )


def _axes(triangle: tuple[Vector, ...]) -> tuple[Vector, Vector, Vector]:
    one, two = (
        tuple(x - y for x, y in zip(corner, triangle[0], strict=True)) for corner in triangle[1:]
    )
    x = lanes.unit(one)
    z = lanes.unit(cross(x, two))
    return x, cross(z, x), z


def _squared_distance(a: Vector, b: Vector) -> Lane:
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))

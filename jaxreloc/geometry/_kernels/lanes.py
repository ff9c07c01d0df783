"""Small vector and matrix algebra on lanes: a vector is a tuple of equally shaped arrays.

A RANSAC solves hundreds of 3x3 and 5x5 problems at once. Batched library calls on such matrices
are slow on a CPU; with one array a component, every operation below is elementwise over the
problems, which XLA vectorizes. Divisions mark what XLA keeps instead of recomputing, which is why
results that are used often (rotation entries, unit vectors, pivots) end in one.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxlie import SE3

Lane = jax.Array | np.ndarray
Vector = tuple[Lane, ...]
Matrix = Sequence[Sequence[Lane]]  # rows

TINY = 1e-12


class LanePose(NamedTuple):
    """Relative poses `db_from_query` of unit translation: quaternion wxyz and direction."""

    q_wxyz: Vector
    t: Vector


def pose_from_array(wxyz_xyz: jax.Array) -> LanePose:
    """Lanes of `[..., 7]`; a zero translation becomes the optical axis."""
    parts = tuple(jnp.moveaxis(wxyz_xyz, -1, 0))
    t = parts[4:]
    moves = dot(t, t) > TINY
    t = (jnp.where(moves, t[0], 0.0), jnp.where(moves, t[1], 0.0), jnp.where(moves, t[2], 1.0))
    return LanePose(unit(parts[:4]), unit(t))


def pose_to_array(pose: LanePose) -> jax.Array:
    """`[..., 7]` in jaxlie's order `wxyz_xyz`."""
    return jnp.stack(pose.q_wxyz + pose.t, axis=-1)


def pose_to_se3(pose: LanePose) -> SE3:
    return SE3(pose_to_array(pose))


def dot(a: Vector, b: Vector) -> Lane:
    return sum(x * y for x, y in zip(a, b, strict=True))


def cross(a: Vector, b: Vector) -> Vector:
    return (
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    )


def unit(a: Vector) -> Vector:
    """`a / |a|`; a vector without length stays (almost) zero instead of becoming NaN."""
    norm = jnp.sqrt(dot(a, a) + TINY * TINY)
    return tuple(x / norm for x in a)


def transform(rows: Matrix, a: Vector) -> Vector:
    return tuple(dot(row, a) for row in rows)


def expand(value, axis: int = -1):
    """The same lanes with a new axis, so that they broadcast against a list of matches."""
    return jax.tree.map(lambda x: jnp.expand_dims(x, axis), value)


def where(condition: Lane, new, old):
    """Lane by lane one of two poses or vectors."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)


def rotation_rows(q_wxyz: Vector) -> Matrix:
    """The rotation matrix of a quaternion of any length."""
    w, x, y, z = q_wxyz
    squared = dot(q_wxyz, q_wxyz) + TINY
    rows = (
        (w * w + x * x - y * y - z * z, 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), w * w - x * x + y * y - z * z, 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z),
    )
    return tuple(tuple(entry / squared for entry in row) for row in rows)


def quaternion_from_rows(rows: Matrix) -> Vector:
    """The quaternion of a rotation matrix, from the largest of the four candidates.

    Each candidate is a column of the symmetric matrix `4 q q^T`; the longest one is never zero.
    """
    (a, b, c), (d, e, f), (g, h, i) = rows
    columns = (
        (1 + a + e + i, h - f, c - g, d - b),
        (h - f, 1 + a - e - i, b + d, c + g),
        (c - g, b + d, 1 - a + e - i, f + h),
        (d - b, c + g, f + h, 1 - a - e + i),
    )
    best, largest = columns[0], columns[0][0]
    for k in range(1, 4):
        longer = columns[k][k] > largest
        best = tuple(jnp.where(longer, new, old) for new, old in zip(columns[k], best, strict=True))
        largest = jnp.maximum(largest, columns[k][k])
    return unit(best)


def quaternion_product(a: Vector, b: Vector) -> Vector:
    """Hamilton's product `a b` of quaternions wxyz."""
    aw, ax, ay, az = a
    bw, bx, by, bz = b
    return (
        aw * bw - ax * bx - ay * by - az * bz,
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
    )


def tangent_basis(t: Vector) -> tuple[Vector, Vector]:
    """Two unit vectors that make a right-handed frame with the unit vector `t`.

    Duff et al., "Building an Orthonormal Basis, Revisited", JCGT 2017.
    """
    sign = jnp.where(t[2] >= 0, 1.0, -1.0)
    a = -1.0 / (sign + t[2])
    b = t[0] * t[1] * a
    return (1 + sign * t[0] * t[0] * a, sign * b, -sign * t[0]), (b, sign + t[1] * t[1] * a, -t[1])


def retract(pose: LanePose, step: Vector, longest: float) -> LanePose:
    """Moves on the five-dimensional manifold of rotations and directions.

    `step` is (rotation vector in db axes, offset of the direction along `tangent_basis`), radians;
    it is cut to the length `longest`. To first order R <- exp(w) R.
    """
    norm = jnp.sqrt(dot(step, step) + TINY)
    step = tuple(x * jnp.minimum(1.0, longest / norm) for x in step)
    turn = (jnp.ones_like(norm),) + tuple(0.5 * x for x in step[:3])
    first, second = tangent_basis(pose.t)
    t = tuple(a + step[3] * b + step[4] * c for a, b, c in zip(pose.t, first, second, strict=True))
    return LanePose(unit(quaternion_product(turn, pose.q_wxyz)), unit(t))


def symmetric(upper: Vector, n: int) -> Matrix:
    """The symmetric n x n matrix whose upper triangle, row by row, is given."""
    entries = iter(upper)
    rows = [[None] * n for _ in range(n)]
    for i in range(n):
        for j in range(i, n):
            rows[i][j] = rows[j][i] = next(entries)
    return tuple(tuple(row) for row in rows)


def solve_positive(matrix: Matrix, right: Vector, ridge: Lane | float = 0.0) -> Vector:
    """Solves `(matrix + ridge I) x = right` for symmetric positive definite matrices by L D L^T.

    Pivots are kept positive: a singular matrix gives a finite answer. Only the lower triangle is
    read.
    """
    n = len(right)
    lower = [[None] * n for _ in range(n)]
    pivots = []
    for j in range(n):
        column = {
            i: matrix[i][j] - sum(lower[j][k] * lower[i][k] * pivots[k] for k in range(j))
            for i in range(j, n)
        }
        pivots.append(jnp.maximum(column[j] + ridge, TINY))
        for i in range(j + 1, n):
            lower[i][j] = column[i] / pivots[j]
    y = []
    for i in range(n):
        y.append(right[i] - sum(lower[i][k] * y[k] for k in range(i)))
    x = [None] * n
    for i in reversed(range(n)):
        x[i] = y[i] / pivots[i] - sum(lower[k][i] * x[k] for k in range(i + 1, n))
    return tuple(x)


def trace(matrix: Matrix) -> Lane:
    return sum(row[i] for i, row in enumerate(matrix))

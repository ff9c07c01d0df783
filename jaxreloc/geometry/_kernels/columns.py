"""The fusion kernels' algebra on lanes, with the queries along the last, contiguous axis.

A vector is a tuple of arrays, as in `lanes`; here their axes are, last to first, the queries, the
neighbours, and hypotheses or models. A kernel over thousands of queries is then a series of
elementwise operations on long contiguous rows, and a sum over neighbours an addition of rows.
"""

import jax
import jax.numpy as jnp

from jaxreloc.geometry._kernels import lanes
from jaxreloc.geometry._kernels.lanes import Lane, Matrix, Vector, dot


def add(a: Vector, b: Vector) -> Vector:
    return tuple(x + y for x, y in zip(a, b, strict=True))


def subtract(a: Vector, b: Vector) -> Vector:
    return tuple(x - y for x, y in zip(a, b, strict=True))


def scale(a: Vector, factor: Lane | float) -> Vector:
    return tuple(x * factor for x in a)


def normalize(a: Vector, floor: float) -> tuple[Vector, Lane]:
    """`(a / |a|, |a|)`; the zero vector and `floor` where `|a| <= floor`. Gradients are finite."""
    squared = dot(a, a)
    defined = squared > floor * floor
    norm = jnp.sqrt(jnp.where(defined, squared, floor * floor))
    return tuple(jnp.where(defined, x / norm, 0.0) for x in a), norm


def rotate(q_wxyz: Vector, v: Vector) -> Vector:
    """`q v q^-1` of a unit quaternion: `v + 2 u x (u x v + w v)` with `q = (w, u)`."""
    w, u = q_wxyz[0], q_wxyz[1:]
    inner = add(lanes.cross(u, v), scale(v, w))
    return add(v, scale(lanes.cross(u, inner), 2.0))


def outer_sum(identity: Lane, outer: Lane, u: Vector, axis: int = 0) -> Matrix:
    """`sum_i identity_i I + outer_i u_i u_i^T`, 3x3, summed over `axis`."""
    weighted = scale(u, outer)
    diagonal = total(identity, axis)
    xx, xy, xz = (total(weighted[0] * x, axis) for x in u)
    yy, yz = (total(weighted[1] * x, axis) for x in u[1:])
    zz = total(weighted[2] * u[2], axis)
    return lanes.symmetric((xx + diagonal, xy, xz, yy + diagonal, yz, zz + diagonal), 3)


def add_diagonal(matrix: Matrix, value: Lane | float) -> Matrix:
    """`matrix + value I`, of a symmetric 3x3 matrix."""
    (xx, xy, xz), (_, yy, yz), (_, _, zz) = matrix
    return lanes.symmetric((xx + value, xy, xz, yy + value, yz, zz + value), 3)


def inverse_positive(matrix: Matrix) -> tuple[Matrix, Lane]:
    """The inverse of a positive definite 3x3 matrix and the logarithm of its determinant.

    By the adjugate, after a scaling by the trace, so the magnitude does not matter; in float32 the
    condition number should be under about 1e5.
    """
    size = lanes.trace(matrix)
    (a, b, c), (_, d, e), (_, _, f) = (tuple(x / size for x in row) for row in matrix)
    upper = (
        d * f - e * e,
        c * e - b * f,
        b * e - c * d,
        a * f - c * c,
        b * c - a * e,
        a * d - b * b,
    )
    determinant = jnp.maximum(a * upper[0] + b * upper[1] + c * upper[2], 1e-20)
    upper = tuple(x / (determinant * size) for x in upper)
    return lanes.symmetric(upper, 3), jnp.log(determinant) + 3.0 * jnp.log(size)


def total(x: Lane, axis: int = 0) -> Lane:
    return jnp.sum(x, axis)


def take(xs: Vector, index: jax.Array) -> Vector:
    """One row of the first axis for each element of the batch: [H, B] at [B] is [B]."""
    return tuple(jnp.take_along_axis(x, index[None], axis=0)[0] for x in xs)


def times(x: Lane | float, factor: Lane | None) -> Lane | float:
    """`x * factor`; no factor is 1, and costs nothing."""
    return x if factor is None else x * factor


def over(x: Lane | float, divisor: Lane | None) -> Lane | float:
    """`x / divisor`; no divisor is 1, and costs nothing."""
    return x if divisor is None else x / divisor

"""The point that two lines, or many, come closest to. Vectors are tuples, see `columns`."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxreloc.geometry._kernels import columns, lanes

PARALLEL_SINE = 1e-4  # below, float32 directions say nothing about where two lines meet


class Midpoint(NamedTuple):
    """Where two lines pass each other."""

    point: lanes.Vector  # the middle of the shortest segment between the lines
    depth_a: jax.Array  # signed distance along line a, from its origin to that segment
    depth_b: jax.Array
    defined: jax.Array  # False where the lines are parallel; the point is then finite, no more


def midpoint(
    origin_a: lanes.Vector,
    direction_a: lanes.Vector,
    origin_b: lanes.Vector,
    direction_b: lanes.Vector,
) -> Midpoint:
    """Midpoint triangulation of two lines.

    Minimises `|origin_a + s direction_a - origin_b - u direction_b|` over s and u; with the
    baseline `e = origin_b - origin_a` and the determinant `sin^2 = |direction_a x direction_b|^2`,
    which unlike `1 - cos^2` keeps its digits for nearly parallel lines,

      s = (e . a - (a . b) (e . b)) / sin^2,    u = ((a . b) (e . a) - e . b) / sin^2.

    Args:
      origin_a, origin_b: a point of each line (a camera centre).
      direction_a, direction_b: unit vectors; a zero vector counts as parallel.
    """
    baseline = columns.subtract(origin_b, origin_a)
    cosine = lanes.dot(direction_a, direction_b)
    normal = lanes.cross(direction_a, direction_b)
    sine_squared = lanes.dot(normal, normal)
    defined = sine_squared > PARALLEL_SINE**2
    scale = 1.0 / jnp.where(defined, sine_squared, 1.0)
    along_a, along_b = lanes.dot(baseline, direction_a), lanes.dot(baseline, direction_b)
    depth_a = (along_a - cosine * along_b) * scale
    depth_b = (cosine * along_a - along_b) * scale
    ends = columns.add(
        columns.add(origin_a, columns.scale(direction_a, depth_a)),
        columns.add(origin_b, columns.scale(direction_b, depth_b)),
    )
    return Midpoint(columns.scale(ends, 0.5), depth_a, depth_b, defined)


def closest_to_lines(
    origin: lanes.Vector, direction: lanes.Vector, weight: jax.Array, ridge: float
) -> lanes.Vector:
    """The least-squares point of N lines: `argmin_x sum_i weight_i dist(x, line_i)^2`.

    A zero direction makes its line a point. `ridge > 0` adds that share of the squared distance
    to the origins, which decides where the lines are parallel. For two lines and a vanishing
    ridge it is `midpoint`.

    Args:
      origin, direction: [N, B]; unit or zero directions.
      weight: [N, B], nonnegative, not all zero.

    Returns:
      [B]
    """
    normal = columns.outer_sum(weight * (1.0 + ridge), -weight, direction)
    across = columns.subtract(origin, columns.scale(direction, lanes.dot(origin, direction)))
    target = columns.add(across, columns.scale(origin, ridge))
    moment = tuple(columns.total(weight * x) for x in target)
    return lanes.transform(columns.inverse_positive(normal)[0], moment)

"""A query's pose and focal length from its matches: `tracks.refine` with a seventh unknown.

The query's focal length is e^l times the one that its rays (u, v, 1) were made with, so that cell j
is seen along x_j = (u_j e^-l, v_j e^-l, 1), and d(R x_j) / dl = R e_z - R x_j. What is known of l
beforehand is that it deviates by s from 0, which adds (l / s)^2 / S^2 to the cost: as much as one
sure match at the scale S of the robust cost, and so decides only where matches tell little.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxreloc.geometry._kernels import lanes
from jaxreloc.geometry.resection import pose_hypotheses
from jaxreloc.geometry.resection import tracks as tracks_lib
from jaxreloc.geometry.resection.pose_hypotheses import Hypotheses, HypothesisConfig
from jaxreloc.geometry.resection.tracks import QueryPose, Tracks

# The focal lengths that are tried, in those of the given one, and of how many to go on from.
FACTORS = (0.5, 0.6, 0.71, 0.84, 1.0, 1.19, 1.41, 1.68, 2.0)
MOST = 5
LONGEST_STEP = 0.2  # of l
LARGEST = 1.4  # of its size: a factor of four


class FocalPose(NamedTuple):
    """A pose world_from_query, and l, the logarithm of the factor of the focal length."""

    pose: QueryPose
    log_factor: Float[Array, ""]


def with_log_factor(tracks: Tracks, log_factor: Float[Array, ""]) -> Tracks:
    """The tracks, were the query's focal length e^l times the given one."""
    return pose_hypotheses.with_focal_factor(tracks, jnp.exp(log_factor))


def refine(
    tracks: Tracks,
    start: FocalPose,
    inverse_depth: Float[Array, "K"],
    scales: tuple[float, ...],
    steps: int,
    deviation: Float[Array, ""],
) -> tuple[FocalPose, Float[Array, "K"], Float[Array, ""]]:
    """`steps` of Levenberg-Marquardt at each scale S; the result, its depths, and its last cost.

    Args:
      tracks: with the rays of the focal length that l counts from.
      deviation: s, of l.
    """

    def equations_of(found: FocalPose, rho: Array, scale: Array) -> tracks_lib.NormalEquations:
        seen = with_log_factor(tracks, found.log_factor)
        equations = tracks_lib.normal_equations(seen, found.pose, rho, scale)
        prior = (found.log_factor / (deviation * scale)) ** 2
        return equations._replace(cost=equations.cost + prior)

    def step(equations, found: FocalPose, rho: Array, damping: Array, scale: Array):
        return _step(equations, tracks, found, rho, damping, deviation * scale)

    return tracks_lib.levenberg_marquardt(
        equations_of, step, start, inverse_depth, scales, steps
    )


def information(
    tracks: Tracks,
    pose: QueryPose,
    inverse_depth: Float[Array, "K"],
    scale: float,
    deviation: Float[Array, ""],
) -> Float[Array, "7 7"]:
    """The Schur complement: of the rotation vector and the centre, world axes, and l.

    Args:
      tracks: with the rays of the focal length that was found.
    """
    equations = tracks_lib.normal_equations(tracks, pose, inverse_depth, jnp.float32(scale))
    found = FocalPose(pose, jnp.zeros(()))
    return scale**2 * _system(
        equations, tracks, found, inverse_depth, 0.0, deviation * scale
    ).matrix


class FocalHypotheses(NamedTuple):
    """Poses, each under its own focal length, the best first."""

    poses: Hypotheses
    log_factor: Float[Array, "H"]


def hypotheses(
    tracks: Tracks, key: Array, given: list[Hypotheses], config: HypothesisConfig
) -> FocalHypotheses:
    """Under each of FACTORS the best solution of three matches, or the best of `given`."""
    factors = jnp.array(FACTORS)

    def one(factor):
        other = pose_hypotheses.with_focal_factor(tracks, factor)
        found = pose_hypotheses.best_triples(other, key, config)
        found = pose_hypotheses.concatenate(found, *given)
        sample = pose_hypotheses.representatives(other, config.sample)
        score = pose_hypotheses.scores(found, sample, config.threshold)
        best, score = pose_hypotheses.best(found, score, 1)
        return jax.tree.map(lambda x: x[0], (best, score))

    found, score = jax.lax.map(one, factors)
    order = jnp.argsort(score)[:MOST]
    return jax.tree.map(lambda x: x[order], FocalHypotheses(found, jnp.log(factors)))


def search(
    tracks: Tracks,
    starts: FocalHypotheses,
    scales: tuple[float, ...],
    steps: int,
    deviation: Float[Array, ""],
) -> tuple[Hypotheses, Float[Array, "H"], Float[Array, "H"]]:
    """Each refined along with its focal length: the poses, l, and the costs."""

    def one(rotation, centre, log_factor):
        start = FocalPose(QueryPose(rotation, centre), log_factor)
        depth = linear_inverse_depth(tracks, start)
        return refine(tracks, start, depth, scales, steps, deviation)

    poses = starts.poses
    found, _, cost = jax.vmap(one)(poses.rotation, poses.centre, starts.log_factor)
    cost = jnp.where((poses.usable > 0) & jnp.isfinite(cost), cost, jnp.inf)
    return Hypotheses(*found.pose, poses.usable), found.log_factor, cost


def linear_inverse_depth(tracks: Tracks, found: FocalPose) -> Float[Array, "K"]:
    """As in `tracks`."""
    return tracks_lib.linear_inverse_depth(with_log_factor(tracks, found.log_factor), found.pose)


class _System(NamedTuple):
    """Of seven unknowns, without the depths; `diagonal` before these are eliminated."""

    matrix: Float[Array, "7 7"]
    right: Float[Array, "7"]
    diagonal: Float[Array, "7"]
    depth: Float[Array, "K"]
    turned: Float[Array, "K 3"]
    along: Float[Array, "K 3"]  # d(R x_j) / dl


def _system(
    equations: tracks_lib.NormalEquations,
    seen: Tracks,
    found: FocalPose,
    rho: Float[Array, "K"],
    damping: Array | float,
    prior: Array,
) -> _System:
    """Args: prior: the deviation of l times the scale of the cost."""
    pose = found.pose
    six = tracks_lib.reduced(equations, rho, pose, seen, damping)
    along = pose.rotation[:, 2][None] - six.turned

    def times(upper: Float[Array, "6 K"]) -> Float[Array, "K 3"]:
        """The symmetric matrix of each cell times its `along`."""
        xx, xy, xz, yy, yz, zz = upper
        x, y, z = along.T
        rows = (xx * x + xy * y + xz * z, xy * x + yy * y + yz * z, xz * x + yz * y + zz * z)
        return jnp.stack(rows, axis=-1)

    product = times(six.schur)
    mixed = jnp.concatenate(
        [jnp.sum(jnp.cross(six.turned, product), axis=0), rho @ product]
    )
    known = 1 / prior**2
    last = jnp.sum(along * product) + known
    matrix = jnp.block([[six.matrix, mixed[:, None]], [mixed[None], last[None, None]]])
    right = jnp.sum(along * six.gradient.T) + known * found.log_factor
    diagonal = jnp.sum(along * times(equations.curvature)) + known
    return _System(
        matrix,
        jnp.append(six.right, right),
        jnp.append(six.diagonal, diagonal),
        six.depth,
        six.turned,
        along,
    )


def _step(equations, tracks, found, rho, damping, prior) -> tuple[FocalPose, Array]:
    seen = with_log_factor(tracks, found.log_factor)
    system = _system(equations, seen, found, rho, damping, prior)
    diagonal = system.diagonal
    ridge = damping * diagonal + tracks_lib.RIDGE * jnp.sum(diagonal) + lanes.TINY
    step = -jnp.linalg.solve(system.matrix + jnp.diag(ridge), system.right[:, None])[:, 0]
    step = jnp.where(jnp.all(jnp.isfinite(step)), step, 0.0)
    longest = jnp.append(jnp.full(6, tracks_lib.LONGEST_STEP), LONGEST_STEP)
    step = step * jnp.minimum(1.0, 1 / (jnp.max(jnp.abs(step) / longest) + lanes.TINY))
    moved = jnp.cross(step[None, :3], system.turned) + rho[:, None] * step[None, 3:6]
    moved = moved + step[6] * system.along
    rho = tracks_lib.depths_after(equations, rho, moved, system.depth)
    pose = QueryPose(
        tracks_lib.turn(step[:3]) @ found.pose.rotation, found.pose.centre + step[3:6]
    )
    return FocalPose(pose, jnp.clip(found.log_factor + step[6], -LARGEST, LARGEST)), rho

"""One rotation from N hypotheses of it, some of them wrong: the two consensus kernels.

Rotations are unit quaternions `world_from_query`, as tuples of arrays [N, B] (see `columns`). With
`v = vec(a^-1 b)`, signed so that its scalar part is not negative, `2 |v| = 2 sin(angle / 2)`; to
first order `2 v` is the rotation vector from a to b.
"""

import dataclasses
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jaxreloc.geometry._kernels import columns, lanes, ransac

PaperMean = Literal["chordal", "l1"]
PAPER_INLIER_RAD = float(np.deg2rad(20.0))
NEWTON_STEPS = 7
HESSIAN_DAMPING = 1e-3
MAX_HALF_TURN = 0.2  # radians, of one Newton step
HALF_TURN = 1e-6  # a product of quaternions that counts as zero
COINCIDENT = 1e-6  # sin(angle / 2) that is added to every distance, so that none is zero


@dataclasses.dataclass(frozen=True)
class RotationConfig:
    """The model of the robust kernel: an inlier's rotation vector error is isotropic Gaussian.

    Its standard deviation is estimated for each query, from a prior worth `std_weight` residual
    components; an outlier is uniform over SO(3).
    """

    inlier_prior: float = 0.8
    std_rad: float = float(np.deg2rad(5.0))
    std_weight: float = 3.0
    start_std_rad: float = float(np.deg2rad(12.0))  # in the first iteration, so none is lost early
    truncation_rad: float = float(np.deg2rad(25.0))  # of the search for the start
    iterations: int = 6


class RotationEstimate(NamedTuple):
    """The result for a batch of queries."""

    q_wxyz: lanes.Vector  # [B]
    inlier_weight: jax.Array  # [N, B]: 0 to 1, zero where not valid
    std: jax.Array  # [B]: of each component of the rotation vector error, radians


def paper_rotation(
    q_wxyz: lanes.Vector, valid: jax.Array, mean_kind: str = "chordal"
) -> RotationEstimate:
    """The paper's: most inliers within 20 deg; the mean of the hypotheses that tie.

    Args:
      q_wxyz: [N, B], unit.
      valid: [N, B].
      mean_kind: "chordal", `chordal_mean`, from which the published figures come; "l1", `l1_mean`,
        of which the paper's text speaks.

    Raises:
      ValueError: at trace time, for another `mean_kind`.
    """
    if mean_kind not in get_args(PaperMean):
        known = ", ".join(get_args(PaperMean))
        raise ValueError(f"unknown mean of rotations {mean_kind!r}; known: {known}")
    agrees = _agreement(q_wxyz, q_wxyz) & valid[:, None] & valid[None]
    votes = columns.total(agrees.astype(jnp.int32), axis=1)
    winners, _ = ransac.most_votes(votes, valid)
    mean = (chordal_mean if mean_kind == "chordal" else l1_mean)(q_wxyz, winners)
    inlier = _agreement(tuple(x[None] for x in mean), q_wxyz)[0] & valid
    weight = inlier.astype(mean[0].dtype)
    residual_squared = _chord_squared(mean, q_wxyz)
    return RotationEstimate(mean, weight, _std(residual_squared, weight, None, RotationConfig()))


def median_rotation(q_wxyz: lanes.Vector, valid: jax.Array) -> RotationEstimate:
    """`l1_mean` of all hypotheses; those within the paper's 20 deg agree.

    `std` is that of one hypothesis, since the errors of a query's hypotheses are mostly one error.
    """
    mean = l1_mean(q_wxyz, valid)
    weight = (_agreement(tuple(x[None] for x in mean), q_wxyz)[0] & valid).astype(mean[0].dtype)
    every = valid.astype(mean[0].dtype)
    return RotationEstimate(
        mean, weight, jnp.sqrt(_variance(_chord_squared(mean, q_wxyz), every, RotationConfig()))
    )


def l1_mean(q_wxyz: lanes.Vector, member: jax.Array) -> lanes.Vector:
    """The rotation with the least sum of angles to the members: `argmin_S sum_i angle(S, Q_i)`.

    The limit of Weiszfeld's iteration, which creeps where the minimum is at a member or near one;
    here Newton's method starts both at the chordal mean and beside the member of the least sum,
    and that member competes with what it finds. Of two members every rotation between them is
    minimal; theirs is the middle.

    Args:
      q_wxyz: [N, B], unit.
      member: [N, B].

    Returns:
      [B]; the identity where there is no member.
    """
    angle = _half_angle(lanes.expand(q_wxyz, 1), lanes.expand(q_wxyz, 0))
    cost = columns.total(jnp.where(member[None], angle, 0.0), axis=1)
    medoid, _ = ransac.best(-cost, member)
    nearest = columns.take(q_wxyz, medoid)
    middle = chordal_mean(q_wxyz, member)
    starts = zip(middle, _leave_member(nearest, q_wxyz, member), strict=True)
    means = jax.lax.fori_loop(
        0,
        NEWTON_STEPS,
        lambda _, at: _newton_step(at, q_wxyz, member),
        tuple(jnp.stack(x) for x in starts),
    )
    candidates = tuple(jnp.stack([*x, y]) for x, y in zip(means, nearest, strict=True))
    angle = _half_angle(lanes.expand(candidates, 1), lanes.expand(q_wxyz, 0))
    cost = columns.total(jnp.where(member[None], angle, 0.0), axis=1)
    mean = columns.take(candidates, jnp.argmin(cost, axis=0))
    count = jnp.sum(member, axis=0)
    return lanes.where((count == 0) | (count == 2), middle, mean)


def chordal_mean(q_wxyz: lanes.Vector, member: jax.Array) -> lanes.Vector:
    """The members' mean quaternion: `sum_i s_i q_i / |sum_i s_i q_i|`, `s_i = sign(q_i . q_first)`.

    The first member is the reference of the signs, so the sum's part along it is at least 1: it
    never vanishes. The order of members matters only where one is over 90 deg from the first.

    Args:
      q_wxyz: [N, B], unit; `q` and `-q` are the same rotation.
      member: [N, B].

    Returns:
      [B]; the identity where there is no member.
    """
    first = columns.take(q_wxyz, jnp.argmax(member, axis=0))
    # Of half a turn the product is zero but for rounding, which may differ from one component to
    # the next in compiled code; they all need the same sign.
    sign = jnp.where(lanes.dot(q_wxyz, lanes.expand(first, 0)) < -HALF_TURN, -1.0, 1.0)
    weight = jnp.where(member, sign, 0.0)
    mean = columns.normalize(tuple(columns.total(x * weight) for x in q_wxyz), 1e-12)[0]
    return (jnp.where(jnp.any(member, axis=0), mean[0], 1.0), *mean[1:])


def _half_angle(a: lanes.Vector, b: lanes.Vector) -> jax.Array:
    """Half the angle between rotations, radians; exact for small ones."""
    offset = _offset(a, b)
    return jnp.arcsin(jnp.minimum(jnp.sqrt(lanes.dot(offset, offset)), 1.0))


def _geodesics(
    at: lanes.Vector, q_wxyz: lanes.Vector, member: jax.Array
) -> tuple[lanes.Vector, lanes.Matrix]:
    """The sum of the unit vectors towards the members, and the Hessian of the sum of half angles.

    With `v = vec(S^-1 Q)` a geodesic leaves S along `v / |v|`; the Hessian of its length phi on
    the sphere of quaternions is `cot(phi) (I - u u^T)`.

    Args:
      at: [K, B].
      q_wxyz, member: [N, B].

    Returns:
      Vector and matrix of [K, B].
    """
    offset = _offset(lanes.expand(at, 1), lanes.expand(q_wxyz, 0))
    sine_squared = lanes.dot(offset, offset) + COINCIDENT**2
    inverse = jnp.where(member[None], jax.lax.rsqrt(sine_squared), 0.0)
    unit = columns.scale(offset, inverse)
    cotangent = inverse * jnp.sqrt(jnp.maximum(1.0 - sine_squared, COINCIDENT**2))
    hessian = columns.outer_sum(cotangent, -cotangent, unit, axis=1)
    hessian = columns.add_diagonal(hessian, HESSIAN_DAMPING * (lanes.trace(hessian) + 1.0))
    return tuple(columns.total(x, axis=1) for x in unit), hessian


def _leave_member(
    member_q: lanes.Vector, q_wxyz: lanes.Vector, member: jax.Array
) -> lanes.Vector:
    """The minimum along the descent direction from a member, to second order.

    With the others' unit vectors summing to R at the member, and h their curvature along R, the
    cost grows by `rho - |R| rho + h rho^2 / 2`.
    """
    apart = member & (_half_angle(lanes.expand(member_q, 0), q_wxyz) > 10 * COINCIDENT)
    pull, hessian = jax.tree.map(
        lambda x: x[0], _geodesics(lanes.expand(member_q, 0), q_wxyz, apart)
    )
    direction, strength = columns.normalize(pull, COINCIDENT)
    coincident = columns.total((member & ~apart).astype(strength.dtype))
    curvature = lanes.dot(direction, lanes.transform(hessian, direction))
    rho = jnp.maximum(strength - coincident, 0.0) / jnp.maximum(curvature, COINCIDENT)
    rho = jnp.minimum(rho, MAX_HALF_TURN)
    return _turn(member_q, columns.scale(direction, rho))


def _newton_step(at: lanes.Vector, q_wxyz: lanes.Vector, member: jax.Array) -> lanes.Vector:
    """A Newton step, cut by the secant rule where the cost rises again before its end."""
    descent, hessian = _geodesics(at, q_wxyz, member)
    step = lanes.transform(columns.inverse_positive(hessian)[0], descent)
    length = jnp.sqrt(lanes.dot(step, step) + COINCIDENT**2)
    step = columns.scale(step, jnp.minimum(1.0, MAX_HALF_TURN / length))
    descent_after, _ = _geodesics(_turn(at, step), q_wxyz, member)
    slope, slope_after = lanes.dot(descent, step), lanes.dot(descent_after, step)
    share = jnp.clip(slope / jnp.maximum(slope - slope_after, 1e-20), 0.0, 1.0)
    share = jax.lax.stop_gradient(share)  # the step's length does not move where the cost is flat
    return _turn(at, columns.scale(step, jnp.where(slope_after < 0, share, 1.0)))


def robust_rotation(
    q_wxyz: lanes.Vector,
    valid: jax.Array,
    config: RotationConfig,
    inlier_prior: jax.Array | None = None,
    relative: jax.Array | None = None,
) -> RotationEstimate:
    """Starts at the hypothesis of least truncated cost, then refines by expectation maximisation.

    Each iteration weighs every rotation by its probability of being an inlier, moves to their
    weighted mean in the tangent space, and estimates the inliers' standard deviation anew.

    Args:
      q_wxyz: [N, B], unit.
      valid: [N, B].
      inlier_prior: [N, B], the probability of being an inlier before any rotation is seen;
        `config.inlier_prior` if None.
      relative: [N, B], the variance of each neighbour as a multiple of the query's, which its
        residuals show; 1 if None.
    """
    prior = config.inlier_prior if inlier_prior is None else inlier_prior
    prior = jnp.where(valid, prior, 0.0)
    cosine = lanes.dot(tuple(x[:, None] for x in q_wxyz), tuple(x[None] for x in q_wxyz))
    limit = 4.0 * np.sin(config.truncation_rad / 2) ** 2
    cost = columns.over(4.0 * (1.0 - cosine * cosine), lanes.expand(relative, 0))
    cost = jnp.minimum(cost, limit)
    cost = columns.times(jnp.where(valid[None], cost, limit), lanes.expand(inlier_prior, 0))
    start, exists = ransac.best(-columns.total(cost, axis=1), valid)
    mean = columns.take(q_wxyz, start)
    mean = (jnp.where(exists, mean[0], 1.0), *(jnp.where(exists, x, 0.0) for x in mean[1:]))
    mean = jax.lax.stop_gradient(mean)
    variance = jnp.full_like(mean[0], config.start_std_rad**2)

    def step(state, _):
        mean, variance = state
        own = columns.times(variance[None], relative)
        weight = _inlier_weight(_chord_squared(mean, q_wxyz), own, prior)
        share = columns.over(weight, relative)
        moved = tuple(columns.total(share * x) for x in _offset(lanes.expand(mean, 0), q_wxyz))
        mean = _turn(mean, columns.scale(moved, 1.0 / jnp.maximum(columns.total(share), 1e-6)))
        variance = _variance(columns.over(_chord_squared(mean, q_wxyz), relative), weight, config)
        return (mean, variance), None

    (mean, variance), _ = jax.lax.scan(step, (mean, variance), None, length=config.iterations)
    residual_squared = _chord_squared(mean, q_wxyz)
    own = columns.times(variance[None], relative)
    weight = _inlier_weight(residual_squared, own, prior)
    return RotationEstimate(mean, weight, _std(residual_squared, weight, relative, config))


def _inlier_weight(
    residual_squared: jax.Array, variance: jax.Array, prior: jax.Array
) -> jax.Array:
    """The probability of being an inlier: Gaussian in 3 dimensions against 1 / (8 pi^2)."""
    uniform_volume = 8.0 * np.pi**2 / (2.0 * np.pi) ** 1.5
    density = uniform_volume * variance ** (-1.5)
    inlier = prior * density * jnp.exp(-0.5 * residual_squared / variance)
    return inlier / (inlier + 1.0 - prior)


def _variance(residual_squared: jax.Array, weight: jax.Array, config: RotationConfig) -> jax.Array:
    """Posterior mean of the inliers' variance, three residual components of each, three fitted."""
    freedom = 3.0 * jnp.maximum(columns.total(weight) - 1.0, 0.0)
    evidence = config.std_weight * config.std_rad**2 + columns.total(weight * residual_squared)
    return evidence / (config.std_weight + freedom)


def _std(
    residual_squared: jax.Array,
    weight: jax.Array,
    relative: jax.Array | None,
    config: RotationConfig,
) -> jax.Array:
    """Standard deviation of the mean of the inliers; of less than one, that of one."""
    variance = _variance(columns.over(residual_squared, relative), weight, config)
    total = columns.total(weight)
    if relative is None:
        return jnp.sqrt(variance / jnp.maximum(total, 1.0))
    precision = columns.total(weight / relative) / jnp.clip(total, 1e-12, 1.0)
    return jnp.sqrt(variance / jnp.where(total > 0, precision, 1.0))


def _agreement(a: lanes.Vector, b: lanes.Vector) -> jax.Array:
    """Whether the angle is under the paper's: [H, N, B] of a [H, B] and b [N, B]."""
    cosine = lanes.dot(tuple(x[:, None] for x in a), tuple(x[None] for x in b))
    return jnp.abs(cosine) > np.cos(PAPER_INLIER_RAD / 2)


def _offset(a: lanes.Vector, b: lanes.Vector) -> lanes.Vector:
    """`vec(a^-1 b)`, the short way round."""
    difference = lanes.quaternion_product((a[0], -a[1], -a[2], -a[3]), b)
    sign = jnp.where(difference[0] < 0, -1.0, 1.0)
    return columns.scale(difference[1:], sign)


def _chord_squared(a: lanes.Vector, b: lanes.Vector) -> jax.Array:
    """`(2 sin(angle / 2))^2`, the squared angle to first order: [N, B] of a [B] and b [N, B]."""
    offset = _offset(lanes.expand(a, 0), b)
    return 4.0 * lanes.dot(offset, offset)


def _turn(q: lanes.Vector, half_turn: lanes.Vector) -> lanes.Vector:
    """`q` turned by about `2 half_turn` (a rotation vector in its own axes)."""
    turned = lanes.quaternion_product(q, (jnp.ones_like(half_turn[0]), *half_turn))
    return columns.normalize(turned, 1e-12)[0]

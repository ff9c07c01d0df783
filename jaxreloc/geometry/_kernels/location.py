"""One position from N bearings to it, some of them wrong: two consensus kernels, and a median.

Neighbour i stands at `centre_i` and its relative pose says that the query lies along
`direction_i` (world axes) at the distance `length_i`. For a position x, with `v_i = x - centre_i`,
`rho_i = |v_i|` and `u_i = v_i / rho_i`, the residuals are

  direction: |u_i - direction_i|^2 = 2 - 2 u_i . direction_i   (the squared angle, first order)
  length:    s_i = log(rho_i / length_i)

Their variances are `V_d a_i` and `V_s b_i`: the query's, which its residuals show, times the
neighbour's own `RelativeVariances`, which are given.

Arrays are tuples of [N, B] (see `columns`), in local coordinates: the origin at a neighbour, one
unit about a typical predicted length, so that nothing here depends on the scene's size.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxreloc.geometry._kernels import columns, lanes, ransac, triangulation

PAPER_INLIER_RAD = float(np.deg2rad(10.0))
MIN_DISTANCE = 1e-4  # local units; nearer to a camera its direction residual means nothing
SAME_LENGTH = 1e-4  # relative; predicted lengths this alike come from normalised translations
DAMPING = 1e-4  # of the information's trace in a step; bounds the condition of the 3x3 systems
STATED_DAMPING = 1e-6  # the same in the stated covariance, where it would pass for knowledge
LINES_RIDGE = 1e-3
MEDIAN_STEPS = 30  # of Weiszfeld's iteration
MEDIAN_FLOOR = 1e-3  # local units


class Bearings(NamedTuple):
    """What N neighbours say about the position of each query, in local coordinates."""

    centre: lanes.Vector  # [N, B]
    direction: lanes.Vector  # [N, B], unit, or zero for a zero translation
    length: jax.Array  # [N, B], at least MIN_DISTANCE
    valid: jax.Array  # [N, B]
    normalized: jax.Array  # [N, B]: the length is a normalised translation's, not a distance


class RelativeVariances(NamedTuple):
    """Of each neighbour's residuals, as multiples of the query's variances, [N, B]; None is 1."""

    direction: jax.Array | None = None
    length: jax.Array | None = None


class LocationEstimate(NamedTuple):
    """The result for a batch of queries, in local coordinates."""

    position: lanes.Vector  # [B]
    inlier_weight: jax.Array  # [N, B]: 0 to 1, zero where not valid
    covariance: lanes.Matrix  # [B]
    success: jax.Array  # [B]


@dataclasses.dataclass(frozen=True)
class LocationConfig:
    """The model of the robust kernel. Angles in radians, lengths as logarithms of ratios.

    An inlier has a Gaussian direction error (`std` per component) and a Gaussian log-length error,
    both standard deviations being estimated for each query from a prior that counts as `weight`
    residuals. A second model holds the lengths for useless; the evidence decides between the two.
    An outlier's direction is uniform over the sphere.
    """

    inlier_prior: float = 0.8
    direction_std: float = float(np.deg2rad(3.0))
    direction_std_weight: float = 1.0
    length_std: float = 0.3
    length_std_weight: float = 4.0
    useless_length_std: float = 1.2
    useful_log_odds: float = -1.0  # of the model that trusts lengths, before the data
    few_log_odds: float = -1.2  # added to it for two neighbours, 1 / (N - 1) of it for N
    shared_length_error: float = 0.5  # times the variance squared: the variance all pairs share
    faint_length_weight: float = 0.05  # of a useless length; it keeps parallel rays bounded
    # Narrow: on a wide scale a point between the inliers and a near outlier scores higher.
    search_direction_std: float = float(np.deg2rad(3.5))
    search_length_std: float = 0.5
    iterations: int = 8
    min_consensus: float = 1.4  # inliers, in sum of weights, where there are two neighbours or more
    stated_direction_std: float = float(np.deg2rad(5.0))  # priors of the stated covariance
    stated_length_std: float = 0.6
    stated_std_weight: float = 0.25
    max_relative_std: float = 2.0  # of a position, as a share of its distance, in a success


def paper_location(bearings: Bearings, pairs: ransac.Pairs) -> LocationEstimate:
    """The paper's: the triangulated midpoints with the most inliers, averaged if they tie.

    A neighbour is an inlier of a point if the line through its centre along its direction, sign
    ignored, passes within 10 deg of the point as seen from the centre. Where no pair triangulates,
    the position is the first valid neighbour's centre and `success` is False.
    """
    first, second = pairs.rows((*bearings.centre, *bearings.direction))
    points = triangulation.midpoint(first[:3], first[3:], second[:3], second[3:])
    usable = points.defined & pairs.usable
    votes = columns.total(_on_line(points.point, bearings).astype(jnp.int32), axis=1)
    winners, success = ransac.most_votes(votes, usable)
    count = jnp.maximum(jnp.sum(winners, axis=0), 1)
    nearest = columns.take(bearings.centre, jnp.argmax(bearings.valid, axis=0))
    position = tuple(
        jnp.where(success, columns.total(jnp.where(winners, x, 0.0)) / count, fallback)
        for x, fallback in zip(points.point, nearest, strict=True)
    )
    weight = _on_line(tuple(x[None] for x in position), bearings)[0] & success[None]
    weight = weight.astype(position[0].dtype)
    covariance = _line_covariance(position, weight, bearings, LocationConfig())
    return LocationEstimate(position, weight, covariance, success)


def robust_location(
    bearings: Bearings,
    pairs: ransac.Pairs,
    inlier_prior: jax.Array,
    config: LocationConfig,
    relative: RelativeVariances = RelativeVariances(),
) -> LocationEstimate:
    """The best hypothesis under each of the two length models, refined; the likelier model wins.

    Where fewer than `config.min_consensus` inliers remain of two neighbours or more, the position
    is the point nearest to all their lines and `success` is False.

    Args:
      inlier_prior: [N, B], the probability of being an inlier before any bearing is seen.
      relative: what is known of each neighbour's accuracy beside the others'.
    """
    problem = _problem(bearings, inlier_prior, relative)
    state = _search(bearings, pairs, problem, config)

    def step(state, _):
        return _maximize(state, _expect(state, problem, config), problem, config), None

    state, _ = jax.lax.scan(step, state, None, length=config.iterations)
    expected = _expect(state, problem, config)
    num_valid = jnp.sum(bearings.valid, axis=0)
    share = _model_shares(state, expected, num_valid, config)
    likelier = (share[1] > share[0]).astype(jnp.int32)
    position = columns.take(state.position, likelier)
    weight, distance_squared = (
        jnp.where(likelier == 0, x[0], x[1]) for x in (expected.weight, expected.distance_squared)
    )
    covariances = _stated_covariance(expected, problem, config)
    (variance,) = columns.take((lanes.trace(covariances),), likelier)
    located = variance < config.max_relative_std**2 * distance_squared
    covariance = _average_covariance(share, covariances, state.position, position)
    consensus = (columns.total(weight) >= config.min_consensus) | (num_valid == 1)
    passing = triangulation.closest_to_lines(
        bearings.centre, bearings.direction, jnp.where(bearings.valid, 1.0, 1e-6), LINES_RIDGE
    )
    position = tuple(jnp.where(consensus, a, b) for a, b in zip(position, passing, strict=True))
    success = consensus & located & (num_valid > 0)
    return LocationEstimate(position, weight, covariance, success)


def median_location(bearings: Bearings, config: LocationConfig) -> LocationEstimate:
    """The geometric median of the neighbours' metric answers x_i, argmin_x sum_i |x - x_i|.

    x_i = centre_i + length_i direction_i. Weiszfeld's iteration, with distances of at least
    MEDIAN_FLOOR. An answer agrees that lies within one unit, the typical predicted length. The
    covariance is that of one answer, s^2 I, since the errors of a query's answers are mostly one
    error: s^2 is the mean of the squared distances by axis, together with a prior answer that is
    off by `config.length_std` of the unit. Normalised translations are no answers.
    """
    answers = columns.add(bearings.centre, columns.scale(bearings.direction, bearings.length))
    member = bearings.valid & ~bearings.normalized
    weight = member.astype(bearings.length.dtype)
    count = jnp.maximum(columns.total(weight), 1.0)

    def mean(weights: jax.Array) -> lanes.Vector:
        total = jnp.maximum(columns.total(weights), 1e-12)
        return tuple(columns.total(weights * x) / total for x in answers)

    def squared(position: lanes.Vector) -> jax.Array:
        off = columns.subtract(answers, lanes.expand(position, 0))
        return jnp.where(member, lanes.dot(off, off), 0.0)

    def step(position: lanes.Vector, _: None) -> tuple[lanes.Vector, None]:
        return mean(weight / jnp.sqrt(squared(position) + MEDIAN_FLOOR**2)), None

    position, _ = jax.lax.scan(step, mean(weight), None, length=MEDIAN_STEPS)
    off = squared(position)
    variance = (columns.total(off) / 3 + config.length_std**2) / count
    none = jnp.zeros_like(variance)
    covariance = tuple(tuple(variance if i == j else none for j in range(3)) for i in range(3))
    agrees = (member & (off < 1.0)).astype(weight.dtype)
    return LocationEstimate(position, agrees, covariance, jnp.any(member, axis=0))


class _Problem(NamedTuple):
    """The data of the refinement; the first axis runs over the models of the lengths."""

    centre: lanes.Vector  # [1, N, B]
    direction: lanes.Vector  # [1, N, B]
    opposite: jax.Array  # [1, N, B]: 2, the direction residual at 90 deg; 0 for a zero translation
    log_length: jax.Array  # [1, N, B]
    prior: jax.Array  # [1, N, B]: of being an inlier; 0 where not valid
    valid: jax.Array  # [1, N, B]: 0 or 1
    length_used: jax.Array  # [2, N, B]: 0 or 1
    relative: RelativeVariances  # [1, N, B]


class _State(NamedTuple):
    """What is estimated, for each model of the lengths."""

    position: lanes.Vector  # [2, B]
    direction_variance: jax.Array  # [2, B]
    length_variance: jax.Array  # [2, B]


class _Expectation(NamedTuple):
    """Residuals and inlier probabilities at a state, and the normal equations they give."""

    weight: jax.Array  # [2, N, B]
    unit: lanes.Vector  # [2, N, B]
    inverse_squared: jax.Array  # [2, N, B]: 1 / rho^2
    direction_squared: jax.Array  # [2, N, B]
    log_ratio: jax.Array  # [2, N, B]
    direction_precision: jax.Array  # [2, N, B]: weighted
    length_precision: jax.Array  # [2, N, B]: weighted
    information: lanes.Matrix  # [2, B]
    gradient: lanes.Vector  # [2, B]: of the log likelihood in the position
    distance_squared: jax.Array  # [2, B]: harmonic mean over the inliers
    log_likelihood: jax.Array  # [2, B]


def _problem(
    bearings: Bearings,
    inlier_prior: jax.Array,
    relative: RelativeVariances = RelativeVariances(),
) -> _Problem:
    dtype = bearings.length.dtype
    valid = bearings.valid.astype(dtype)
    useful = (bearings.valid & ~bearings.normalized).astype(dtype)
    opposite = 2.0 * lanes.dot(bearings.direction, bearings.direction)
    return _Problem(
        centre=tuple(x[None] for x in bearings.centre),
        direction=tuple(x[None] for x in bearings.direction),
        opposite=jnp.round(opposite)[None],
        log_length=jnp.log(bearings.length)[None],
        prior=(valid * inlier_prior)[None],
        valid=valid[None],
        length_used=jnp.stack([useful, jnp.zeros_like(useful)]),
        relative=jax.tree.map(lambda x: x[None], relative),
    )


def _search(
    bearings: Bearings, pairs: ransac.Pairs, problem: _Problem, config: LocationConfig
) -> _State:
    """The hypothesis of the highest likelihood under each model, at the priors' scales.

    Hypotheses: each neighbour's `centre + length direction`, and each pair's midpoint if it lies
    ahead of both.
    """
    metric = columns.add(bearings.centre, columns.scale(bearings.direction, bearings.length))
    first, second = pairs.rows((*bearings.centre, *bearings.direction))
    crossing = triangulation.midpoint(first[:3], first[3:], second[:3], second[3:])
    ahead = crossing.defined & (crossing.depth_a > 0) & (crossing.depth_b > 0) & pairs.usable
    hypotheses = tuple(
        jnp.concatenate(x) for x in zip(metric, crossing.point, strict=True)
    )
    usable = jnp.concatenate([bearings.valid, ahead])
    variances = (config.search_direction_std**2, config.search_length_std**2)
    starts = []
    for used in problem.length_used:
        residuals = _residuals(tuple(x[:, None] for x in hypotheses), problem)
        inlier, outlier = _densities(residuals, *variances, used[None], problem, config)
        faint = config.faint_length_weight * problem.valid * _broad_penalty(residuals, config)
        score = columns.total(jnp.log(inlier + outlier) - faint, axis=1)
        starts.append(columns.take(hypotheses, ransac.best(score, usable)[0]))
    position = tuple(jax.lax.stop_gradient(jnp.stack(x)) for x in zip(*starts, strict=True))
    return _State(
        position,
        jnp.full_like(position[0], config.direction_std**2),
        jnp.full_like(position[0], config.length_std**2),
    )


class _Residuals(NamedTuple):
    unit: lanes.Vector
    inverse_distance: jax.Array
    cosine: jax.Array
    direction_squared: jax.Array
    log_ratio: jax.Array


def _residuals(position: lanes.Vector, problem: _Problem) -> _Residuals:
    """Of positions [K, 1, B]: arrays [K, N, B]."""
    offset = columns.subtract(position, problem.centre)
    squared = lanes.dot(offset, offset) + MIN_DISTANCE**2
    inverse = jax.lax.rsqrt(squared)
    unit = columns.scale(offset, inverse)
    cosine = lanes.dot(unit, problem.direction)
    return _Residuals(
        unit,
        inverse,
        cosine,
        jnp.maximum(problem.opposite - 2.0 * cosine, 0.0),
        0.5 * jnp.log(squared) - problem.log_length,
    )


def _densities(
    residuals: _Residuals,
    direction_variance: jax.Array | float,
    length_variance: jax.Array | float,
    length_used: jax.Array,
    problem: _Problem,
    config: LocationConfig,
) -> tuple[jax.Array, jax.Array]:
    """Prior times density of an inlier, and of an outlier.

    Both are relative to a direction uniform over the sphere and a useless length.
    """
    useless_variance = config.useless_length_std**2
    direction_variance = columns.times(direction_variance, problem.relative.direction)
    length_variance = columns.times(length_variance, problem.relative.length)
    length_gain = 0.5 * jnp.log(useless_variance / length_variance) - 0.5 * jnp.square(
        residuals.log_ratio
    ) * (1.0 / length_variance - 1.0 / useless_variance)
    exponent = length_used * length_gain - 0.5 * residuals.direction_squared / direction_variance
    inlier = problem.prior * (2.0 / direction_variance) * jnp.exp(exponent)
    return inlier, 1.0 - problem.prior


def _broad_penalty(residuals: _Residuals, config: LocationConfig) -> jax.Array:
    """Minus the log density of a useless length, up to a constant."""
    return 0.5 * jnp.square(residuals.log_ratio) / config.useless_length_std**2


def _expect(state: _State, problem: _Problem, config: LocationConfig) -> _Expectation:
    """Inlier probabilities at `state`, and the Gauss-Newton system they weigh."""
    residuals = _residuals(tuple(x[:, None] for x in state.position), problem)
    direction_variance = state.direction_variance[:, None]
    inlier, outlier = _densities(
        residuals,
        direction_variance,
        state.length_variance[:, None],
        problem.length_used,
        problem,
        config,
    )
    weight = inlier / (inlier + outlier)
    inverse_squared = jnp.square(residuals.inverse_distance)
    log_density = jnp.log(inlier + outlier) - problem.valid * _broad_penalty(residuals, config)
    direction_precision = weight / columns.times(direction_variance, problem.relative.direction)
    length_precision = _length_precision(weight, state.length_variance, problem, config)
    information = _information(
        direction_precision, length_precision, inverse_squared, residuals.unit, DAMPING
    )
    toward = direction_precision * residuals.inverse_distance
    outward = -residuals.inverse_distance * (
        direction_precision * residuals.cosine + length_precision * residuals.log_ratio
    )
    gradient = tuple(
        columns.total(toward * d + outward * u, axis=1)
        for d, u in zip(problem.direction, residuals.unit, strict=True)
    )
    weighted = columns.total(weight * inverse_squared, axis=1) + 1e-6
    return _Expectation(
        weight=weight,
        unit=residuals.unit,
        inverse_squared=inverse_squared,
        direction_squared=residuals.direction_squared,
        log_ratio=residuals.log_ratio,
        direction_precision=direction_precision,
        length_precision=length_precision,
        information=information,
        gradient=gradient,
        distance_squared=(columns.total(weight, axis=1) + 1e-6) / weighted,
        log_likelihood=columns.total(log_density, axis=1),
    )


def _length_precision(
    weight: jax.Array, length_variance: jax.Array, problem: _Problem, config: LocationConfig
) -> jax.Array:
    """The weighted precision of each log length, [2, N, B].

    Errors of a variance V share a part of variance `shared_length_error V^2`, so the more the
    lengths scatter, the less their mean is worth: n of them count as n / (V + n shared V^2).
    """
    used = weight * problem.length_used
    shared = config.shared_length_error * columns.total(used, axis=1) * jnp.square(length_variance)
    faint = config.faint_length_weight / config.useless_length_std**2
    own = columns.times(length_variance[:, None], problem.relative.length)
    return used / (own + shared[:, None]) + faint * weight


def _information(
    direction_precision: jax.Array,
    length_precision: jax.Array,
    inverse_squared: jax.Array,
    unit: lanes.Vector,
    damping: float,
) -> lanes.Matrix:
    """`sum_i (a_i (I - u_i u_i^T) + b_i u_i u_i^T) / rho_i^2`, damped."""
    across = direction_precision * inverse_squared
    along = (length_precision - direction_precision) * inverse_squared
    information = columns.outer_sum(across, along, unit, axis=1)
    return columns.add_diagonal(information, damping * lanes.trace(information) + 1e-9)


def _maximize(
    state: _State, expected: _Expectation, problem: _Problem, config: LocationConfig
) -> _State:
    """One Gauss-Newton step, no longer than the distance, and new variances."""
    covariance, _ = columns.inverse_positive(expected.information)
    move = lanes.transform(covariance, expected.gradient)
    squared = lanes.dot(move, move) + MIN_DISTANCE**2
    shorten = jnp.minimum(1.0, jnp.sqrt(expected.distance_squared / squared))
    direction_variance, length_variance = _variances(
        expected,
        problem,
        covariance,
        (
            (config.direction_std, config.direction_std_weight),
            (config.length_std, config.length_std_weight),
        ),
    )
    position = columns.add(state.position, columns.scale(move, shorten))
    return _State(position, direction_variance, length_variance)


def _variances(
    expected: _Expectation,
    problem: _Problem,
    covariance: lanes.Matrix,
    priors: tuple[tuple[float, float], tuple[float, float]],
) -> tuple[jax.Array, jax.Array]:
    """Posterior means of the direction and the log-length variance, [2, B] each.

    A prior is a standard deviation and the number of residuals that it counts as.

    Squares count relative to each neighbour's own variance. The freedom that the fit has taken
    from the residuals is their leverage, the trace of the covariance through the rows of the
    Jacobian.
    """
    rows = lanes.expand(covariance, 1)
    along = expected.inverse_squared * lanes.dot(
        expected.unit, lanes.transform(rows, expected.unit)
    )
    across = expected.inverse_squared * lanes.trace(rows) - along
    used = expected.weight * problem.length_used
    freedom = (
        2.0 * expected.weight - expected.direction_precision * across,
        used - problem.length_used * expected.length_precision * along,
    )
    squares = (
        columns.over(expected.weight * expected.direction_squared, problem.relative.direction),
        columns.over(used * jnp.square(expected.log_ratio), problem.relative.length),
    )
    return tuple(
        (worth * std**2 + columns.total(square, axis=1))
        / (worth + jnp.maximum(columns.total(free, axis=1), 0.0))
        for (std, worth), square, free in zip(priors, squares, freedom, strict=True)
    )


def _model_shares(
    state: _State, expected: _Expectation, num_valid: jax.Array, config: LocationConfig
) -> jax.Array:
    """The probabilities of the two length models, [2, B]; a lone length is taken at its word."""
    evidence = _log_evidence(state, expected, config)
    odds = config.useful_log_odds + config.few_log_odds / jnp.maximum(num_valid - 1, 1)
    share = jax.nn.softmax(evidence.at[0].add(odds), axis=0)
    return jnp.where(num_valid[None] == 1, jnp.asarray([[1.0], [0.0]], share.dtype), share)


def _log_evidence(state: _State, expected: _Expectation, config: LocationConfig) -> jax.Array:
    """Laplace's approximation of each length model's log evidence, [2, B].

    The prior of the position is flat in the direction and the logarithm of the distance.
    """
    bounded = columns.add_diagonal(expected.information, 1.0 / expected.distance_squared)
    _, log_determinant = columns.inverse_positive(bounded)
    volume = -0.5 * log_determinant - 1.5 * jnp.log(expected.distance_squared)

    def prior(variance, std, weight):
        ratio = std**2 / variance
        return 0.5 * weight * (jnp.log(ratio) - ratio + 1.0)

    directions = prior(
        state.direction_variance, config.direction_std, config.direction_std_weight
    )
    lengths = prior(state.length_variance[0], config.length_std, config.length_std_weight)
    evidence = expected.log_likelihood + volume + directions
    return evidence.at[0].add(lengths)


def _average_covariance(
    share: jax.Array, covariances: lanes.Matrix, positions: lanes.Vector, position: lanes.Vector
) -> lanes.Matrix:
    """The second moment about `position` [B] of the models' mixture, means and covariances."""
    apart = columns.subtract(positions, lanes.expand(position, 0))
    return tuple(
        tuple(columns.total(share * (c + a * b)) for c, b in zip(row, apart, strict=True))
        for row, a in zip(covariances, apart, strict=True)
    )


def _stated_covariance(
    expected: _Expectation, problem: _Problem, config: LocationConfig
) -> lanes.Matrix:
    """The inverse information at the variances that the residuals show, little prior, [2, B]."""
    covariance, _ = columns.inverse_positive(expected.information)
    worth = config.stated_std_weight
    direction_variance, length_variance = _variances(
        expected,
        problem,
        covariance,
        ((config.stated_direction_std, worth), (config.stated_length_std, worth)),
    )
    information = _information(
        expected.weight / columns.times(direction_variance[:, None], problem.relative.direction),
        _length_precision(expected.weight, length_variance, problem, config),
        expected.inverse_squared,
        expected.unit,
        STATED_DAMPING,
    )
    return columns.inverse_positive(information)[0]


def _line_covariance(
    position: lanes.Vector, weight: jax.Array, bearings: Bearings, config: LocationConfig
) -> lanes.Matrix:
    """The stated covariance of a position from unsigned directions alone."""
    problem = _problem(bearings, weight)
    problem = problem._replace(length_used=jnp.zeros_like(weight)[None])
    residuals = _residuals(tuple(x[None, None] for x in position), problem)
    inverse_squared = jnp.square(residuals.inverse_distance)
    direction_squared = jnp.maximum(problem.opposite - 2.0 * jnp.abs(residuals.cosine), 0.0)
    freedom = jnp.maximum(2.0 * columns.total(weight) - 3.0, 0.0)
    variance = (
        config.stated_std_weight * config.stated_direction_std**2
        + columns.total(weight * direction_squared[0])
    ) / (config.stated_std_weight + freedom)
    information = _information(
        weight[None] / variance[None, None],
        _length_precision(weight[None], variance[None], problem, config),
        inverse_squared,
        residuals.unit,
        STATED_DAMPING,
    )
    return tuple(tuple(x[0] for x in row) for row in columns.inverse_positive(information)[0])


def _on_line(points: lanes.Vector, bearings: Bearings) -> jax.Array:
    """Whether each neighbour is an inlier of each point: [H, N, B] of points [H, B]."""
    offset = tuple(p[:, None] - c[None] for p, c in zip(points, bearings.centre, strict=True))
    along = lanes.dot(offset, tuple(x[None] for x in bearings.direction))
    limit = np.cos(PAPER_INLIER_RAD) ** 2
    return (along * along > limit * lanes.dot(offset, offset)) & bearings.valid[None]

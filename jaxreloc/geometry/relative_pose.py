"""The relative pose of image pairs from weighted matches of their viewing rays.

`estimate_relative_pose` is a locally optimized RANSAC (Chum et al., "Locally optimized RANSAC",
DAGM 2003) of fixed shape, jitted and vmapped over pairs:

1. samples of five matches, drawn by weight, each solved from one start (`essential.five_point`);
2. MSAC on Sampson's error for all of them; the best few become candidates, beside a given
   initial pose, and the depths' signs choose among the four poses of each;
3. every candidate is refined (`epipolar.refine`), and MSAC with depths on all matches chooses;
4. the finalists are refined at the scale of their own residuals, fewer of them for more steps:
   where wrong matches outweigh what the right ones say, as on planes, steps are short. The winner
   is reported with its information matrix.

Units and frames are those of `jaxreloc.geometry.two_view.epipolar`: coordinates in the plane z = 1,
thresholds in pixels over the focal length, the pose `db_from_query` with |t| = 1.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import jax_dataclasses as jdc
import numpy as np
from jaxlie import SE3
from jaxtyping import Bool, Float, Int

from jaxreloc.geometry._kernels import lanes, ransac
from jaxreloc.geometry._kernels.lanes import Lane, LanePose
from jaxreloc.geometry.two_view import epipolar, essential, planar, pure_rotation
from jaxreloc.geometry.two_view.epipolar import Matches

WIDEST_SCALE = 2.0  # of the threshold, where refinement starts
START_SPREAD = 0.3  # radians, of the starts about the identity
# The final Geman-McClure constant, in standard deviations of the noise: where there are none but
# inliers, and without any. Few inliers need the narrow one, since the tails are full of outliers.
WIDE_SCALE, NARROW_SCALE = 3.0, 1.8
SMALLEST_NOISE = 0.02  # of the threshold
DISTINCT_ROTATION = np.deg2rad(3.0)
DISTINCT_DIRECTION = np.deg2rad(10.0)
AS_GOOD = 0.95
SMALLEST_DEPTH = 0.05  # of a ray's length
RIDGE = 1e-7  # of the information's trace
UNDEFINED_STD = np.pi / 2  # radians, of what the matches do not determine


@dataclasses.dataclass(frozen=True)
class RelativePoseConfig:
    """The work per pair, all of it independent of the data."""

    hypotheses: int = 768
    newton_steps: int = 6
    search_matches: int = 200
    candidates: int = 16
    candidate_steps: int = 4
    finalists: int = 3
    final_steps: tuple[int, int, int] = (5, 5, 20)  # of all finalists, of two, of the winner
    min_inliers: int = 8


@jdc.pytree_dataclass
class RelativePoseEstimate:
    """The relative pose of each pair, and how far to trust it. Nothing in it is ever NaN."""

    db_from_query: SE3  # |t| = 1; meaningless where not `success`
    inliers: Bool[jax.Array, "*batch K"]
    num_inliers: Int[jax.Array, "*batch"]
    score: Float[jax.Array, "*batch"]  # MSAC's share of the weight that is explained, 0 to 1
    information: Float[jax.Array, "*batch 6 6"]  # of (rotation vector, direction), db axes, 1/rad^2
    rotation_std: Float[jax.Array, "*batch"]  # of each component of the rotation vector, radians
    direction_std: Float[jax.Array, "*batch"]  # of each tangent component, radians
    success: Bool[jax.Array, "*batch"]
    pure_rotation: Bool[jax.Array, "*batch"]  # no parallax: the rotation holds, t is arbitrary
    ambiguous: Bool[jax.Array, "*batch"]  # `alternative` explains the matches as well
    alternative: SE3


def estimate_relative_pose(
    x_query: Float[jax.Array | np.ndarray, "*batch K d"],
    x_db: Float[jax.Array | np.ndarray, "*batch K d"],
    weights: Float[jax.Array | np.ndarray, "*batch K"],
    *,
    threshold: Float[jax.Array | np.ndarray, "*batch"] | float,
    key: jax.Array,
    initial: SE3 | None = None,
    config: RelativePoseConfig = RelativePoseConfig(),
) -> RelativePoseEstimate:
    """Estimates `db_from_query` of each pair from its matches.

    Args:
      x_query: viewing rays in the query camera's axes (d = 3, any length, z > 0) or coordinates in
        its plane z = 1 (d = 2).
      x_db: the matched rays in the database camera's axes.
      weights: confidence of each match, any scale; 0 masks it, and so does a coordinate that is
        not finite or a ray that does not point forward.
      threshold: largest Sampson error of an inlier, pixels over focal length (for two focal
        lengths their geometric mean); one per pair or one for all.
      key: PRNG key. Every pair sees the same draws: its result does not depend on its batch.
      initial: a first guess, say a network's, which competes with the hypotheses, and near which
        half of them start; its translation has any length.
      config: the amount of work.

    Returns:
      The estimate. `success` is False where fewer than `config.min_inliers` matches agree.
      Where the camera only turned, `pure_rotation` is set and the direction's information is zero.
      A planar scene can have two solutions (Longuet-Higgins, "The reconstruction of a plane
      surface from two perspective projections", 1986): `ambiguous` is set, `alternative` is the
      other one.

    Raises:
      ValueError: if shapes do not agree.
    """
    batch = _check_shapes(x_query, x_db, weights)
    threshold = jnp.broadcast_to(jnp.asarray(threshold, jnp.float32), batch)
    start = None if initial is None else jnp.broadcast_to(initial.wxyz_xyz, batch + (7,))
    return _estimate_batch(x_query, x_db, weights, threshold, start, key, config)


@functools.partial(jax.jit, static_argnames="config")
def _estimate_batch(x_query, x_db, weights, threshold, start, key, config):
    draws = _draws(key, config.hypotheses)
    return _over_batch(
        functools.partial(_estimate, draws=draws, config=config),
        weights.shape[:-1], x_query, x_db, weights, threshold, start,
    )


def _over_batch(function, batch: tuple[int, ...], *arguments):
    """vmap over any number of leading axes."""
    flat = jax.tree.map(lambda x: x.reshape((-1,) + x.shape[len(batch) :]), arguments)
    result = jax.vmap(function)(*flat)
    return jax.tree.map(lambda x: x.reshape(batch + x.shape[1:]), result)


def _estimate(x_query, x_db, weights, threshold, start, *, draws, config) -> RelativePoseEstimate:
    """One pair."""
    matches = _matches(x_query, x_db, weights)
    given = None if start is None else lanes.expand(lanes.pose_from_array(start))

    hypotheses = _hypotheses(matches, given, draws, config)
    few = _representatives(matches, config.search_matches)
    costs = epipolar.msac_cost(hypotheses, few, threshold)
    candidates, _ = _best(hypotheses, costs, config.candidates)
    if given is not None:
        candidates = jax.tree.map(lambda *x: jnp.concatenate(x), given, candidates)
    candidates = epipolar.choose_by_depth(candidates, few, threshold)
    candidates = _refine(candidates, few, threshold, config.candidate_steps)
    costs = epipolar.msac_cost_in_front(candidates, matches, threshold)
    finalists, _ = _best(candidates, costs, min(config.finalists, config.candidates))
    twin = planar.twin(jax.tree.map(lambda x: x[:1], finalists), matches, threshold)
    finalists = jax.tree.map(lambda *x: jnp.concatenate(x), finalists, twin)
    all_steps, two_steps, winner_steps = config.final_steps
    best, rival, _ = _final(finalists, matches, threshold, all_steps)
    two = jax.tree.map(lambda *x: jnp.concatenate(x), best, rival)
    best, alternative, other_cost = _final(two, matches, threshold, two_steps)
    best = _refine_at_noise(best, matches, threshold, winner_steps)
    return _report(best, alternative, other_cost, matches, threshold, config)


def _final(pose: LanePose, matches: Matches, threshold: Lane, steps: int):
    """Refines all lanes; the best one, the best other one, and the latter's cost."""
    pose = _refine_at_noise(pose, matches, threshold, steps)
    costs = epipolar.msac_cost_in_front(pose, matches, threshold)
    best, _ = _best(pose, costs, 1)
    return best, *_runner_up(pose, costs, best)


def _refine_at_noise(pose: LanePose, matches: Matches, threshold: Lane, steps: int) -> LanePose:
    """Refines at the scale of the pose's own residuals."""
    scale, _ = _noise_scale(pose, matches, threshold)
    return epipolar.refine(
        pose, matches, jnp.broadcast_to(scale, (steps,) + scale.shape), threshold
    )


def _refine(pose: LanePose, matches: Matches, threshold: Lane, steps: int) -> LanePose:
    """Refines with Geman-McClure constants from `WIDEST_SCALE` thresholds down to one."""
    scale = threshold * jnp.geomspace(WIDEST_SCALE, 1.0, steps)[:, None]
    return epipolar.refine(pose, matches, scale, threshold)


def _draws(key: jax.Array, hypotheses: int) -> dict[str, jax.Array]:
    """The random numbers of one call, shared by all pairs."""
    sample, turn, direction = jax.random.split(key, 3)
    return {
        "sample": jax.random.uniform(sample, (5, hypotheses)),
        "turn": START_SPREAD * jax.random.normal(turn, (3, hypotheses)),
        "direction": jax.random.normal(direction, (3, hypotheses)),
    }


def _hypotheses(matches: Matches, given: LanePose | None, draws, config) -> LanePose:
    """One pose per sample of five matches, drawn with replacement in proportion to weight.

    Starts: lane by lane in turn the rotation that two rays of the sample suggest, and a small
    turn about the identity, with random directions; half of the lanes start at the given pose.
    """
    index = ransac.at_mass(jnp.cumsum(matches.weights), draws["sample"])
    rays_query, rays_db = _sampled_rays(matches.x_query, index), _sampled_rays(matches.x_db, index)

    lane = jnp.arange(config.hypotheses)
    small_turn = lanes.unit((jnp.ones_like(draws["turn"][0]),) + tuple(0.5 * draws["turn"]))
    aligned = essential.align_two_rays(rays_query[:2], rays_db[:2])
    start = LanePose(
        lanes.where(lane % 2 == 0, aligned, small_turn), lanes.unit(tuple(draws["direction"]))
    )
    if given is not None:
        start = lanes.where(lane % 4 < 2, start, given)
    return essential.five_point(rays_query, rays_db, start, config.newton_steps)


def _representatives(matches: Matches, number: int) -> Matches:
    """At most `number` matches, evenly spaced in cumulative weight: enough to rank poses by."""
    if matches.weights.shape[0] <= number:
        return matches
    cumulative = jnp.cumsum(matches.weights)
    index = ransac.at_mass(cumulative, (jnp.arange(number) + 0.5) / number)
    weights = jnp.full(number, 1.0 / number) * (cumulative[-1] > 0)
    return Matches(matches.x_query[index], matches.x_db[index], weights)


def _sampled_rays(x: Float[jax.Array, "K 2"], index: Int[jax.Array, "5 lanes"]):
    u, v = x[:, 0], x[:, 1]
    return tuple((u[row], v[row], jnp.ones(row.shape)) for row in index)


def _best(pose: LanePose, costs: Lane, number: int) -> tuple[LanePose, Lane]:
    """The lanes of least cost, in order."""
    negative, index = jax.lax.top_k(-costs, number)
    return jax.tree.map(lambda x: x[index], pose), -negative


def _runner_up(pose: LanePose, costs: Lane, best: LanePose) -> tuple[LanePose, Lane]:
    """The best lane that is not (a perturbation of) `best`; of infinite cost if there is none."""
    same_rotation = jnp.abs(lanes.dot(pose.q_wxyz, best.q_wxyz)) > np.cos(DISTINCT_ROTATION / 2)
    same_direction = lanes.dot(pose.t, best.t) > np.cos(DISTINCT_DIRECTION)
    other, cost = _best(pose, jnp.where(same_rotation & same_direction, jnp.inf, costs), 1)
    return lanes.where(jnp.isfinite(cost), other, best), cost


def _noise_scale(pose: LanePose, matches: Matches, threshold: Lane) -> tuple[Lane, Lane]:
    """The Geman-McClure constant, and the standard deviation of the inliers' Sampson error."""
    error = epipolar.residuals(pose, matches, threshold)
    weights = jnp.where(_inliers(error, matches, threshold), matches.weights[None], 0.0)
    count = _effective_count(weights)
    variance = _sum(weights * error.squared) / (_sum(weights) + lanes.TINY)
    variance = variance * count / jnp.maximum(count - 5.0, 1.0)
    noise = jnp.sqrt(variance + (SMALLEST_NOISE * threshold) ** 2)
    scales = NARROW_SCALE + (WIDE_SCALE - NARROW_SCALE) * _sum(weights)
    return jnp.minimum(threshold, scales * noise), noise


def _inliers(error: epipolar.Residuals, matches: Matches, threshold: Lane):
    return (error.squared < threshold**2) & error.plausible & (matches.weights[None] > 0)


def _effective_count(weights: Float[jax.Array, "*lanes K"]) -> Lane:
    """Kish's effective sample size `(sum w)^2 / sum w^2`."""
    return _sum(weights) ** 2 / (_sum(weights**2) + lanes.TINY)


def _sum(x: jax.Array) -> Lane:
    return jnp.sum(x, axis=-1)


def _report(pose, alternative, other_cost, matches, threshold, config):
    """What is known about the refined pose (one lane)."""
    error = epipolar.residuals(pose, matches, threshold)
    inliers = _inliers(error, matches, threshold)[0]
    cost = epipolar.msac_cost_in_front(pose, matches, threshold)[0]
    scalar_pose = jax.tree.map(lambda x: x[0], pose)

    q_turn = pure_rotation.fit_rotation(
        scalar_pose.q_wxyz, matches, threshold, config.candidate_steps
    )
    turned_only = pure_rotation.no_parallax(q_turn, error.squared[0], matches, inliers, threshold)
    turn_error = pure_rotation.transfer_error(q_turn, matches) / (2.0 * threshold**2)
    inliers = jnp.where(turned_only, (turn_error < 1.0) & (matches.weights > 0), inliers)
    turn_cost = jnp.vdot(matches.weights, jnp.minimum(turn_error, 1.0))
    score = jnp.sum(matches.weights) - jnp.where(turned_only, turn_cost, cost)
    scalar_pose = LanePose(lanes.where(turned_only, q_turn, scalar_pose.q_wxyz), scalar_pose.t)

    scale, noise = _noise_scale(pose, matches, threshold)
    normal = epipolar.normal_matrix(pose, matches, scale, threshold)[0]
    normal = normal * _effective_count(matches.weights) / noise[0] ** 2
    information, rotation_std, direction_std = _uncertainty(normal, scalar_pose.t, turned_only)
    count = jnp.sum(inliers)
    success = count >= config.min_inliers
    return RelativePoseEstimate(
        db_from_query=lanes.pose_to_se3(scalar_pose),
        inliers=inliers,
        num_inliers=count,
        score=score,
        information=information,
        rotation_std=rotation_std,
        direction_std=direction_std,
        success=success,
        pure_rotation=turned_only & success,
        ambiguous=success & ~turned_only & (1.0 - other_cost[0] > AS_GOOD * score),
        alternative=SE3(lanes.pose_to_array(alternative)[0]),
    )


def _uncertainty(normal, t: lanes.Vector, direction_undefined: Bool[jax.Array, ""]):
    """The 6 x 6 information, and standard deviations by its inverse, from the 5 x 5 one (scalars).

    Of an undefined direction the information is zero, and the rotation's is that at a known one.
    """
    defined = jnp.concatenate([jnp.ones(3), jnp.full(2, jnp.where(direction_undefined, 0.0, 1.0))])
    normal = normal * defined[:, None] * defined[None, :]
    ridge = RIDGE * jnp.trace(normal) + lanes.TINY + (1.0 - defined)
    variances = jnp.diagonal(jnp.linalg.inv(normal + jnp.diag(ridge)))
    rotation_std = jnp.sqrt(jnp.mean(variances[:3]))
    direction_std = jnp.sqrt(jnp.mean(variances[3:]))

    tangents = jnp.stack([jnp.stack(tangent) for tangent in lanes.tangent_basis(t)])
    to_five = jnp.block([[jnp.eye(3), jnp.zeros((3, 3))], [jnp.zeros((2, 3)), tangents]])
    return (
        to_five.T @ normal @ to_five,
        jnp.minimum(rotation_std, UNDEFINED_STD),
        jnp.where(direction_undefined, UNDEFINED_STD, jnp.minimum(direction_std, UNDEFINED_STD)),
    )


def _matches(x_query, x_db, weights) -> Matches:
    """Matches in the planes z = 1, weights summing to one; what cannot be used has weight zero."""
    (x_query, usable_query), (x_db, usable_db) = _to_plane(x_query), _to_plane(x_db)
    usable = usable_query & usable_db & (weights > 0) & jnp.isfinite(weights)
    weights = jnp.where(usable, weights, 0.0).astype(jnp.float32)
    return Matches(
        jnp.where(usable[:, None], x_query, 0.0),
        jnp.where(usable[:, None], x_db, 0.0),
        weights / (jnp.sum(weights) + lanes.TINY),
    )


def _to_plane(x: Float[jax.Array, "K d"]):
    x = x.astype(jnp.float32)
    usable = jnp.all(jnp.isfinite(x), axis=-1)
    if x.shape[-1] == 3:
        usable = usable & (x[:, 2] > SMALLEST_DEPTH * jnp.linalg.norm(x, axis=-1))
        x = x[:, :2] / jnp.where(usable, x[:, 2], 1.0)[:, None]
    return x, usable


def _check_shapes(x_query, x_db, weights) -> tuple[int, ...]:
    """The batch shape."""
    agree = x_query.shape == x_db.shape and x_query.shape[:-1] == weights.shape
    if not agree or x_query.shape[-1] not in (2, 3):
        raise ValueError(
            "matches need x_query and x_db of one shape [..., K, 2 or 3] and weights [..., K]; got "
            f"{x_query.shape}, {x_db.shape} and {weights.shape}"
        )
    return weights.shape[:-1]

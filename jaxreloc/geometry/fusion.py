"""An absolute pose from predicted relative poses to database images.

Neighbour i of a query has the known pose `world_from_db_i` and the predicted relative pose
`db_from_query_i`. Each gives one hypothesis of the query's rotation,
`R_world_from_db_i R_db_from_query_i`, and one bearing to its centre: from `centre_i` along
`R_world_from_db_i t_i`, at the predicted distance `|t_i|`. Three methods fuse them.

`method="paper"` is the fusion of Laskar et al., "Camera Relocalization by Computing Pairwise
Relative Poses Using Convolutional Neural Network" (ICCVW 2017, arXiv 1707.09733):
  position: every pair of neighbours triangulates a midpoint; the midpoints with the most
    neighbours within 10 deg, directions taken as lines without a sign, are averaged.
  rotation: the hypotheses with the most others within 20 deg are averaged.
Predicted lengths are not used.

The paper's text averages rotations by the L1 geodesic mean. The authors' script does not: its
iteration stops where `|1 - det(S S^T)| < 1e-10`, which holds for every rotation S, and then returns
its start, the normalised sum of the quaternions. Published figures rest on that, so it is the
default; `FusionConfig.paper_rotation_mean = "l1"` is the text's. The script's other defects are not
kept; docs/experiments/paper_fusion.md lists them.

`method="robust"` models the errors instead (`LocationConfig`, `RotationConfig`):
  1. Hypotheses are the triangulated midpoints that lie ahead of both cameras and each neighbour's
     own metric answer; retrieved cameras are often nearly collinear, and then directions alone do
     not fix the point.
  2. They are scored by the likelihood of all directions (signed) and lengths under a mixture of
     inliers and outliers, so no residual counts for more than an outlier's.
  3. The best one is refined by expectation maximisation: inlier probabilities, a Gauss-Newton
     step, and the variances of directions and lengths that the residuals show.
  4. Steps 2 and 3 run twice, with lengths and without. The model of the higher evidence wins, so
     lengths that do not fit the directions are noticed. Lengths that are equal to four digits
     are those of normalised translations and are not used at all.
  5. A neighbour whose rotation disagrees is trusted less for the position as well.

`method="median"` takes each neighbour's metric answer as it is:
  position: the geometric median of `centre_i + R_world_from_db_i t_i`.
  rotation: the L1 geodesic mean of the hypotheses.
It suits networks whose error of the translation is as large as the baselines of what they are asked
about, of which directions tell little. Normalised translations it cannot use.

What is known of each relative pose beforehand can be given as a `Reliability`. With the stated
standard deviation `s_i` of neighbour i and the model's `s_0` (`RotationConfig.std_rad`,
`LocationConfig.direction_std`, `LocationConfig.length_std`), its residuals have the variance

    V (s_i / s_0)^2,

where V is what the query's residuals show, as before, from the prior `s_0^2`: statements that are
too bold or too timid as a whole are corrected by the data, and only their ratios are believed. A
stated probability `p_i` of being right replaces `inlier_prior` p_0 for the rotation, and moves the
log odds of step 5 by `logit p_i - logit p_0` for the bearing.
"""

import dataclasses
import functools
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import jax_dataclasses as jdc
from jaxlie import SE3
from jaxtyping import Bool, Float, PRNGKeyArray, PyTree

from jaxreloc.geometry._kernels import columns, lanes, location, ransac, rotation
from jaxreloc.geometry._kernels.location import LocationConfig
from jaxreloc.geometry._kernels.ransac import Sampling
from jaxreloc.geometry._kernels.rotation import PaperMean, RotationConfig

Method = Literal["robust", "paper", "median"]
MAX_COORDINATE = 1e12  # metres; a neighbour beyond it counts as not valid
MAX_LOCAL = 1e6  # units of local coordinates
MAX_VARIANCE = MAX_COORDINATE**2  # square metres; of a position of which nothing is known
STD_RATIOS = (1e-2, 1e3)  # of stated standard deviations to the model's, at most
MAX_INLIER_PRIOR = 0.999
CPU_BLOCK = 512  # queries at a time, so that what a block computes stays in the cache


@dataclasses.dataclass(frozen=True)
class FusionConfig:
    """The models of `method="robust"` and, of it and "paper", how many hypotheses are tried.

    `paper_rotation_mean` is the mean of tied rotations of `method="paper"`: "chordal" as in the
    authors' script, or "l1" as in the paper's text; see the module.

    `rotation_agrees_prior` and `rotation_disagrees_prior` are the probabilities of being a
    bearing's inlier for a neighbour whose rotation is, or is not, in the rotations' consensus.
    """

    location: LocationConfig = LocationConfig()
    rotation: RotationConfig = RotationConfig()
    sampling: Sampling = Sampling()
    rotation_agrees_prior: float = 0.93
    rotation_disagrees_prior: float = 0.4
    paper_rotation_mean: PaperMean = "chordal"


@jdc.pytree_dataclass
class Reliability:
    """How far each relative pose can be trusted, before the others are seen; see the module.

    What is None is taken from the model. Standard deviations may be infinite.
    """

    inlier_prior: Float[jax.Array, "*batch N"] | None = None  # probability that it is right
    rotation_std: Float[jax.Array, "*batch N"] | None = None  # about each axis, radians
    direction_std: Float[jax.Array, "*batch N"] | None = None  # of each tangent component, radians
    length_std: Float[jax.Array, "*batch N"] | None = None  # of the logarithm


@jdc.pytree_dataclass
class FusedPose:
    """The pose of each query, and how far to trust it."""

    world_from_query: SE3
    location_inliers: Bool[jax.Array, "*batch N"]
    rotation_inliers: Bool[jax.Array, "*batch N"]
    position_covariance: Float[jax.Array, "*batch 3 3"]  # world axes, metres squared
    rotation_std: Float[jax.Array, "*batch"]  # of each component of the rotation vector, radians
    success: Bool[jax.Array, "*batch"]


def fuse(
    world_from_db: SE3,
    db_from_query: SE3,
    *,
    valid: Bool[jax.Array, "*batch N"] | None = None,
    reliability: Reliability | None = None,
    method: str = "robust",
    config: FusionConfig = FusionConfig(),
    key: PRNGKeyArray | None = None,
) -> FusedPose:
    """Fuses the relative poses of each query to its N neighbours into one absolute pose.

    Pure and jitted; differentiable, the choice of hypotheses held fixed. Give batches as leading
    axes rather than through `vmap`, which is correct but slower. Whether predicted lengths are
    worth anything shows from two neighbours on; a lone one's is taken at its word.

    Args:
      world_from_db: the neighbours' poses, [*batch, N], the most similar first. N >= 1.
      db_from_query: the predicted relative poses, [*batch, N]; translation in the database
        camera's axes, metres (`poses.to_camera_axes` converts from world axes).
      valid: which neighbours exist; all by default. A neighbour with a number that is not finite,
        a zero quaternion or a coordinate beyond 1e12 m counts as not valid.
      reliability: what is known of each neighbour's errors, for `robust` alone; by default they are
        equally reliable. NaN counts as not valid.
      method: "robust", "paper" or "median", see the module.
      config: of the method.
      key: draws the hypotheses where N exceeds `config.sampling.max_exhaustive`; a fixed key by
        default. The same key gives the same answer.

    Returns:
      With batch axes `*batch`. `success` is False, and the pose a fallback, where the data do not
      determine it: no valid neighbour (the pose is then the identity); `paper`: no two
      directions that cross (position of the first valid neighbour); `robust`: two neighbours or
      more of which no two agree, or a position that is unknown to twice its distance; `median`:
      normalised translations alone.
      `location_inliers` and `rotation_inliers` say which neighbours agree with the answer;
      `position_covariance` and `rotation_std` are of the estimate's error.

    Raises:
      ValueError: at trace time, for an unknown method, shapes that do not fit, or a reliability
        given to a method that has no use for it.
    """
    return _fuse(
        world_from_db, db_from_query, valid, reliability, key, method=method, config=config
    )


@functools.partial(jax.jit, static_argnames=("method", "config"))
def _fuse(
    world_from_db: SE3,
    db_from_query: SE3,
    valid: jax.Array | None,
    reliability: Reliability | None,
    key: jax.Array | None,
    *,
    method: str,
    config: FusionConfig,
) -> FusedPose:
    db, relative = world_from_db.wxyz_xyz, db_from_query.wxyz_xyz
    reliability = Reliability() if reliability is None else reliability
    _check(db.shape, relative.shape, valid, reliability, method)
    *batch, count, _ = db.shape
    valid = jnp.ones(db.shape[:-1], bool) if valid is None else valid
    key = jax.random.key(0) if key is None else key
    kernel = functools.partial(_fuse_block, key=key, method=method, config=config)
    fused = _map_blocks(
        kernel,
        db.reshape(-1, count, 7),
        relative.reshape(-1, count, 7),
        valid.reshape(-1, count),
        jax.tree.map(lambda x: x.reshape(-1, count), reliability),
    )
    pose, location_inliers, rotation_inliers, covariance, std, success = (
        x.reshape(*batch, *x.shape[1:]) for x in fused
    )
    return FusedPose(SE3(pose), location_inliers, rotation_inliers, covariance, std, success)


def _check(db_shape, relative_shape, valid, reliability, method) -> None:
    if method not in get_args(Method):
        raise ValueError(f"unknown method {method!r}; known: {', '.join(get_args(Method))}")
    if db_shape != relative_shape:
        raise ValueError(
            f"world_from_db has batch axes {db_shape[:-1]}, db_from_query {relative_shape[:-1]}; "
            "both must be [*batch, N]"
        )
    if len(db_shape) < 2 or db_shape[-2] < 1:
        raise ValueError(f"world_from_db has batch axes {db_shape[:-1]}; the last must be N >= 1")
    if valid is not None and valid.shape != db_shape[:-1]:
        raise ValueError(f"valid has shape {valid.shape}, the poses {db_shape[:-1]}")
    for name, stated in vars(reliability).items():
        if stated is not None and method != "robust":
            raise ValueError(f"method {method!r} knows no reliability, but {name} is given")
        if stated is not None and stated.shape != db_shape[:-1]:
            raise ValueError(f"{name} has shape {stated.shape}, the poses {db_shape[:-1]}")


def _map_blocks(kernel, *arrays: PyTree) -> tuple[jax.Array, ...]:
    """`kernel` over the leading axis of the arrays; on CPUs in blocks that fit the cache."""
    size = arrays[0].shape[0]
    num_blocks = -(-size // CPU_BLOCK)
    if jax.default_backend() != "cpu" or num_blocks <= 1:
        return kernel(*arrays)
    block = -(-size // num_blocks)
    padding = num_blocks * block - size

    def split(x):
        x = jnp.pad(x, ((0, padding),) + ((0, 0),) * (x.ndim - 1))
        return x.reshape(num_blocks, block, *x.shape[1:])

    results = jax.lax.map(lambda xs: kernel(*xs), jax.tree.map(split, arrays))
    return tuple(x.reshape(num_blocks * block, *x.shape[2:])[:size] for x in results)


def _fuse_block(db, relative, valid, reliability, *, key, method, config):
    """Fuses poses [B, N, 7] under a mask [B, N]; everything it returns has the batch first."""
    db, relative = jnp.transpose(db, (2, 1, 0)), jnp.transpose(relative, (2, 1, 0))
    reliability = jax.tree.map(jnp.transpose, reliability)
    valid = jnp.transpose(valid) & _usable(db) & _usable(relative)
    for stated in jax.tree.leaves(reliability):
        valid = valid & ~jnp.isnan(stated)
    identity = jnp.zeros((7, 1, 1), db.dtype).at[0].set(1.0)
    db, relative = (tuple(jnp.where(valid[None], x, identity)) for x in (db, relative))
    q_db, _ = columns.normalize(db[:4], 0.0)
    q_relative, _ = columns.normalize(relative[:4], 0.0)
    q_query = lanes.quaternion_product(q_db, q_relative)
    bearings, origin, unit = _observe(db[4:], columns.rotate(q_db, relative[4:]), valid)
    pairs = ransac.draw_pairs(valid, key, config.sampling)
    if method == "paper":
        rotated = rotation.paper_rotation(q_query, valid, config.paper_rotation_mean)
        located = location.paper_location(bearings, pairs)
        success = located.success
    elif method == "median":
        rotated = rotation.median_rotation(q_query, valid)
        located = location.median_location(bearings, config.location)
        success = located.success
    else:
        stated = _stated_prior(reliability.inlier_prior, valid)
        turning = _relative_variance(reliability.rotation_std, config.rotation.std_rad, valid)
        rotated = rotation.robust_rotation(q_query, valid, config.rotation, stated, turning)
        prior = _location_prior(rotated.inlier_weight, stated, valid, config)
        located = location.robust_location(
            bearings, pairs, prior, config.location, _bearing_variances(reliability, valid, config)
        )
        success = located.success & _agree(rotated.inlier_weight, valid, config)
    position = columns.add(origin, columns.scale(located.position, unit))
    covariance = jnp.stack([x * unit * unit for row in located.covariance for x in row], axis=-1)
    return (
        jnp.stack([*rotated.q_wxyz, *position], axis=-1),
        jnp.transpose(located.inlier_weight > 0.5),
        jnp.transpose(rotated.inlier_weight > 0.5),
        _finite_covariance(covariance.reshape(-1, 3, 3)),
        rotated.std,
        success,
    )


def _finite_covariance(covariance: jax.Array) -> jax.Array:
    """Nothing known, [B, 3, 3], where a number is too large for its type."""
    known = jnp.all(jnp.isfinite(covariance), axis=(1, 2), keepdims=True)
    return jnp.where(known, covariance, MAX_VARIANCE * jnp.eye(3)[None])


def _stated_prior(inlier_prior: jax.Array | None, valid: jax.Array) -> jax.Array | None:
    """Within bounds, and a number where the neighbour does not count: [N, B]."""
    if inlier_prior is None:
        return None
    return jnp.where(valid, jnp.clip(inlier_prior, 0.0, MAX_INLIER_PRIOR), 0.0)


def _relative_variance(
    std: jax.Array | None, model_std: float, valid: jax.Array, largest: float = STD_RATIOS[1]
) -> jax.Array | None:
    """`(s_i / s_0)^2`, [N, B]."""
    if std is None:
        return None
    return jnp.square(jnp.where(valid, jnp.clip(std / model_std, STD_RATIOS[0], largest), 1.0))


def _bearing_variances(
    reliability: Reliability, valid: jax.Array, config: FusionConfig
) -> location.RelativeVariances:
    model = config.location
    useless = model.useless_length_std / model.length_std
    return location.RelativeVariances(
        _relative_variance(reliability.direction_std, model.direction_std, valid),
        _relative_variance(reliability.length_std, model.length_std, valid, useless),
    )


def _usable(pose: jax.Array) -> jax.Array:
    """Whether the numbers [7, N, B] are finite, the quaternion not zero, no coordinate absurd."""
    size = jnp.abs(pose)
    # A comparison with NaN is False.
    return jnp.all(size < MAX_COORDINATE, axis=0) & jnp.any(size[:4] > 1e-12, axis=0)


def _observe(
    centre: lanes.Vector, offset: lanes.Vector, valid: jax.Array
) -> tuple[location.Bearings, lanes.Vector, jax.Array]:
    """The bearings in local coordinates, and their origin and unit in the world's, [B].

    The origin is the first valid neighbour, the unit the geometric mean of the predicted lengths.

    Args:
      centre, offset: [N, B], world axes, metres.
    """
    origin = columns.take(centre, jnp.argmax(valid, axis=0))
    local = columns.subtract(centre, tuple(x[None] for x in origin))
    _, length = columns.normalize(offset, 1e-18)
    moving = (valid & (length > 1e-18)).astype(length.dtype)
    num_moving = columns.total(moving)
    mean_log = columns.total(moving * jnp.log(length)) / jnp.maximum(num_moving, 1.0)
    widest = functools.reduce(
        jnp.maximum, (jnp.max(jnp.where(valid, jnp.abs(x), 0.0), axis=0) for x in local)
    )
    still = jnp.where(widest > 1e-18, widest, 1.0)
    unit = jax.lax.stop_gradient(jnp.where(num_moving > 0, jnp.exp(mean_log), still))
    local, offset = (
        tuple(jnp.clip(x / unit[None], -MAX_LOCAL, MAX_LOCAL) for x in v) for v in (local, offset)
    )
    direction, local_length = columns.normalize(offset, location.MIN_DISTANCE)
    several = (columns.total(valid.astype(jnp.int32)) > 1)[None]
    unit_length = several & (jnp.abs(length - 1.0) < location.SAME_LENGTH)
    bearings = location.Bearings(
        centre=local,
        direction=direction,
        length=local_length,
        valid=valid,
        normalized=unit_length | _has_equal(local, offset, local_length, valid),
    )
    return bearings, origin, unit


def _has_equal(
    centre: lanes.Vector, offset: lanes.Vector, length: jax.Array, valid: jax.Array
) -> jax.Array:
    """Whether another neighbour, not a duplicate of this one, has the same length: [N, B]."""

    def differences(v):
        return tuple(x[:, None] - x[None] for x in v)

    tolerance = location.SAME_LENGTH * length[:, None]
    equal = jnp.abs(length[:, None] - length[None]) < tolerance
    moved, turned = differences(centre), differences(offset)
    distinct = lanes.dot(moved, moved) + lanes.dot(turned, turned) > jnp.square(tolerance)
    return jnp.any(equal & distinct & valid[:, None] & valid[None], axis=1)


def _agree(weight: jax.Array, valid: jax.Array, config: FusionConfig) -> jax.Array:
    """Whether two neighbours agree, or there is only one: [B] of inlier weights [N, B]."""
    num_valid = columns.total(valid.astype(jnp.int32))
    return (columns.total(weight) >= config.location.min_consensus) | (num_valid == 1)


def _location_prior(
    rotation_weight: jax.Array,
    stated_prior: jax.Array | None,
    valid: jax.Array,
    config: FusionConfig,
) -> jax.Array:
    """The probability of being a bearing's inlier, given the rotations' consensus: [N, B].

    Without a consensus of two or more, the rotations say nothing about the bearings.
    """
    low, high = config.rotation_disagrees_prior, config.rotation_agrees_prior
    informed = low + (high - low) * rotation_weight
    several = columns.total(valid.astype(jnp.int32)) > 1
    consensus = several & _agree(rotation_weight, valid, config)
    prior = jnp.where(consensus[None], informed, config.location.inlier_prior)
    if stated_prior is None:
        return prior
    usual = config.location.inlier_prior
    right = prior * stated_prior * (1.0 - usual)
    return right / (right + (1.0 - prior) * (1.0 - stated_prior) * usual)

"""Hypotheses of a query's pose from its matches with N posed images, and their scores.

See `absolute_pose` for what becomes of them. Lanes are hypotheses; positions are in the units of
the tracks (`tracks.Tracks`).
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxreloc.geometry._kernels import lanes, ransac
from jaxreloc.geometry.relative_pose import RelativePoseConfig, estimate_relative_pose
from jaxreloc.geometry.resection.p3p import CameraPose, p3p
from jaxreloc.geometry.resection.tracks import Tracks

LENGTHS = (1e-3, 1e3)  # of a translation
FURTHEST = 1e3  # of a point that a hypothesis is made from
# What the query's focal length is multiplied by, to see whether another one suits better.
FOCAL_FACTORS = (0.5, 0.67, 0.8, 1.25, 1.5, 2.0)


@dataclasses.dataclass(frozen=True)
class HypothesisConfig:
    """How many hypotheses there are.

    Attributes:
      pairs: neighbours whose relative poses are estimated.
      lengths: of each of them.
      triples: of matches with depth; each has up to four solutions.
      first_sample, first_best: so many matches choose so many of the solutions of three, which are
        many.
      sample: matches that hypotheses are scored by.
      threshold: largest error of an inlier, in deviations of a match.
      relative: the work for each pair.
    """

    pairs: int = 4
    lengths: int = 40
    triples: int = 512
    first_sample: int = 96
    first_best: int = 192
    sample: int = 500
    threshold: float = 3.0
    relative: RelativePoseConfig = RelativePoseConfig(
        hypotheses=384, candidates=12, final_steps=(4, 4, 6)
    )


class Hypotheses(NamedTuple):
    """world_from_query, H of them; `usable` says which are any."""

    rotation: Float[Array, "H 3 3"]
    centre: Float[Array, "H 3"]
    usable: Float[Array, "H"]


class Sample(NamedTuple):
    """M of the matches, and what is known of each; all [M] or vectors of [M]."""

    ray: lanes.Vector  # query axes
    axes: lanes.Matrix  # rows of the database camera's rotation world_from_db
    centre: lanes.Vector
    ray_db: lanes.Vector  # world axes, z = 1 in the camera's
    sigma: Array
    inverse_depth: Array
    depth_weight: Array
    usable: Array


def draw(tracks: Tracks, index: Int[Array, "M"]) -> Sample:
    """The matches at these places in the flattened grid."""
    count = tracks.rays.shape[0]
    image, cell = index // count, index % count
    axes = tuple(tuple(tracks.rotation[image, i, j] for j in range(3)) for i in range(3))
    x_db = tracks.x_db.reshape(-1, 2)[index]
    ray_db = lanes.transform(axes, (x_db[:, 0], x_db[:, 1], jnp.ones(len(index))))
    depth = tracks.depth
    return Sample(
        ray=tuple(tracks.rays[cell].T),
        axes=axes,
        centre=tuple(tracks.centre[image].T),
        ray_db=ray_db,
        sigma=tracks.sigma[image],
        inverse_depth=jnp.ones(len(index))
        if depth is None
        else depth.inverse_depth.reshape(-1)[index],
        depth_weight=jnp.zeros(len(index)) if depth is None else depth.weight.reshape(-1)[index],
        usable=tracks.weights.reshape(-1)[index] > 0,
    )


def representatives(tracks: Tracks, number: int) -> Sample:
    """Matches that are evenly spaced in cumulative weight: enough to rank poses by."""
    share = (jnp.arange(number) + 0.5) / number
    return draw(tracks, ransac.at_mass(jnp.cumsum(tracks.weights.reshape(-1)), share))


def of_pairs(tracks: Tracks, key: jax.Array, config: HypothesisConfig) -> Hypotheses:
    """The relative poses of the first neighbours at the lengths that others suggest.

    With d the direction of the pair's translation in world axes, the centre is c_i + s d. A match
    of another image n lies on its epipolar line, y . ((c_i - c_n + s d) x R x) = 0 in world axes,
    at one s.
    """
    pairs = min(config.pairs, tracks.weights.shape[0])
    count = tracks.rays.shape[0]
    estimate_key, length_key = jax.random.split(key)
    x_query = jnp.broadcast_to(tracks.rays[None, :, :2], (pairs, count, 2))
    estimate = estimate_relative_pose(
        x_query,
        tracks.x_db[:pairs],
        tracks.weights[:pairs],
        threshold=config.threshold * tracks.sigma[:pairs],
        key=estimate_key,
        config=config.relative,
    )
    relative = estimate.db_from_query.as_matrix()
    rotation = jnp.einsum("nij,njk->nik", tracks.rotation[:pairs], relative[:, :3, :3])
    direction = jnp.einsum("nij,nj->ni", tracks.rotation[:pairs], relative[:, :3, 3])

    def lengths(i, share):
        others = jnp.where(jnp.arange(tracks.weights.shape[0])[:, None] == i, 0.0, tracks.weights)
        sample = draw(tracks, ransac.at_mass(jnp.cumsum(others.reshape(-1)), share))
        turned = jnp.stack(sample.ray, axis=-1) @ rotation[i].T
        across = jnp.cross(turned, jnp.stack(sample.ray_db, axis=-1))
        offset = tracks.centre[i][None] - jnp.stack(sample.centre, axis=-1)
        length = -jnp.sum(across * offset, axis=1) / (across @ direction[i] + lanes.TINY)
        return jnp.clip(jnp.nan_to_num(length, nan=LENGTHS[0]), *LENGTHS)

    share = jax.random.uniform(length_key, (pairs, config.lengths))
    length = jax.vmap(lengths)(jnp.arange(pairs), share)
    centre = tracks.centre[:pairs, None] + length[..., None] * direction[:, None]
    return Hypotheses(
        rotation=jnp.repeat(rotation, config.lengths, axis=0),
        centre=centre.reshape(-1, 3),
        usable=jnp.repeat(estimate.success, config.lengths),
    )


def of_triples(tracks: Tracks, key: jax.Array, config: HypothesisConfig) -> Hypotheses:
    """The solutions of three matches with depth, drawn by weight."""
    weights = jnp.where(tracks.depth.weight > 0, tracks.weights, 0.0).reshape(-1)
    index = ransac.at_mass(jnp.cumsum(weights), jax.random.uniform(key, (3, config.triples)))
    drawn = draw(tracks, index.reshape(-1))
    samples = [jax.tree.map(lambda x: x.reshape(index.shape)[i], drawn) for i in range(3)]
    points = tuple(point_of(sample) for sample in samples)
    pose, solved = p3p(tuple(sample.ray for sample in samples), points)
    for sample in samples:
        solved = solved & (sample.usable & (sample.depth_weight > 0))[None]
    near = sum(jnp.abs(x) for x in pose.centre) < FURTHEST
    return _flat(pose, solved & near)


def best_triples(tracks: Tracks, key: jax.Array, config: HypothesisConfig) -> Hypotheses:
    """Those solutions of three matches that a few others find best."""
    triples = of_triples(tracks, key, config)
    few = representatives(tracks, config.first_sample)
    return best(triples, scores(triples, few, config.threshold), config.first_best)[0]


def of_other_focal_lengths(
    tracks: Tracks, key: jax.Array, config: HypothesisConfig
) -> tuple[Array, Hypotheses]:
    """The one of FOCAL_FACTORS under which solutions of three matches score best, and the best one.

    The query's focal length is that factor times the given one.
    """

    def one(factor):
        other = with_focal_factor(tracks, factor)
        sample = representatives(other, config.sample)
        hypotheses = best_triples(other, key, config)
        chosen, score = best(hypotheses, scores(hypotheses, sample, config.threshold), 1)
        return chosen, score[0]

    hypotheses, score = jax.lax.map(one, jnp.array(FOCAL_FACTORS))
    winner = jnp.argmin(score)
    return jnp.array(FOCAL_FACTORS)[winner], jax.tree.map(lambda x: x[winner], hypotheses)


def with_focal_factor(tracks: Tracks, factor: Array) -> Tracks:
    """The tracks, were the query's focal length `factor` times the given one."""
    shrink = jnp.stack([1 / factor, 1 / factor, jnp.ones(())])
    return tracks._replace(rays=tracks.rays * shrink[None])


def point_of(sample: Sample) -> lanes.Vector:
    """The world point of each match at its known depth."""
    depth = 1 / jnp.maximum(sample.inverse_depth, 1 / FURTHEST)
    return tuple(c + depth * x for c, x in zip(sample.centre, sample.ray_db, strict=True))


def scores(hypotheses: Hypotheses, sample: Sample, threshold: float) -> Float[Array, "H"]:
    """The mean truncated squared error of the sample, 0 to 1, lower is better.

    The error of a match is made of the distance of its database side to the epipolar line of the
    query cell, since that is exact, and of the distance of its inverse depth to the known one. Each
    alone would agree with wrong poses by chance.
    """
    rows = tuple(
        tuple(hypotheses.rotation[:, i, j, None] for j in range(3)) for i in range(3)
    )
    wide = jax.tree.map(lambda x: x[None], sample)
    ray = lanes.transform(rows, wide.ray)
    offset = tuple(
        hypotheses.centre[:, i, None] - wide.centre[i] for i in range(3)
    )
    line = lanes.cross(offset, ray)  # world axes
    columns = tuple(zip(*wide.axes))
    size = lanes.dot(columns[0], line) ** 2 + lanes.dot(columns[1], line) ** 2
    distance = lanes.dot(wide.ray_db, line) ** 2 / (size + lanes.TINY)
    # c + l R x = c_n + m y: with n = y x R x, m = line . n / |n|^2, l = (offset x y) . n / |n|^2.
    normal = lanes.cross(wide.ray_db, ray)
    along_db = lanes.dot(line, normal)
    along_query = lanes.dot(lanes.cross(offset, wide.ray_db), normal)
    squared = lanes.dot(normal, normal)
    parallax = squared / (lanes.dot(ray, ray) * lanes.dot(wide.ray_db, wide.ray_db))
    limit = (threshold * wide.sigma) ** 2
    ahead = ((along_db > 0) & (along_query > 0)) | (parallax < limit)
    error = distance / limit
    inverse_depth = squared / (jnp.maximum(along_db, 0.0) + lanes.TINY)
    depth_error = (wide.depth_weight * (inverse_depth - wide.inverse_depth) / threshold) ** 2
    error = jnp.where(ahead, jnp.minimum(error + depth_error, 1.0), 1.0)
    score = jnp.mean(error, axis=1)
    return jnp.where(hypotheses.usable & jnp.isfinite(score), score, jnp.inf)


def best(hypotheses: Hypotheses, score: Float[Array, "H"], number: int) -> tuple[Hypotheses, Array]:
    """The `number` of lowest score, in order, and their scores."""
    negative, index = jax.lax.top_k(-score, min(number, len(score)))
    return jax.tree.map(lambda x: x[index], hypotheses), -negative


def distinct(
    hypotheses: Hypotheses,
    score: Float[Array, "H"],
    number: int,
    *,
    rotation: float,
    position: float,
) -> tuple[Hypotheses, Array]:
    """The `number` best ones of which none is near another: greedy, in order.

    Args:
      rotation, position: radians, and the tracks' unit; what is closer in both is the same.
    """
    turn = jnp.einsum("aij,bij->ab", hypotheses.rotation, hypotheses.rotation)
    same = (jnp.arccos(jnp.clip((turn - 1) / 2, -1.0, 1.0)) < rotation) & (
        jnp.linalg.norm(hypotheses.centre[:, None] - hypotheses.centre[None], axis=-1) < position
    )

    def pick(left, _):
        chosen = jnp.argmin(left)
        return jnp.where(same[chosen], jnp.inf, left), (chosen, left[chosen])

    _, (index, kept) = jax.lax.scan(pick, score, None, length=min(number, len(score)))
    chosen = jax.tree.map(lambda x: x[index], hypotheses)
    return chosen._replace(usable=chosen.usable & jnp.isfinite(kept)), kept


def concatenate(*parts: Hypotheses) -> Hypotheses:
    return jax.tree.map(lambda *x: jnp.concatenate(x), *parts)


def _flat(pose: CameraPose, usable: Array) -> Hypotheses:
    """One axis of hypotheses from any."""
    rotation = jnp.stack([jnp.stack(row, axis=-1) for row in pose.rotation], axis=-2)
    centre = jnp.stack(pose.centre, axis=-1)
    return Hypotheses(rotation.reshape(-1, 3, 3), centre.reshape(-1, 3), usable.reshape(-1))

"""One pose from all matches: planted scenes, degenerate ones, and what must never happen."""

import dataclasses

import jax
import jax.numpy as jnp
import jaxlie
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxreloc.geometry.absolute_pose import AbsolutePoseConfig, estimate_absolute_pose
from jaxreloc.geometry.relative_pose import RelativePoseConfig
from jaxreloc.geometry.resection.pose_hypotheses import HypothesisConfig
from jaxreloc.geometry.resection.tracks import DepthPrior
from tests.geometry.planted_tracks import FOCAL, Planted, planted, pose_error

SMALL = AbsolutePoseConfig(
    hypotheses=HypothesisConfig(
        pairs=2,
        lengths=8,
        triples=16,
        first_sample=16,
        first_best=8,
        sample=32,
        relative=RelativePoseConfig(hypotheses=32, candidates=4),
    ),
    focal_triples=16,
    candidates=2,
    steps=2,
    candidate_steps=2,
)


def estimate(scene: Planted, config=AbsolutePoseConfig(), **options):
    return estimate_absolute_pose(
        **scene.arguments(**options), key=jax.random.key(0), config=config
    )


def errors(found, scene: Planted) -> tuple[float, float]:
    matrix = np.asarray(found.world_from_query.as_matrix(), np.float64)
    return pose_error(matrix, scene.world_from_query)


def assert_finite(found) -> None:
    for leaf in jax.tree.leaves(found):
        assert np.isfinite(np.asarray(leaf)).all()


@pytest.mark.parametrize("depth", [False, True])
@pytest.mark.parametrize("scene", ["general", "planar", "collinear", "same place"])
def test_half_of_the_matches_wrong(rng, scene, depth):
    scene = planted(rng, scene, noise_px=0.5, outliers=0.5)
    found = estimate(scene, depth=depth)
    position, degrees = errors(found, scene)
    assert bool(found.success)
    assert position < 0.03 and degrees < 0.3
    assert np.mean(np.asarray(found.inliers)[scene.right]) > 0.9
    assert np.mean(np.asarray(found.inliers)[~scene.right]) < 0.1


def test_four_of_five_matches_wrong_where_depth_is_known(rng):
    """Chance alone draws no right hypothesis now and then."""
    scenes = [planted(rng, noise_px=0.5, outliers=0.8) for _ in range(6)]
    found = np.array([errors(estimate(scene, depth=True), scene) for scene in scenes])
    right = (found[:, 0] < 0.03) & (found[:, 1] < 0.3)
    assert right.sum() >= 4


def test_one_neighbour_with_depth(rng):
    scene = planted(rng, noise_px=0.5, outliers=0.3)
    only = np.zeros(scene.right.shape, np.float32)
    only[0] = 1.0
    found = estimate(scene, depth=True, weights=only)
    position, degrees = errors(found, scene)
    assert bool(found.success)
    assert position < 0.05 and degrees < 0.5


def test_one_neighbour_without_depth_does_not_determine_the_length(rng):
    scene = planted(rng, noise_px=0.5)
    only = np.zeros(scene.right.shape, np.float32)
    only[0] = 1.0
    found = estimate(scene, weights=only)
    assert_finite(found)
    assert not bool(found.success)


def test_a_given_pose_is_one_more_hypothesis(rng):
    scene = planted(rng, noise_px=0.5, outliers=0.93)
    given = jaxlie.SE3.from_matrix(jnp.asarray(scene.world_from_query[None], jnp.float32))
    found = estimate_absolute_pose(
        **scene.arguments(depth=True), key=jax.random.key(0), given=given
    )
    position, degrees = errors(found, scene)
    assert position < 0.1 and degrees < 1.0


def test_it_moves_with_the_world(rng):
    scene = planted(rng, noise_px=0.5, outliers=0.3)
    move = np.eye(4)
    move[:3, :3] = Rotation.random(rng=rng).as_matrix()
    move[:3, 3] = rng.normal(0, 3, 3)
    moved = dataclasses.replace(scene, world_from_db=move @ scene.world_from_db)
    here = np.asarray(estimate(scene, depth=True).world_from_query.as_matrix(), np.float64)
    there = np.asarray(estimate(moved, depth=True).world_from_query.as_matrix(), np.float64)
    position, degrees = pose_error(there, move @ here)
    assert position < 5e-3 and degrees < 0.05


def test_the_margin_tells_of_a_second_pose(rng):
    """Half of the cells are as they were seen from another place."""
    scene = planted(rng, noise_px=0.5)
    moved = scene.world_from_query.copy()
    moved[:3, :3] = moved[:3, :3] @ Rotation.from_rotvec([0.0, 0.3, 0.0]).as_matrix()
    moved[:3, 3] += rng.normal(0, 0.5, 3)
    rays = np.c_[scene.x_query, np.ones(len(scene.x_query))] / scene.inverse_depth[:, None]
    points = rays @ moved[:3, :3].T + moved[:3, 3]
    db = scene.world_from_db
    in_db = np.einsum("nji,nkj->nki", db[:, :3, :3], points[None] - db[:, None, :3, 3])
    half = rng.random(len(points)) < 0.5
    mixed = dataclasses.replace(
        scene,
        x_db=np.where(half[None, :, None], in_db[..., :2] / in_db[..., 2:], scene.x_db),
        inverse_depth_db=np.where(half[None], 1 / in_db[..., 2], scene.inverse_depth_db),
    )
    # The other place is supposed, as a video's last pose may be.
    given = jaxlie.SE3.from_matrix(jnp.asarray(moved[None], jnp.float32))
    alone, both = (
        estimate_absolute_pose(**x.arguments(depth=True), key=jax.random.key(0), given=given)
        for x in (scene, mixed)
    )
    assert float(alone.margin) > 0.5
    assert float(both.margin) < 0.3


@pytest.mark.parametrize("factor", [0.5, 2.0, 1.0])
def test_a_wrong_focal_length_is_told(rng, factor):
    """`factor` times the given focal length is the right one."""
    scene = planted(rng, noise_px=0.5, outliers=0.3)
    found = estimate(dataclasses.replace(scene, x_query=factor * scene.x_query), depth=True)
    assert float(found.focal_factor) == pytest.approx(factor)
    if factor == 1.0:
        assert -1 <= float(found.focal_gain) < -0.01
    else:
        assert float(found.focal_gain) > 0.2


def bad_inputs(rng):
    """Arguments that determine nothing, or are no numbers."""
    scene = planted(rng)
    arguments = scene.arguments(depth=True)
    count, cells = scene.right.shape
    same = np.tile(scene.world_from_db[:1], (count, 1, 1))
    line = np.stack([np.linspace(-0.4, 0.4, cells), np.zeros(cells)], axis=-1)
    return {
        "all neighbours at one point": arguments
        | {"world_from_db": jaxlie.SE3.from_matrix(jnp.asarray(same, jnp.float32))},
        "matches on a line": arguments
        | {
            "x_query": jnp.asarray(line, jnp.float32),
            "x_db": jnp.asarray(np.tile(line, (count, 1, 1)), jnp.float32),
        },
        "no match": arguments | {"weights": jnp.zeros((count, cells))},
        "not a number": arguments | {"x_db": jnp.full((count, cells, 2), jnp.nan)},
        "infinite rays": arguments | {"x_query": jnp.full((cells, 2), jnp.inf)},
        "weights that are no numbers": arguments | {"weights": jnp.full((count, cells), jnp.nan)},
        "an infinite pose": arguments
        | {"world_from_db": jaxlie.SE3(arguments["world_from_db"].wxyz_xyz.at[0].set(jnp.inf))},
        "everything in one place": arguments
        | {"x_query": jnp.zeros((cells, 2)), "x_db": jnp.zeros((count, cells, 2))},
    }


@pytest.mark.parametrize("name", list(bad_inputs(np.random.default_rng(0))))
def test_bad_input_gives_a_flag(rng, name):
    # Of the types of the other scenes' arguments, so that it is compiled already.
    arguments = jax.tree.map(
        lambda x: jnp.asarray(np.asarray(x, np.float32)), bad_inputs(rng)[name]
    )
    found = estimate_absolute_pose(**arguments, key=jax.random.key(0))
    assert_finite(found)
    assert 0 <= float(found.support) <= 1
    np.testing.assert_allclose(np.linalg.norm(found.world_from_query.wxyz_xyz[:4]), 1, atol=1e-4)
    if name in ("no match", "not a number", "infinite rays", "weights that are no numbers"):
        assert not bool(found.success)


@pytest.mark.parametrize("value", [0.0, np.inf, np.nan, -1.0])
def test_a_depth_that_is_none_is_no_evidence(rng, value):
    scene = planted(rng, noise_px=0.5, outliers=0.2)
    arguments = scene.arguments(depth=True)
    spoilt = rng.random(scene.right.shape) < 0.5
    depth = DepthPrior(
        jnp.where(spoilt, value, arguments["depth"].inverse_depth), arguments["depth"].weight
    )
    found = estimate_absolute_pose(**arguments | {"depth": depth}, key=jax.random.key(0))
    assert_finite(found)
    position, degrees = errors(found, scene)
    assert position < 0.03 and degrees < 0.3


@pytest.mark.slow
def test_a_million_random_inputs_give_no_nan(rng):
    count, cells, neighbors = 1000, 16, 3
    solve = jax.jit(
        jax.vmap(
            lambda poses, x_query, x_db, weights, depth, key: estimate_absolute_pose(
                jaxlie.SE3(poses), x_query, x_db, weights,
                sigma=jnp.full(neighbors, 1 / FOCAL), depth=depth, key=key, config=SMALL,
            )
        )
    )
    for _ in range(1000):
        scale = np.exp(rng.normal(0, 6, (count, 1, 1)))
        poses = rng.normal(size=(count, neighbors, 7)) * np.r_[np.ones(4), np.ones(3)]
        poses[..., 4:] *= scale
        poses[..., :4] /= np.linalg.norm(poses[..., :4], axis=-1, keepdims=True)
        x = [rng.normal(0, np.exp(rng.normal(-1, 2)), (count, *shape)) for shape in
             ((cells, 2), (neighbors, cells, 2))]
        weights = np.maximum(rng.normal(0.3, 0.5, (count, neighbors, cells)), 0)
        depth = np.exp(rng.normal(0, 4, (2, count, neighbors, cells)))
        for values in (*x, weights, *depth):
            values[rng.random(values.shape) < 1e-3] = rng.choice([np.nan, np.inf, 0.0, -1.0])
        found = solve(
            *(jnp.asarray(a, jnp.float32) for a in (poses, *x, weights)),
            DepthPrior(*(jnp.asarray(a, jnp.float32) for a in depth)),
            jax.random.split(jax.random.key(0), count),
        )
        assert_finite(found)

"""Depth of a map's cells: of planted scenes, on disk, and from a depth camera."""

import dataclasses
import functools
import io

import jax.numpy as jnp
import numpy as np
import pytest

from jaxreloc.localization import all_matches
from jaxreloc.localization.map import map_depth
from jaxreloc.localization.map.encoding import (
    CellDepth,
    decode_depth,
    encode_depth,
    encode_frames,
)
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.models.matching.rays import RayTracks
from jaxreloc.progress_bars import progress_bar
from tests.geometry.planted_tracks import FOCAL, planted
from tests.localization.fakes import MatchingOracle, looking_frames


def matches_of(scene) -> RayTracks:
    count, cells = scene.right.shape
    return RayTracks(
        x_query=jnp.asarray(scene.x_query, jnp.float32),
        x_db=jnp.asarray(scene.x_db, jnp.float32),
        weights=jnp.asarray(scene.right, jnp.float32),
        sigma=jnp.full(count, 1 / FOCAL),
        query_cells=jnp.zeros((cells, 2)),
        db_cells=jnp.zeros((count, cells, 2)),
    )


def quaternion_poses(scene) -> tuple[np.ndarray, np.ndarray]:
    import jaxlie

    def as_poses(x):
        return np.asarray(jaxlie.SE3.from_matrix(jnp.asarray(x, jnp.float32)).wxyz_xyz)
    return as_poses(scene.world_from_db), as_poses(scene.world_from_query)


def test_depths_of_a_planted_scene_lie_within_their_deviations(rng):
    scene = planted(rng, noise_px=1.0, neighbors=6)
    inverse_depth, deviation, unit = map_depth._depths(*quaternion_poses(scene), matches_of(scene))
    known = np.asarray(deviation) > 0
    assert known.mean() > 0.9
    found = np.asarray(inverse_depth)[known] / float(unit)
    off = np.abs(found - scene.inverse_depth[known]) / (np.asarray(deviation)[known] / float(unit))
    assert np.mean(off < 1) > 0.6
    assert np.mean(off < 3) > 0.95


def test_cells_without_a_match_have_no_depth(rng):
    scene = planted(rng, neighbors=4)
    unseen = rng.random(scene.right.shape[1]) < 0.3
    weights = np.where(unseen[None], 0.0, scene.right)
    matches = matches_of(scene).replace(weights=jnp.asarray(weights, jnp.float32))
    _, deviation, _ = map_depth._depths(*quaternion_poses(scene), matches)
    np.testing.assert_array_equal(np.asarray(deviation)[unseen], 0)
    assert np.mean(np.asarray(deviation)[~unseen] > 0) > 0.9


def test_neighbours_in_the_same_place_give_no_depth(rng):
    scene = planted(rng, neighbors=3)
    db = np.tile(scene.world_from_query, (3, 1, 1))
    same = dataclasses.replace(
        scene, world_from_db=db, x_db=np.tile(scene.x_query[None], (3, 1, 1))
    )
    inverse_depth, deviation, unit = map_depth._depths(*quaternion_poses(same), matches_of(same))
    assert np.isfinite(np.asarray(inverse_depth)).all() and float(unit) > 0
    np.testing.assert_array_equal(np.asarray(deviation), 0)


def test_a_bar_shows_how_many_images_have_depths(monkeypatch, rng):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", terminal)
    frames, network = looking_frames(rng, 6), MatchingOracle(rng)
    scene_map = SceneMap.from_images(network, encode_frames(frames, network))
    shown = functools.partial(progress_bar, what="depths", total=len(frames))
    assert len(map_depth.with_depth(scene_map, shown).depth.codes) == len(frames)
    assert "depths:   0%" in terminal.getvalue() and "0/6" in terminal.getvalue()


def test_depth_is_kept_to_three_thousandths_in_any_unit(rng):
    inverse = np.exp(rng.uniform(np.log(1e-5), np.log(1e3), (4, 7, 9)))
    deviation = inverse * np.exp(rng.uniform(np.log(0.01), np.log(0.5), inverse.shape))
    unknown = rng.random(inverse.shape) < 0.2
    inverse[unknown] = deviation[unknown] = 0
    for scale in (1e-4, 1.0, 1e5):
        depth = CellDepth(encode_depth(inverse, deviation), np.full(4, scale, np.float32))
        rows = np.array([2, 0])
        found = depth.take(rows) * scale
        np.testing.assert_allclose(found[..., 0], inverse[rows], rtol=0.003)
        np.testing.assert_allclose(found[..., 1], deviation[rows], rtol=0.145)
        np.testing.assert_array_equal(found[unknown[rows]], 0)


def test_what_lies_beyond_the_bounds_of_depth_is_brought_to_them():
    codes = encode_depth(np.array([1e-9, 1e9, -1.0, 1.0, 1.0]), np.array([1.0, 1, 1, 1e-5, 9.0]))
    inverse, deviation = np.moveaxis(decode_depth(codes[None]), -1, 0)
    np.testing.assert_allclose(inverse[0], [1e-6, 1e4, 0, 1, 1], rtol=0.003)
    np.testing.assert_allclose(deviation[0], [5e-7, 100, 0, 0.01, 0.5], rtol=0.003)


def test_depth_of_an_earlier_version_is_taken_beside_new_one(rng):
    earlier = rng.uniform(0.1, 3, (2, 3, 2)).astype(np.float16)
    now = encode_depth(np.float32(earlier[..., 0]), 0.1 * np.float32(earlier[..., 0]))
    found = CellDepth([earlier, now], np.float32([2.0, 2.0])).take(np.array([0, 1]))
    np.testing.assert_allclose(found[0], np.float32(earlier) / 2, rtol=1e-6)
    np.testing.assert_allclose(found[1, ..., 0], found[0, ..., 0], rtol=0.003)


def test_the_prior_of_a_match_is_that_of_its_cell(rng):
    depth = rng.uniform(0.1, 1.0, (2, 4, 5, 2)).astype(np.float32)
    depth[0, 1, 2] = 0  # unknown
    cells = np.array([[[2.2, 0.9], [4.4, 3.4]], [[0.4, 0.4], [9.0, -2.0]]])
    matches = RayTracks(
        x_query=jnp.zeros((2, 2)), x_db=jnp.zeros((2, 2, 2)), weights=jnp.ones((2, 2)),
        sigma=jnp.ones(2), query_cells=jnp.zeros((2, 2)), db_cells=jnp.asarray(cells),
    )
    prior = all_matches.depth_prior(matches, jnp.asarray(depth))
    assert float(prior.weight[0, 0]) == 0
    for place, cell in (((0, 1), (0, 3, 4)), ((1, 0), (1, 0, 0)), ((1, 1), (1, 0, 4))):
        assert float(prior.inverse_depth[place]) == pytest.approx(depth[cell][0])
        assert float(prior.weight[place]) == pytest.approx(1 / depth[cell][1], rel=1e-5)

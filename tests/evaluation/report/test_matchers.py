import dataclasses

import cv2
import numpy as np
import pytest

from jaxreloc.evaluation.report.content import PairMatches
from jaxreloc.evaluation.report.matchers import (
    SiftMatcher,
    agreeing,
    matches_as_given,
    network_matcher,
    to_pixels,
)
from jaxreloc.localization.clock import StageClock
from jaxreloc.localization.map.encoding import encode_frames
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.query_state import Localization
from tests.localization.fakes import MatchingOracle, OracleNetwork, looking_frames


def answer(world_from_query, neighbors, **fields):
    return Localization(
        world_from_query=world_from_query,
        success=True,
        confidence=1.0,
        location_inliers=np.ones(len(neighbors), bool),
        rotation_inliers=np.ones(len(neighbors), bool),
        position_covariance=np.eye(3),
        rotation_std=0.1,
        neighbors=np.array(neighbors),
        stage_ms=StageClock().stage_ms,
        **fields,
    )


K = np.array([[300.0, 0, 159.5], [0, 310.0, 119.5], [0, 0, 1]])


def test_pixels_of_the_normalised_plane(rng):
    points = rng.normal(size=(20, 3)) + [0, 0, 5]
    expected, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), K, None)
    found = to_pixels(points[:, :2] / points[:, 2:], K)
    np.testing.assert_allclose(found, expected[:, 0], atol=1e-6)


def test_sift_finds_a_shifted_picture_where_it_is(rng):
    coarse = rng.integers(0, 256, (40, 50), np.uint8)
    texture = cv2.resize(coarse, (500, 400), interpolation=cv2.INTER_CUBIC)
    texture = np.repeat(texture[..., None], 3, axis=2)
    views = [texture[60:300, 60:380], texture[80:320, 90:410], np.zeros((240, 320, 3), np.uint8)]
    matcher = SiftMatcher(views[1:], np.stack([K, K]))
    shifted, blank = matcher(views[0], K, answer(np.eye(4), [0, 1]))
    assert len(shifted.query_px) > 20 and len(blank.query_px) == 0
    offset = np.median(shifted.query_px - shifted.db_px, axis=0)
    np.testing.assert_allclose(offset, [30, 20], atol=0.5)
    assert shifted.inliers.shape == (len(shifted.query_px),)


def test_any_network_that_matches_is_drawn(rng):
    """The inliers of planted matches lie where the answer says, the wrong ones not."""
    frames, query = looking_frames(rng, 4), looking_frames(rng, 1)
    network = MatchingOracle(rng, wrong=0.2)
    scene_map = SceneMap.from_images(network, encode_frames(frames, network))
    matcher = network_matcher(scene_map)
    intrinsics = query.intrinsics[0]
    right = answer(query.world_from_cam[0], [2, 0])
    found = matcher(query.images[0], intrinsics, right)
    refused = matcher(query.images[0], intrinsics, dataclasses.replace(right, success=False))
    assert not any(pair.inliers.any() for pair in refused)
    for neighbor, pair in zip([2, 0], found, strict=True):
        db_from_query = np.linalg.inv(frames.world_from_cam[neighbor]) @ query.world_from_cam[0]
        r, t = db_from_query[:3, :3], db_from_query[:3, 3]
        cross = np.array([[0, -t[2], t[1]], [t[2], 0, -t[0]], [-t[1], t[0], 0]])
        rays = [
            np.c_[px, np.ones(len(px))] @ np.linalg.inv(intrinsics).T
            for px in (pair.query_px, pair.db_px)
        ]
        lines = rays[0] @ (cross @ r).T
        off = np.abs((lines * rays[1]).sum(axis=1)) / np.linalg.norm(lines[:, :2], axis=1)
        assert pair.inliers.mean() > 0.6
        assert np.quantile(off[pair.inliers], 0.9) < 5 / MatchingOracle.FOCAL
        assert np.median(off[~pair.inliers]) > 5 / MatchingOracle.FOCAL


@pytest.mark.parametrize("quarter_turns", [0, 1, 2, 3])
def test_matches_of_a_turned_picture_lie_on_the_picture_as_given(rng, quarter_turns):
    """A bright pixel lies where the given picture has it; the pose is that of the turned camera."""
    given_px = rng.integers(0, [320, 240], 2)
    image = np.zeros((240, 320, 3), np.uint8)
    image[given_px[1], given_px[0]] = 255
    forward = [0.0, 0.0, 1.0]
    world_from_query = np.eye(4)
    world_from_query[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0]

    def bright_pixel(turned, intrinsics, found):
        row, column = np.argwhere(turned[..., 0])[0]
        rotation = np.linalg.inv(world_from_query[:3, :3]) @ found.world_from_query[:3, :3]
        np.testing.assert_allclose(rotation @ forward, forward, atol=1e-12)
        ray = rotation @ np.linalg.inv(intrinsics) @ [column, row, 1.0]
        np.testing.assert_allclose(K @ ray / ray[2], [*given_px, 1], atol=1e-9)
        px = np.array([[column, row]], float)
        return (PairMatches(query_px=px, db_px=px, inliers=np.ones(1, bool)),)

    found = answer(world_from_query, [0], turn_deg=90 * quarter_turns)
    (pair,) = matches_as_given(bright_pixel, image, K, found)
    np.testing.assert_allclose(pair.query_px, [given_px], atol=1e-9)


def test_an_answer_in_context_is_drawn_by_its_matches(rng):
    class InContext(MatchingOracle):
        def match_tracks_in_context(self, *arguments):
            return MatchingOracle(self._rng, wrong=0.0).match_tracks(*arguments, None)

    frames, query = looking_frames(rng, 4), looking_frames(rng, 1)
    network = InContext(rng, wrong=1.0)
    matcher = network_matcher(SceneMap.from_images(network, encode_frames(frames, network)))
    for in_context in (False, True):
        found = answer(query.world_from_cam[0], [2, 0], in_context=in_context)
        pairs = matcher(query.images[0], query.intrinsics[0], found)
        share = np.mean(np.concatenate([pair.inliers for pair in pairs]))
        assert share > 0.95 if in_context else share < 0.3


def test_matches_agree_up_to_three_deviations_across_the_epipolar_lines(rng):
    """Of a sideways motion, whose epipolar lines are level: half of the height goes to each."""
    db_from_query = np.eye(4)
    db_from_query[0, 3] = -1.0
    x_query = rng.uniform(-0.5, 0.5, (200, 2))
    x_db = x_query - np.array([0.2, 0.0])
    x_db[:, 1] += rng.uniform(-0.1, 0.1, 200)
    off = np.abs(x_db[:, 1] - x_query[:, 1]) / np.sqrt(2)
    found = agreeing(db_from_query, x_query, x_db, 0.01)
    clear = np.abs(off - 0.03) > 1e-9
    np.testing.assert_array_equal(found[clear], (off < 0.03)[clear])
    assert 0 < found.sum() < 200


def test_a_network_that_matches_nothing_is_not_asked(rng):
    frames, network = looking_frames(rng, 3), OracleNetwork()
    assert network_matcher(SceneMap.from_images(network, encode_frames(frames, network))) is None

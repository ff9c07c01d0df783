import cv2
import numpy as np

from jaxreloc.evaluation.report.matchers import SiftMatcher, network_matcher, to_pixels
from jaxreloc.localization.map.encoding import encode_frames
from jaxreloc.localization.map.scene_map import SceneMap
from tests.localization.fakes import MatchingOracle, OracleNetwork, looking_frames

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
    shifted, blank = matcher(views[0], K, np.array([0, 1]), None)
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
    found = matcher(query.images[0], intrinsics, np.array([2, 0]), query.world_from_cam[0])
    refused = matcher(query.images[0], intrinsics, np.array([2, 0]), None)
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


def test_a_network_that_matches_nothing_is_not_asked(rng):
    frames, network = looking_frames(rng, 3), OracleNetwork()
    assert network_matcher(SceneMap.from_images(network, encode_frames(frames, network))) is None

import copy
import dataclasses

import numpy as np
import pytest

from jaxreloc.evaluation.report.content import PairMatches
from jaxreloc.evaluation.report.recorder import THUMBNAIL_SIDE, SceneRecorder
from jaxreloc.images import decode_image, image_size
from jaxreloc.localization.clock import StageClock
from jaxreloc.localization.query_state import Localization
from tests.evaluation.report import planted

K = np.array([[600.0, 0, 399.5], [0, 600.0, 299.5], [0, 0, 1]])


def localization(rng, neighbors, success=True) -> Localization:
    pose = np.eye(4)
    pose[:3, 3] = rng.normal(size=3)
    return Localization(
        world_from_query=pose,
        success=success,
        confidence=0.5,
        location_inliers=rng.random(len(neighbors)) < 0.5,
        rotation_inliers=np.ones(len(neighbors), bool),
        position_covariance=np.diag([0.01, 0.04, 0.09]),
        rotation_std=0.1,
        neighbors=np.array(neighbors),
        stage_ms=StageClock().stage_ms,
    )


class CountingMatcher:
    name = "counting"

    def __init__(self):
        self.asked = []

    def __call__(self, image, intrinsics, found):
        self.asked.append(tuple(found.neighbors))
        point = np.zeros((1, 2))
        return tuple(PairMatches(point, point + i, np.array([True])) for i in found.neighbors)


def recorder(rng, tmp_path, matcher=None, max_pictured=4):
    database = planted.cameras(rng, 6, "db")
    path = tmp_path / "thumbnail.jpg"
    path.write_bytes(planted.jpeg(rng))
    pictures = [rng.integers(0, 256, (60, 80, 3), np.uint8), planted.jpeg(rng), path] * 2
    return SceneRecorder(
        "room",
        database,
        pictures,
        methods={"network": "network"},
        matcher=matcher,
        max_pictured=max_pictured,
    )


@pytest.mark.parametrize("num_queries", [1, 4, 5, 9, 33])
def test_all_queries_are_kept_and_some_evenly_pictured(rng, tmp_path, num_queries):
    taken = recorder(rng, tmp_path)
    image = rng.integers(0, 256, (600, 800, 3), np.uint8)
    poses = []
    for i in range(num_queries):
        found = localization(rng, [i % 6, 3], success=i % 3 > 0)
        poses.append(found.world_from_query)
        taken.add(f"{i}.png", image, K, {"network": found}, truth=found.world_from_query)
    content = taken.content()
    assert content.queries.names == tuple(f"{i}.png" for i in range(num_queries))
    np.testing.assert_array_equal(content.queries.world_from_cam, poses)
    np.testing.assert_array_equal(content.queries.image_sizes, [[800, 600]] * num_queries)
    np.testing.assert_array_equal(
        content.estimates["network"].success, np.arange(num_queries) % 3 > 0
    )
    np.testing.assert_allclose(content.estimates["network"].position_std, 0.3)
    pictured = sorted(content.pictures)
    assert min(num_queries, 2) < len(pictured) + 1 and len(pictured) <= 4
    assert pictured[0] == 0 and len(set(np.diff(pictured))) <= 1
    assert set(content.db_thumbnails) == {j for i in pictured for j in (i % 6, 3)}


def test_pictures_are_small_jpegs_and_ready_ones_are_taken_as_they_are(rng, tmp_path):
    taken = recorder(rng, tmp_path)
    image = np.full((600, 800, 3), (200, 100, 50), np.uint8)
    taken.add("a.png", image, K, {"network": localization(rng, [0, 1, 2])})
    content = taken.content()
    thumbnail = decode_image(content.pictures[0].thumbnail, "thumbnail")
    assert thumbnail.shape == (THUMBNAIL_SIDE * 3 // 4, THUMBNAIL_SIDE, 3)
    np.testing.assert_allclose(thumbnail.mean(axis=(0, 1)), [200, 100, 50], atol=3)
    assert image_size(content.db_thumbnails[0]) == (80, 60)
    assert image_size(content.db_thumbnails[1]) == planted.SIZE
    assert content.db_thumbnails[2] == (tmp_path / "thumbnail.jpg").read_bytes()
    assert content.queries.world_from_cam is None


def test_the_matcher_is_asked_for_the_pictured_only(rng, tmp_path):
    matcher = CountingMatcher()
    taken = recorder(rng, tmp_path, matcher, max_pictured=2)
    image = np.zeros((600, 800, 3), np.uint8)
    for i in range(9):
        taken.add(f"{i}", image, K, {"network": localization(rng, [i % 6, 5])})
    content = taken.content()
    assert sorted(content.pictures) == [0, 8] and content.matched_by == "counting"
    assert matcher.asked == [(0, 5), (1, 5), (2, 5), (4, 5), (2, 5)]
    pairs = content.pictures[8].matches
    assert [pair.db_px[0, 0] for pair in pairs] == [2, 5]


def test_matches_of_a_turned_picture_are_drawn_where_the_given_one_has_them(rng, tmp_path):
    image = np.zeros((600, 800, 3), np.uint8)
    image[50, 700] = 255

    class BrightPixel(CountingMatcher):
        def __call__(self, image, intrinsics, found):
            y, x = np.argwhere(image[:, :, 0])[0]
            at = np.array([[x, y]], float)
            self.seen_at = found.world_from_query[:3, :3] @ np.linalg.inv(intrinsics) @ [x, y, 1]
            return tuple(PairMatches(at, at, np.array([True])) for _ in found.neighbors)

    for turn_deg in (0, 90, 180, 270):
        matcher = BrightPixel()
        taken = recorder(rng, tmp_path, matcher)
        found = dataclasses.replace(localization(rng, [4]), turn_deg=turn_deg, success=True)
        taken.add("a", image, K, {"network": found})
        seen_at = found.world_from_query[:3, :3] @ np.linalg.inv(K) @ [700, 50, 1]
        np.testing.assert_allclose(matcher.seen_at, seen_at, atol=1e-9)
        (pair,) = taken.content().pictures[0].matches
        np.testing.assert_allclose(pair.query_px, [[700, 50]], atol=1e-9)
        assert (pair.db_px[0] == [700, 50]).all() == (turn_deg == 0)


def test_the_agreeing_ones_are_of_the_images_that_are_shown(rng, tmp_path):
    """A method may have retrieved others than the method whose neighbours are shown."""
    taken = recorder(rng, tmp_path)
    inliers = np.array([True, False, True])
    found = dataclasses.replace(localization(rng, [5, 1, 2]), location_inliers=inliers)
    shown = localization(rng, [1, 2, 3])
    taken.add("a", np.zeros((8, 8, 3), np.uint8), K, {"nearest": shown, "network": found})
    content = taken.content()
    assert content.pictures[0].neighbors == (1, 2, 3)
    np.testing.assert_array_equal(content.estimates["network"].agreeing[0], [False, True, False])


def test_cameras_of_the_database_are_passed_on(rng):
    database = planted.cameras(rng, 6, "db")
    given = copy.deepcopy(database)
    taken = SceneRecorder(
        "room", database, [planted.jpeg(rng)] * 6, methods={"network": "ours"}, matcher=None
    )
    taken.add("a", np.zeros((8, 8, 3), np.uint8), K, {"network": localization(rng, [0])})
    content = taken.content()
    assert (content.name, content.matched_by) == ("room", "")
    assert content.estimates["network"].title == "ours"
    assert content.database.names == tuple(f"db/{i:03d}.png" for i in range(6))
    for name in ("world_from_cam", "intrinsics", "image_sizes"):
        np.testing.assert_array_equal(getattr(content.database, name), getattr(given, name))
    np.testing.assert_array_equal(content.queries.intrinsics, [K])

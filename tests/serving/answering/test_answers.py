"""Answers as plain data: what they say is what the map and the localizer know."""

import dataclasses
import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxreloc.images import encode_jpeg
from jaxreloc.localization.map.encoding import CellDepth, encode_depth, encode_frames
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.serving.answering import answers
from jaxreloc.serving.answering.map_shelf import OpenMap
from jaxreloc.serving.uploads import Upload
from tests.evaluation.report.test_matchers import answer
from tests.localization.fakes import MatchingOracle, OracleNetwork, looking_frames, oracle_frames
from tests.serving import toy_maps

COUNT = 7
K = np.array([[30.0, 0, 15.5], [0, 31, 11.5], [0, 0, 1]])
ROWS, COLUMNS = MatchingOracle.GRID


def open_map(scene_map, num_bytes=0) -> OpenMap:
    return OpenMap("attic", toy_maps.ToyLocalizer(scene_map), generation=0, num_bytes=num_bytes)


@pytest.fixture
def frames(rng):
    return looking_frames(rng, COUNT)


@pytest.fixture
def plain(frames):
    """A map of a network that matches nothing."""
    network = OracleNetwork()
    return SceneMap.from_images(network, encode_frames(frames, network))


@pytest.fixture
def deep(rng, frames):
    """A map with depths; the pictures' left half is red, their right half is blue.

    Returns:
      The map, and the inverse depth and its relative deviation for each cell.
    """
    network = MatchingOracle(rng)
    encoded = encode_frames(frames, network)
    inverse = rng.uniform(0.2, 2.0, (COUNT, ROWS, COLUMNS)) * (rng.random((ROWS, COLUMNS)) < 0.8)
    relative = np.where(rng.random(inverse.shape) < 0.5, 0.03, 0.3)
    depth = CellDepth(encode_depth(inverse, relative * inverse), np.full(COUNT, 4.0, np.float32))
    halves = np.zeros((ROWS, COLUMNS, 3), np.uint8)
    halves[:, : COLUMNS // 2, 0] = halves[:, COLUMNS // 2 :, 2] = 255
    pictures = [encode_jpeg(halves, 100)] * COUNT
    encoded = dataclasses.replace(encoded, depth=depth, pictures=pictures)
    return SceneMap.from_images(network, encoded), inverse / 4, relative


def test_an_answer_has_its_neighbours_most_similar_first(plain):
    pose = np.eye(4)
    pose[:3, 3] = 1, 2, 3
    found = dataclasses.replace(
        answer(pose, [4, 0, 2]),
        location_inliers=np.array([True, False, True]),
        covariance=np.diag([1.0, 2, 3, 4, 5, 6]),
        confidence=0.75,
        stage_ms={"prepare": 1.0, "relate": 2.5},
    )
    said = answers.localization(open_map(plain), "q.jpg", found, None)
    assert json.loads(json.dumps(said)) == said
    assert said["neighbors"] == [
        {"image": "004.png", "agrees": True},
        {"image": "000.png", "agrees": False},
        {"image": "002.png", "agrees": True},
    ]
    expected = {"name": "q.jpg", "map": "attic", "success": True, "confidence": 0.75}
    expected |= {"num_inliers": 2, "num_neighbors": 3, "total_ms": 3.5}
    expected |= {"world_from_cam": pose.tolist()}
    assert {name: said[name] for name in expected} == expected
    matches = [{"num": 3}, {"num": 0}, {"num": 7}]
    with_matches = answers.localization(open_map(plain), "q.jpg", found, matches)
    assert with_matches["neighbors"] == [
        neighbor | {"matches": one}
        for neighbor, one in zip(said["neighbors"], matches, strict=True)
    ]


def test_of_a_refused_picture_no_neighbour_agrees(plain):
    found = dataclasses.replace(answer(np.eye(4), [1, 5]), success=False, reason="too few")
    said = answers.localization(open_map(plain), "q.jpg", found, None)
    assert said["success"] is False and said["reason"] == "too few"
    assert "world_from_cam" not in said
    assert [x["agrees"] for x in said["neighbors"]] == [False, False]
    assert [x["image"] for x in said["neighbors"]] == ["001.png", "005.png"]


@pytest.mark.parametrize("success, scale", [(True, 1.5), (False, 1.0)])
def test_the_camera_has_the_focal_length_that_was_found(success, scale):
    upload = Upload(np.zeros((24, 32, 3), np.uint8), K, 0.5, "map")
    given = {"cx": 15.5, "cy": 11.5, "width": 32, "height": 24, "source": "map"}
    found = dataclasses.replace(answer(np.eye(4), [0], focal_px=45.0), success=success)
    assert answers.camera(upload, found) == given | {"fx": 30 * scale, "fy": 31 * scale}
    assert answers.camera(upload, answer(np.eye(4), [0])) == given | {"fx": 30.0, "fy": 31.0}


def test_a_map_in_short(plain, deep, frames):
    centres = frames.world_from_cam[:, :3, 3]
    for scene_map, has_depth in ((plain, False), (deep[0], True)):
        said = answers.described(open_map(scene_map, num_bytes=12_345_678))
        assert json.loads(json.dumps(said)) == said
        np.testing.assert_allclose(said.pop("centre"), np.median(centres, axis=0), rtol=1e-5)
        extent = centres.max(axis=0) - centres.min(axis=0)
        np.testing.assert_allclose(said.pop("extent"), extent, rtol=1e-5)
        expected = {"name": "attic", "images": COUNT, "megabytes": 12.3}
        assert said == expected | {"has_depth": has_depth, "matches_images": has_depth}


def test_numbers_have_six_digits():
    values = np.array([[123456.789, -0.00123456789], [0.0, 1 / 3]])
    assert answers._numbers(values) == [[123457.0, -0.00123457], [0.0, 0.333333]]
    assert answers._numbers(np.zeros((0, 3))) == []


def test_cameras_are_shown_as_they_stood(plain, frames, monkeypatch):
    said = answers.cameras(plain)
    assert json.loads(json.dumps(said)) == said
    assert said["names"] == list(frames.names)
    poses = np.reshape(said["poses"], (COUNT, 3, 4))
    np.testing.assert_allclose(poses, frames.world_from_cam[:, :3], rtol=1e-5, atol=1e-9)
    for name, tangents in zip(frames.names, said["tangents"], strict=True):
        row = frames.names.index(name)
        width, height = frames.image_sizes[row]
        corners = np.array([[-0.5, -0.5, 1], [width - 0.5, height - 0.5, 1]]).T
        first, last = (np.linalg.inv(frames.intrinsics[row]) @ corners)[:2].T
        np.testing.assert_allclose(tangents, [*first, *last], rtol=1e-5)
    up = np.array(said["upright_from_world"]) @ -frames.world_from_cam[:, :3, 1].mean(axis=0)
    np.testing.assert_allclose(up[:2], 0, atol=1e-4)
    assert up[2] > 0 and said["points"] == said["colors"] == []
    monkeypatch.setattr(answers, "MAX_CAMERAS", 3)
    assert answers.cameras(plain)["names"] == ["000.png", "003.png", "006.png"]


def test_points_project_to_their_cells_at_their_depth(deep, frames):
    """Each point is that of a cell whose depth is known to a tenth, and has the cell's colour."""
    scene_map, inverse, relative = deep
    points, colors = answers.depth_points(scene_map)
    known = (inverse > 0) & (relative < 0.1)
    assert len(points) == len(colors) == known.sum()
    cells = {}  # of each image and cell, the number of the point that lies there at its depth
    for row in range(COUNT):
        cam_from_world = np.linalg.inv(frames.world_from_cam[row])
        in_camera = points @ cam_from_world[:3, :3].T + cam_from_world[:3, 3]
        at = in_camera @ scene_map.network_intrinsics[row].T.astype(np.float64)
        with np.errstate(all="ignore"):
            pixels = at[:, :2] / at[:, 2:]
        nearest = np.rint(np.nan_to_num(pixels, nan=-9)).clip(-9, 99).astype(int)
        x, y = nearest.clip(0, [COLUMNS - 1, ROWS - 1]).T
        fits = (np.abs(pixels - np.stack([x, y], axis=1)) < 1e-4).all(axis=1) & known[row, y, x]
        fits &= np.abs(in_camera[:, 2] * inverse[row, y, x] - 1) < 0.01  # depths in few bits
        for number in np.flatnonzero(fits):
            cells[row, y[number], x[number]] = number
    assert len(set(cells.values())) == len(cells) == known.sum()
    for (_, _, column), number in cells.items():
        expected = [255, 0, 0] if column < COLUMNS // 2 else [0, 0, 255]
        if column not in (COLUMNS // 2 - 1, COLUMNS // 2):  # JPEG mixes them at the edge
            np.testing.assert_allclose(colors[number], expected, atol=30)


def test_many_points_are_thinned_out(deep, monkeypatch):
    scene_map, *_ = deep
    points, colors = answers.depth_points(scene_map)
    monkeypatch.setattr(answers, "MAX_POINTS", 50)
    some, some_colors = answers.depth_points(scene_map)
    where = {tuple(x): i for i, x in enumerate(points)}
    rows = [where[tuple(x)] for x in some]
    assert len(set(rows)) == 50
    np.testing.assert_array_equal(some_colors, colors[rows])
    monkeypatch.setattr(answers, "POINT_IMAGES", 1)
    said = answers.cameras(scene_map)
    assert 0 < len(said["points"]) == len(said["colors"]) <= 50


def test_a_tilted_world_is_turned_upright(rng):
    """The cameras stand upright, each turned about the vertical, in a world that is tilted."""
    frames = oracle_frames(rng, COUNT)
    tilt = Rotation.random(rng=rng).as_matrix()
    poses = np.tile(np.eye(4), (COUNT, 1, 1))
    stood = Rotation.from_matrix([[1, 0, 0], [0, 0, 1], [0, -1, 0]])  # -y of the camera is z
    yaws = Rotation.from_euler("z", rng.uniform(-1, 1, (COUNT, 1)))
    poses[:, :3, :3] = tilt @ (yaws * stood).as_matrix()
    network = OracleNetwork()
    frames = dataclasses.replace(frames, world_from_cam=poses)
    scene_map = SceneMap.from_images(network, encode_frames(frames, network))
    turn = np.array(answers.cameras(scene_map)["upright_from_world"])
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-5)
    np.testing.assert_allclose(turn @ tilt[:, 2], [0, 0, 1], atol=1e-4)
    assert np.linalg.det(turn) > 0

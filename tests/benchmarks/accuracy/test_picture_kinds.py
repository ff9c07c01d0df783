"""Each kind's cameras, light and development are what its name says, and all else is the same."""

import dataclasses

import cv2
import numpy as np
import pytest

from benchmarks.accuracy import picture_kinds
from benchmarks.accuracy.picture_kinds import DIMMED, KINDS, Kind, Stage
from jaxreloc.usage import UsageError
from tfds_builders.rooms.paths.camera_paths import CameraPath, look_at
from tfds_builders.rooms.photography import photograph

SIZE = (96, 72)
FRAMES = 4
NAMED = {kind.name: kind for kind in KINDS}


def upright_path(rng) -> CameraPath:
    """Places near the origin, all of which see (0, 2, 0) in their middle."""
    centres = rng.uniform(-0.3, 0.3, (FRAMES, 3))
    poses = look_at(centres, np.tile([0.0, 2.0, 0.0], (FRAMES, 1)), np.zeros(FRAMES))
    nothing = np.zeros((FRAMES, 0), np.float32)
    return CameraPath(Kind("any").lens(*SIZE), poses, nothing[..., None].repeat(3, 2), nothing)


class SphereAround:
    """Stands for a lit room: coloured by the direction from the camera, so that turns show."""

    def __init__(self, lamps: int = 3):
        self.lamps = lamps
        self.dimmings, self.states = [], []

    def pictures(self, rng, cameras, development, dimming):
        self.dimmings.append(dimming)
        images, depths = [], []
        for camera in cameras:
            x, y = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
            rays = camera.rays(np.stack([x.ravel(), y.ravel()], -1))
            rays /= np.linalg.norm(rays, axis=1, keepdims=True)
            colour = np.exp(np.sin(rays * (30, 35, 40))).astype(np.float32)
            colour = colour.reshape(camera.height, camera.width, 3)
            images.append(photograph(rng, colour, camera.intrinsics, development))
            depths.append(colour[..., 0])
        self.states.append(rng.bit_generator.state)
        return images, depths


@pytest.fixture
def stage(rng):
    paths = [upright_path(rng), upright_path(rng)]
    now, later = SphereAround(), SphereAround()
    return Stage("test-000", now, later, paths[:1], paths, paths[1:], SIZE, (3, 1, 4))


def projected(frames, i, points):
    """By OpenCV."""
    cam_from_world = np.linalg.inv(frames.world_from_cam[i])
    rotation, t = cv2.Rodrigues(cam_from_world[:3, :3])[0], cam_from_world[:3, 3]
    return cv2.projectPoints(points, rotation, t, frames.intrinsics[i], None)[0][:, 0]


@pytest.mark.parametrize(
    "kind", [k for k in KINDS if not k.orbit and k.map_step == 1], ids=lambda k: k.name
)
def test_the_same_points_are_seen_scaled_turned_and_shifted_as_the_kind_says(rng, stage, kind):
    points = rng.uniform((-0.3, 1.7, -0.3), (0.3, 2.3, 0.3), (20, 3))
    plain, frames = stage.queries(KINDS[0]), stage.queries(kind)
    size = SIZE[::-1] if kind.portrait else SIZE
    assert {image.shape for image in frames.images} == {(size[1], size[0], 3)}
    np.testing.assert_array_equal(frames.image_sizes, [size] * len(frames))
    np.testing.assert_array_equal(
        frames.world_from_cam[:, :3, 3], plain.world_from_cam[:, :3, 3]
    )
    middle = (np.array(size) - 1) / 2 + SIZE[0] * np.array(kind.principal_point)
    for i in range(len(plain)):
        away = projected(plain, i, points) - (np.array(SIZE) - 1) / 2
        angle = np.deg2rad(kind.roll_deg) * (1, -1)[i % 2]
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        expected = middle + kind.focal * away @ turn.T
        np.testing.assert_allclose(projected(frames, i, points), expected, atol=1e-6)


@pytest.mark.parametrize(
    "name", ["focal length 1.6", "portrait", "turned by 30 deg", "turned by 90 deg"]
)
def test_pictures_show_what_their_poses_and_intrinsics_say(stage, name):
    """From one place, pictures are related by the homography K R K^-1."""
    plain, frames = stage.queries(KINDS[0]), stage.queries(NAMED[name])
    for i in range(len(plain)):
        cam_from_plain = frames.world_from_cam[i, :3, :3].T @ plain.world_from_cam[i, :3, :3]
        homography = frames.intrinsics[i] @ cam_from_plain @ np.linalg.inv(plain.intrinsics[i])
        size = tuple(frames.image_sizes[i].tolist())
        seen = np.ones(plain.images[i].shape[:2], np.uint8)
        seen = cv2.erode(seen, np.ones((5, 5)), borderValue=0)
        seen = cv2.warpPerspective(seen, homography, size, flags=cv2.INTER_NEAREST) > 0
        grey = [cv2.cvtColor(x.images[i], cv2.COLOR_RGB2GRAY) for x in (plain, frames)]
        warped = cv2.warpPerspective(grey[0], homography, size)
        assert seen.mean() > 0.3
        assert np.corrcoef(warped[seen], grey[1][seen])[0, 1] > 0.98  # falloff apart
        if NAMED[name].roll_deg:
            other_way = cv2.warpPerspective(grey[0], np.linalg.inv(homography), size)
            assert np.corrcoef(other_way[seen], grey[1][seen])[0, 1] < 0.9


def test_light_development_and_room_change_in_their_kinds_alone(stage):
    plain = stage.queries(KINDS[0])
    mean = np.mean(plain.images)
    np.testing.assert_array_equal(stage.now.dimmings, np.ones((2, 3)))
    dark, bright, tinted = (
        stage.queries(NAMED[name])
        for name in ("2 stops under-exposed", "1.5 stops over-exposed", "white balance")
    )
    assert np.mean(dark.images) < 0.7 * mean and np.mean(bright.images) > 1.3 * mean
    red, _, blue = np.mean(tinted.images, axis=(0, 1, 2)) / np.mean(plain.images, axis=(0, 1, 2))
    assert red > 1.1 and blue < 0.9
    sharpness = [
        np.var([cv2.Laplacian(image, cv2.CV_32F) for image in frames.images])
        for frames in (
            plain,
            stage.queries(NAMED["motion blur of 12 px"]),
            stage.queries(NAMED["noise"]),
        )
    ]
    assert sharpness[1] < sharpness[0] < sharpness[2]
    stage.now.dimmings.clear()
    stage.queries(NAMED["lamps changed"])
    np.testing.assert_allclose(stage.now.dimmings, [[1, DIMMED, 1], [DIMMED, 1, DIMMED]])
    assert not stage.later.dimmings
    stage.queries(NAMED["small things moved"])
    assert len(stage.later.dimmings) == 2
    for kind in KINDS:  # one thing at a time
        changed = [
            field.name
            for field in dataclasses.fields(kind)
            if field.name != "name" and getattr(kind, field.name) is not field.default
        ]
        assert len(changed) == (kind.name != "plain")


def test_all_kinds_draw_the_same_random_numbers(stage):
    drawn = []
    for kind in KINDS:
        stage.now.states.clear()
        stage.later.states.clear()
        if not kind.orbit:
            stage.queries(kind)
            drawn.append(stage.now.states + stage.later.states)
    assert all(states == drawn[0] for states in drawn)
    assert drawn[0][0] != drawn[0][1]  # but every path its own


def test_queries_are_the_same_each_time_and_orbits_have_their_own_paths(stage):
    first, again = stage.queries(KINDS[0]), stage.queries(KINDS[0])
    np.testing.assert_array_equal(first.images, again.images)
    assert first.names[0] == "path-1/frame-000000" and first.names[-1] == "path-2/frame-000003"
    orbit = stage.queries(NAMED["close orbit"])
    np.testing.assert_array_equal(orbit.world_from_cam, stage.orbits[0].world_from_cam)
    assert stage.map().names == tuple(f"path-0/frame-{i:06d}" for i in range(FRAMES))


def test_a_room_is_photographed_once(stage, tmp_path, monkeypatch):
    monkeypatch.setattr(picture_kinds, "set_stage", lambda split, index, library: stage)
    _, made = picture_kinds.load_pictures("test", 0, "library", tmp_path)
    monkeypatch.delattr(picture_kinds, "set_stage")
    database, kept = picture_kinds.load_pictures("test", 0, None, tmp_path)
    assert list(kept) == [kind.name for kind in KINDS]
    for name, frames in made.items():
        np.testing.assert_array_equal(kept[name].world_from_cam, frames.world_from_cam)
        for i in range(len(frames)):
            np.testing.assert_array_equal(kept[name].images[i], frames.images[i])
    np.testing.assert_array_equal(database.images, stage.map().images)
    with pytest.raises(UsageError, match="--library"):
        picture_kinds.load_pictures("test", 1, None, tmp_path)

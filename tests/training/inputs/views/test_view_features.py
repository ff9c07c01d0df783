"""Turned views and their features, kept on disk."""

import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxreloc.formats.frames import PosedFrames
from jaxreloc.models.backbones.features import Features
from jaxreloc.training.inputs.views import view_features as module
from jaxreloc.training.inputs.views.view_features import ViewSettings, turned_views, view_features
from jaxreloc.usage import UsageError

DIM = 1280
SETTINGS = ViewSettings((32, 48), 3, (10.0, 8.0, 5.0), 0.2, "efficientnet_lite0", seed=0)
INTRINSICS = np.array([[60.0, 0, 47.5], [0, 60, 31.5], [0, 0, 1]])


@pytest.fixture(autouse=True)
def backbone(monkeypatch):
    """Pools what a fixed random linear map makes of the pixels."""
    weights = np.random.default_rng(0).normal(size=(32 * 48 * 3, DIM)) / 1e4

    def encode(images):
        return Features(images.reshape(len(images), -1) @ weights, {})

    monkeypatch.setattr(module, "imagenet_features", lambda name: encode)


def smooth_picture(world_from_cam_rotation, height=64, width=96):
    """A world at infinity whose colour is a smooth function of the direction."""
    y, x = np.mgrid[:height, :width]
    rays = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(INTRINSICS).T
    rays = rays @ world_from_cam_rotation.T
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    return np.rint(127.5 + 100 * np.sin(3 * rays + [0.2, 0.5, 0.9])).astype(np.uint8)


def frames_of(images):
    n = len(images)
    return PosedFrames(
        scene="attic",
        names=tuple(f"{i}.png" for i in range(n)),
        world_from_cam=np.tile(np.eye(4), (n, 1, 1)),
        intrinsics=np.tile(INTRINSICS, (n, 1, 1)),
        image_sizes=np.tile(np.array([96, 64]), (n, 1)),
        images=images,
        depths=None,
    )


def test_a_turned_view_is_what_a_turned_camera_sees(rng):
    """Beside a picture taken with the turned camera, away from what lies outside of the first."""
    turn = Rotation.from_euler("yxz", rng.uniform(-6, 6, 3), degrees=True).as_matrix()
    _, view = turned_views(smooth_picture(np.eye(3)), INTRINSICS, np.stack([turn] * 2), (32, 48))
    unturned = np.stack([np.eye(3)] * 2)
    _, taken = turned_views(smooth_picture(turn), INTRINSICS, unturned, (32, 48))
    inner = (slice(8, -8), slice(10, -10))
    assert np.abs(view[inner].astype(int) - taken[inner]).max() <= 4


def test_features_are_made_once(tmp_path, monkeypatch, rng):
    frames = frames_of([rng.integers(0, 256, (64, 96, 3), dtype=np.uint8) for _ in range(3)])
    said = []
    made = view_features(frames, SETTINGS, tmp_path, said.append)
    assert made.pooled.shape == (3, 3, 1280) and made.cam_from_view.shape == (3, 3, 3, 3)
    np.testing.assert_array_equal(made.cam_from_view[:, 0], np.tile(np.eye(3), (3, 1, 1)))
    turns = Rotation.from_matrix(made.cam_from_view[:, 1:].reshape(-1, 3, 3)).as_euler("yxz")
    assert (np.abs(np.rad2deg(turns)) <= np.array(SETTINGS.turn_deg) + 1e-6).all()
    assert np.ptp(made.pooled, axis=1).max() > 0.01  # views differ

    monkeypatch.setattr(module, "_made", lambda *_: pytest.fail("made again"))
    again = view_features(frames, SETTINGS, tmp_path, said.append)
    np.testing.assert_array_equal(again.pooled, made.pooled)
    assert said == ["features of 3 views of each of 3 pictures of attic"]


def test_other_settings_make_other_features(tmp_path, rng):
    frames = frames_of([rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)])
    one = view_features(frames, SETTINGS, tmp_path, lambda line: None)
    other = dataclasses.replace(SETTINGS, seed=1)
    assert np.any(view_features(frames, other, tmp_path, lambda line: None).pooled != one.pooled)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_damaged_file_is_named(tmp_path, rng):
    frames = frames_of([rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)])
    view_features(frames, SETTINGS, tmp_path, lambda line: None)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UsageError, match=f"{path.name}: not a file of views .*delete it"):
        view_features(frames, SETTINGS, tmp_path, lambda line: None)

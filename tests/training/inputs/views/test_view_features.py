"""Features of turned and moved views, kept on disk."""

import dataclasses

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxreloc.formats.frames import PosedFrames
from jaxreloc.training.inputs.views import view_features as module
from jaxreloc.training.inputs.views.view_features import view_features
from jaxreloc.training.inputs.views.view_painter import ViewPainter, ViewSettings
from jaxreloc.usage import UsageError

DIM = 1280
SETTINGS = ViewSettings(
    image_size=(32, 48),
    views=3,
    turn_deg=(10.0, 8.0, 5.0),
    move_m=(0.0, 0.0, 0.0),
    jitter=0.2,
    backbone="efficientnet_lite0",
    grid=None,
    seed=0,
)
INTRINSICS = np.array([[60.0, 0, 47.5], [0, 60, 31.5], [0, 0, 1]])


@pytest.fixture(autouse=True)
def backbone(monkeypatch):
    """Pools what a fixed random linear map makes of the pixels."""
    weights = np.random.default_rng(0).normal(size=(32 * 48 * 3, DIM)) / 1e4

    def encode(images):
        return images.reshape(len(images), -1) @ weights

    monkeypatch.setattr(module, "imagenet_features", lambda name, grid: encode)


def frames_of(images, depths=None):
    n = len(images)
    return PosedFrames(
        scene="attic",
        names=tuple(f"{i}.png" for i in range(n)),
        world_from_cam=np.tile(np.eye(4), (n, 1, 1)),
        intrinsics=np.tile(INTRINSICS, (n, 1, 1)),
        image_sizes=np.tile(np.array([96, 64]), (n, 1)),
        images=images,
        depths=depths,
    )


def test_features_are_made_once(tmp_path, monkeypatch, rng):
    frames = frames_of([rng.integers(0, 256, (64, 96, 3), dtype=np.uint8) for _ in range(3)])
    said = []
    made = view_features(frames, SETTINGS, tmp_path, said.append)
    assert made.features.shape == (3, 3, 1280) and made.cam_from_view.shape == (3, 3, 4, 4)
    np.testing.assert_array_equal(made.cam_from_view[:, 0], np.tile(np.eye(4), (3, 1, 1)))
    turns = made.cam_from_view[:, 1:, :3, :3].reshape(-1, 3, 3)
    turns = Rotation.from_matrix(turns).as_euler("yxz")
    assert (np.abs(np.rad2deg(turns)) <= np.array(SETTINGS.turn_deg) + 1e-6).all()
    assert np.ptp(made.features, axis=1).max() > 0.01  # views differ

    monkeypatch.setattr(module, "_made", lambda *_: pytest.fail("made again"))
    again = view_features(frames, SETTINGS, tmp_path, said.append)
    np.testing.assert_array_equal(again.features, made.features)
    assert said == ["features of 3 views of each of 3 pictures of attic"]


def test_other_settings_make_other_features(tmp_path, rng):
    frames = frames_of([rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)])
    settings = SETTINGS, dataclasses.replace(SETTINGS, seed=1)
    one, other = (view_features(frames, x, tmp_path, lambda line: None) for x in settings)
    assert np.any(other.features != one.features)
    assert len(list(tmp_path.iterdir())) == 2


def test_moved_views_need_depth_and_keep_off_what_is_near(tmp_path, rng):
    images = [rng.integers(0, 256, (64, 96, 3), dtype=np.uint8) for _ in range(2)]
    moved = dataclasses.replace(SETTINGS, views=9, move_m=(0.3, 0.1, 0.2))
    with pytest.raises(UsageError, match=r"attic: has no depth.*data.move_m=\(0.0,0.0,0.0\)"):
        view_features(frames_of(images), moved, tmp_path, lambda line: None)
    near = rng.uniform(0.2, 0.3)
    depths = [np.full((64, 96), x, np.float32) for x in (5.0, near)]
    poses = np.tile(np.eye(4), (2, 1, 1))
    poses[1, :3, :3] = Rotation.from_euler("y", 180, degrees=True).as_matrix()  # another wall
    frames = dataclasses.replace(frames_of(images, depths), world_from_cam=poses)
    made = view_features(frames, moved, tmp_path, lambda line: None)
    far_moves, near_moves = made.cam_from_view[:, 1:, :3, 3]
    assert (np.abs(far_moves) <= np.array(moved.move_m) + 1e-9).all()
    assert np.ptp(far_moves[:, 0]) > 0
    assert near_moves[:, 2].max() <= 0.5 * near + 0.05, "half of the way to the wall"


def test_a_moved_view_shows_what_the_pictures_beside_it_show(rng):
    """Of a wall with a gradient: where a view's own picture ends its neighbour goes on."""

    def picture(x):
        columns = x + 3.0 * (np.arange(96) - 47.5) / 60
        grey = np.rint(127 + 40 * columns).clip(0, 255).astype(np.uint8)
        return np.broadcast_to(grey[None, :, None], (64, 96, 3)).copy()

    images = [picture(0.0), picture(1.5)]
    poses = np.tile(np.eye(4), (2, 1, 1))
    poses[1, 0, 3] = 1.5
    frames = dataclasses.replace(
        frames_of(images, [np.full((64, 96), 3.0, np.float32)] * 2), world_from_cam=poses
    )
    settings = dataclasses.replace(
        SETTINGS, views=12, turn_deg=(0.0, 0.0, 0.0), move_m=(1.4, 0.1, 0.1), jitter=0.0
    )
    views, cam_from_view = ViewPainter(frames, settings).views(0, rng)
    right = cam_from_view[:, 0, 3] > 0.2
    assert len(views) == 12 and right.any()
    for view, pose in zip(np.array(views)[right], cam_from_view[right], strict=True):
        taken = cv2.resize(picture(pose[0, 3]), (48, 32), interpolation=cv2.INTER_AREA)
        off = np.abs(view[8:-8, 10:-10].astype(int) - taken[8:-8, 10:-10])
        assert np.median(off) <= 6, "no farther from the wall than a tenth of a metre"


def test_a_damaged_file_is_named(tmp_path, rng):
    frames = frames_of([rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)])
    view_features(frames, SETTINGS, tmp_path, lambda line: None)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UsageError, match=f"{path.name}: not a file of views .*delete it"):
        view_features(frames, SETTINGS, tmp_path, lambda line: None)

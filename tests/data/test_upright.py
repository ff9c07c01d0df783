"""Pictures that are turned upright show what they showed."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxreloc.data.upright import held_upright, turns_to_upright
from jaxreloc.formats.frames import PosedFrames

WIDTH, HEIGHT = 12, 8
UP = (0.0, 0.0, 1.0)


@pytest.fixture
def frames(rng):
    """Cameras that look anywhere, with random pictures and depths of half their size."""
    n = 12
    world_from_cam = np.tile(np.eye(4), (n, 1, 1))
    world_from_cam[:, :3, :3] = Rotation.random(n, rng).as_matrix()
    world_from_cam[:, :3, 3] = rng.normal(size=(n, 3))
    intrinsics = np.tile(np.array([[9.0, 0, 5.1], [0, 10.0, 3.7], [0, 0, 1]]), (n, 1, 1))
    of_depth = intrinsics.copy()
    of_depth[:, :2] /= 2
    return PosedFrames(
        scene="room",
        names=tuple(map(str, range(n))),
        world_from_cam=world_from_cam,
        intrinsics=intrinsics,
        image_sizes=np.tile(np.array([WIDTH, HEIGHT]), (n, 1)),
        images=list(rng.integers(256, size=(n, HEIGHT, WIDTH, 3)).astype(np.uint8)),
        depths=list(rng.uniform(1, 3, (n, HEIGHT // 2, WIDTH // 2)).astype(np.float32)),
        depth_intrinsics=of_depth,
    )


def test_up_is_above(frames):
    """Nearer to above than to a side: by at most 45 degrees from the vertical of the picture."""
    up = held_upright(frames, UP).world_from_cam[:, 2, :2]
    assert (-up[:, 1] >= np.abs(up[:, 0]) - 1e-9).all()
    assert (turns_to_upright(held_upright(frames, UP).world_from_cam, UP) == 0).all()


def test_every_pixel_is_seen_along_its_ray(frames):
    """A pixel of the turned picture has the colour and the ray of one of the picture as given."""
    turned = held_upright(frames, UP)
    assert len(set(turns_to_upright(frames.world_from_cam, UP))) > 1
    for i in range(len(frames)):
        height, width, _ = turned.images[i].shape
        assert tuple(turned.image_sizes[i]) == (width, height)
        for of, pictures in (("intrinsics", "images"), ("depth_intrinsics", "depths")):
            given, now = getattr(frames, pictures)[i], getattr(turned, pictures)[i]
            rows, columns = np.indices(now.shape[:2]).reshape(2, -1)
            pixels = np.stack([columns, rows, np.ones_like(rows)])
            rays = turned.world_from_cam[i, :3, :3] @ np.linalg.solve(
                getattr(turned, of)[i], pixels
            )
            seen = getattr(frames, of)[i] @ frames.world_from_cam[i, :3, :3].T @ rays
            x, y = seen[:2] / seen[2]
            np.testing.assert_allclose(x, x.round(), atol=1e-6)
            places = y.round().astype(int), x.round().astype(int)
            np.testing.assert_array_equal(given[places], now[rows, columns])
    np.testing.assert_array_equal(turned.world_from_cam[:, :3, 3], frames.world_from_cam[:, :3, 3])


def test_turns_of_hand_worked_cameras():
    """One that looks ahead with its right side up has to be turned once, counterclockwise."""
    upright = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0.0]])  # y is down, z ahead
    roll = lambda k: Rotation.from_euler("z", 90 * k, degrees=True).as_matrix()  # noqa: E731
    poses = np.tile(np.eye(4), (4, 1, 1))
    poses[:, :3, :3] = [upright @ roll(k) for k in range(4)]
    assert poses[1, 2, 0] == pytest.approx(-1)  # its right is down
    assert turns_to_upright(poses, UP).tolist() == [0, 3, 2, 1]

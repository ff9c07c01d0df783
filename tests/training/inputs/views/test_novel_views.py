"""What turned and moved cameras see, beside what is painted for them."""

import numpy as np
from scipy.spatial.transform import Rotation

from jaxreloc.images import resize_to_fit
from jaxreloc.training.inputs.views.novel_views import (
    largest_move,
    moved_views,
    points_of,
    turned_views,
)

INTRINSICS = np.array([[60.0, 0, 47.5], [0, 60, 31.5], [0, 0, 1]])
SIZE = (32, 48)
INNER = (slice(8, -8), slice(10, -10))  # away from what lies outside of the first picture


def rays(rotation, height=64, width=96):
    y, x = np.mgrid[:height, :width]
    rays = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(INTRINSICS).T
    return rays @ rotation.T


def smooth(points):
    return np.rint(127.5 + 100 * np.sin(3 * points + [0.2, 0.5, 0.9])).astype(np.uint8)


def at_infinity(rotation):
    """The picture of a world at infinity whose colour is a smooth function of the direction."""
    directions = rays(rotation)
    return smooth(directions / np.linalg.norm(directions, axis=-1, keepdims=True))


def of_wall(rotation, centre, distance):
    """The picture of a wall at z = distance whose colour is smooth, and its depth."""
    directions = rays(rotation)
    length = (distance - centre[2]) / directions[..., 2]
    points = centre + directions * length[..., None]
    return smooth(points), length * (directions @ rotation[:, 2])


def small_turn(rng):
    return Rotation.from_euler("yxz", rng.uniform(-6, 6, 3), degrees=True).as_matrix()


def test_a_turned_view_is_what_a_turned_camera_sees(rng):
    turn = small_turn(rng)
    (view,) = turned_views(at_infinity(np.eye(3)), INTRINSICS, turn[None], SIZE)
    taken, _ = resize_to_fit(at_infinity(turn), INTRINSICS, *SIZE)
    assert np.abs(view[INNER].astype(int) - taken[INNER]).max() <= 4


def test_a_moved_view_is_what_a_moved_camera_sees(rng):
    turn, distance = small_turn(rng), rng.uniform(1.5, 3)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turn, rng.uniform(-0.06, 0.06, 3) * distance
    image, depth = of_wall(np.eye(3), np.zeros(3), distance)
    points = points_of(depth, INTRINSICS)
    np.testing.assert_allclose(points[:, 2], distance)
    (view,) = moved_views(image, INTRINSICS, points, pose[None], SIZE)
    taken, _ = resize_to_fit(of_wall(turn, pose[:3, 3], distance)[0], INTRINSICS, *SIZE)
    # A point is drawn where the nearest pixel is.
    off = np.abs(view[INNER].astype(int) - taken[INNER])
    assert np.median(off) <= 4 * distance and off.mean() <= 6 * distance


def test_the_nearest_thing_hides_what_is_behind_it(rng):
    """A red post slides along a white wall, and what is grey and without depth is not seen."""
    image, depth = np.full((64, 96, 3), 255, np.uint8), np.full((64, 96), 3.0)
    image[:, 44:52], depth[:, 44:52] = (255, 0, 0), 1.0
    image[:, :20], depth[:, :20] = 90, 0.0
    move = rng.uniform(0.1, 0.25)
    pose = np.eye(4)
    pose[0, 3] = move
    points = points_of(depth, INTRINSICS)
    assert len(points) == 64 * 76
    (view,) = moved_views(image, INTRINSICS, points, pose[None], SIZE)
    post = 47.5 - 60 * move / 1.0  # its middle's column at the first size
    column = int((post + 0.5) / 2)
    assert (view[:, column] == (255, 0, 0)).all()
    assert (view[:, column + 8 :] == 255).all(), "where the post was there is wall"
    assert not (view == 90).all(-1).any()


def test_no_points_and_none_ahead():
    image = np.zeros((64, 96, 3), np.uint8)
    assert largest_move(np.zeros((0, 3))) == 0.0
    behind = np.eye(4)
    behind[2, 3] = 5.0  # in front of the only wall
    points = points_of(np.full((64, 96), 2.0), INTRINSICS)
    (view,) = moved_views(image, INTRINSICS, points, behind[None], SIZE)
    assert view.shape == (*SIZE, 3)

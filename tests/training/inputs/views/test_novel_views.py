"""What turned and moved cameras see, beside what is painted for them."""

import numpy as np
from scipy.spatial.transform import Rotation

from jaxreloc.images import resize_to_fit
from jaxreloc.training.inputs.views.novel_views import (
    ColouredPoints,
    coloured_points,
    novel_view,
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


def random_pose(rng, distance, share=0.06):
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = small_turn(rng), rng.uniform(-share, share, 3) * distance
    return pose


def points_of(image, depth):
    return coloured_points(image, INTRINSICS, depth, INTRINSICS, SIZE)


def view_intrinsics():
    return resize_to_fit(np.zeros((64, 96, 3), np.uint8), INTRINSICS, *SIZE)[1]


def seen(pictures, view_from_cam):
    return novel_view(pictures, np.stack(view_from_cam), view_intrinsics(), SIZE)


def test_points_are_where_the_pixels_are(rng):
    """All pixels of a picture twice as large as the views are used, of a larger one every third."""
    image, depth = of_wall(np.eye(3), np.zeros(3), 2.0)
    points = points_of(image, depth)
    np.testing.assert_allclose(points.xyz[2], 2.0, rtol=1e-6)
    off = smooth(points.xyz.T.astype(float)).astype(int) - points.colours
    assert np.abs(off).max() <= 6
    assert len(points.colours) == 64 * 96
    larger = coloured_points(image, INTRINSICS, depth, INTRINSICS, (16, 24))
    assert len(larger.colours) == np.ceil(64 / 3) * 32


def test_a_moved_view_is_what_a_moved_camera_sees(rng):
    distance = rng.uniform(1.5, 3)
    pose = random_pose(rng, distance)
    image, depth = of_wall(np.eye(3), np.zeros(3), distance)
    view = seen([points_of(image, depth)], [np.linalg.inv(pose)])
    at_view = of_wall(pose[:3, :3], pose[:3, 3], distance)
    taken, _ = resize_to_fit(at_view[0], INTRINSICS, *SIZE)
    # A point is drawn where the nearest pixel is.
    off = np.abs(view.image[INNER].astype(int) - taken[INNER])
    assert np.median(off) <= 6 * distance and off.mean() <= 8 * distance
    true_depth = at_view[1][::2, ::2]
    np.testing.assert_allclose(view.depth[INNER], true_depth[INNER], rtol=0.03)


def test_another_picture_fills_what_the_first_leaves_empty(rng):
    """Half of the view is beyond the first picture's edge; the second one, darker, shows it."""
    distance = rng.uniform(1.5, 3)
    first, depth = of_wall(np.eye(3), np.zeros(3), distance)
    beside = np.eye(4)
    beside[0, 3] = 0.8 * distance  # a picture is 1.6 distances wide
    second, _ = of_wall(np.eye(3), beside[:3, 3], distance)
    darker = (second * rng.uniform(0.6, 0.9)).astype(np.uint8)
    pictures = [points_of(first, depth), points_of(darker, depth)]
    poses = [np.linalg.inv(beside), np.eye(4)]
    alone, both = seen(pictures[:1], poses[:1]), seen(pictures, poses)
    assert 0.4 < alone.covered < 0.6 and both.covered > 0.95
    taken, _ = resize_to_fit(second, INTRINSICS, *SIZE)
    right = (slice(8, -8), slice(26, -6))  # of the second picture alone
    ratio = (both.image[right].mean() + 1) / (taken[right].mean() + 1)
    assert 0.9 < ratio < 1.1, "as bright as the first picture"


def wall_and_post(post_depth=1.0):
    """A red post before a white wall, and on the left what is grey and without depth."""
    image, depth = np.full((64, 96, 3), 255, np.uint8), np.full((64, 96), 3.0)
    image[:, 44:52], depth[:, 44:52] = (255, 0, 0), post_depth
    image[:, :20], depth[:, :20] = 90, 0.0
    return image, depth


def test_the_nearest_thing_hides_what_is_behind_it(rng):
    """The post slides along the wall, and what has no depth is not seen."""
    image, depth = wall_and_post()
    move = rng.uniform(0.1, 0.25)
    pose = np.eye(4)
    pose[0, 3] = move
    view = seen([points_of(image, depth)], [np.linalg.inv(pose)])
    post = 47.5 - 60 * move / 1.0  # its middle's column at the first size
    column = int((post + 0.5) / 2)
    assert (view.image[:, column] == (255, 0, 0)).all()
    assert (view.image[:, column + 8 :] == 255).all(), "where the post was there is wall"
    assert not (view.image == 90).all(-1).any()
    np.testing.assert_allclose(view.depth[:, column], 1.0)
    assert np.isinf(view.depth[:, 0]).all()


def test_a_later_pictures_post_hides_the_first_ones_wall():
    """The first picture leaves something empty, so that the second is asked."""
    wall = np.full((64, 96, 3), 255, np.uint8), np.full((64, 96), 3.0)
    wall[1][:, :10] = 0.0
    pictures = [points_of(*wall), points_of(*wall_and_post())]
    view = seen(pictures, [np.eye(4)] * 2)
    assert (view.image[:, 23:25, 0] > 200).all() and (view.image[:, 23:25, 1:] < 30).all()
    hidden = seen(pictures[::-1], [np.eye(4)] * 2)
    np.testing.assert_array_equal(hidden.depth[:, 23:25], 1.0)


def test_walls_are_not_seen_through_the_gaps_of_a_nearer_thing(rng):
    """Seen from half as far, a post's points lie apart, and between them is the wall's colour."""
    image, depth = wall_and_post(post_depth=1.0)
    pose = np.eye(4)
    pose[2, 3] = 0.5
    view = seen([points_of(image, depth)], [np.linalg.inv(pose)])
    inside = view.image[6:-6, 22:26]
    assert (inside == (255, 0, 0)).all()


def test_no_points_and_none_ahead():
    none = ColouredPoints(np.zeros((3, 0), np.float32), np.zeros((0, 3), np.uint8))
    image, depth = of_wall(np.eye(3), np.zeros(3), 2.0)
    behind = np.eye(4)
    behind[2, 3] = 5.0  # beyond the only wall
    for points, pose in ((none, np.eye(4)), (points_of(image, depth), np.linalg.inv(behind))):
        view = seen([points], [pose])
        assert view.image.shape == (*SIZE, 3) and view.covered == 0.0

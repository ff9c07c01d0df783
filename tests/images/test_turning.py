import cv2
import numpy as np
import pytest

from jaxreloc.images import turn
from tests.images.test_resizing import HEIGHT, WIDTH, random_intrinsics

TURNS = {1: cv2.ROTATE_90_COUNTERCLOCKWISE, 2: cv2.ROTATE_180, 3: cv2.ROTATE_90_CLOCKWISE}


@pytest.mark.parametrize("turns", TURNS)
def test_a_turned_camera_sees_every_point_in_its_colour(rng, turns):
    image = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    intrinsics = random_intrinsics(rng)
    turned, turned_intrinsics, turned_from_given = turn(image, intrinsics, turns)
    np.testing.assert_array_equal(turned, cv2.rotate(image, TURNS[turns]))
    assert turned.flags.c_contiguous
    x, y = rng.integers(WIDTH, size=50), rng.integers(HEIGHT, size=50)
    rays = cv2.undistortPoints(np.stack([x, y], -1).astype(float), intrinsics, None)[:, 0]
    points = rng.uniform(1, 5, (50, 1)) * np.pad(rays, ((0, 0), (0, 1)), constant_values=1)
    rotation = cv2.Rodrigues(turned_from_given)[0]
    pixels = cv2.projectPoints(points, rotation, np.zeros(3), turned_intrinsics, None)[0][:, 0]
    np.testing.assert_allclose(pixels, np.rint(pixels), atol=1e-6)
    turned_x, turned_y = np.rint(pixels).astype(int).T
    np.testing.assert_array_equal(turned[turned_y, turned_x], image[y, x])


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 4])
def test_turning_keeps_skewed_intrinsics_upper_triangular(rng, turns):
    image, intrinsics = np.zeros((HEIGHT, WIDTH, 3), np.uint8), random_intrinsics(rng)
    intrinsics[0, 1] = rng.uniform(-9, 9)
    _, turned_intrinsics, rotation = turn(image, intrinsics, turns)
    np.testing.assert_array_equal(np.tril(turned_intrinsics, -1), 0)
    assert (np.diag(turned_intrinsics) > 0).all() and turned_intrinsics[2, 2] == 1
    np.testing.assert_allclose(cv2.Rodrigues(cv2.Rodrigues(rotation)[0])[0], rotation, atol=1e-9)
    np.testing.assert_array_equal(rotation[2], [0, 0, 1])
    points = rng.normal(size=(20, 3)) + [0, 0, 5]
    x, y, z = intrinsics @ points.T
    x, y, width, height = x / z, y / z, WIDTH, HEIGHT
    for _ in range(turns):
        x, y, width, height = y, width - 1 - x, height, width
    projected = turned_intrinsics @ rotation @ points.T
    np.testing.assert_allclose(projected[:2] / projected[2:], [x, y], atol=1e-8)


def test_a_quarter_turn_by_hand():
    intrinsics = np.array([[10.0, 0, 2], [0, 20, 1], [0, 0, 1]])
    image = np.arange(4 * 8 * 3, dtype=np.uint8).reshape(4, 8, 3)
    turned, turned_intrinsics, rotation = turn(image, intrinsics, 1)
    np.testing.assert_array_equal(turned[0, :, 0], image[:, 7, 0])
    np.testing.assert_array_equal(turned_intrinsics, [[20, 0, 1], [0, 10, 5], [0, 0, 1]])
    np.testing.assert_array_equal(rotation @ [1, 0, 0], [0, -1, 0])  # what was right is above

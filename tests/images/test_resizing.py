import numpy as np
import pytest

from jaxreloc.images import resizing

WIDTH, HEIGHT = 96, 64


def random_intrinsics(rng):
    fx, fy = rng.uniform(50, 90, 2)
    cx, cy = WIDTH / 2 + rng.uniform(-8, 8), HEIGHT / 2 + rng.uniform(-8, 8)
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])


def smooth_image(height, width):
    """Three ramps, so that values say where in the picture, from 0 to 1, a pixel's centre lies."""
    u = (np.arange(width) + 0.5) / width
    v = (np.arange(height) + 0.5) / height
    u, v = np.meshgrid(u, v)
    return np.rint(np.stack([250 * u, 250 * v, np.full_like(u, 77)], axis=-1)).astype(np.uint8)


def place_of(image, row, column):
    """Position in the original picture, 0 to 1, that a pixel of a transformed one shows."""
    return image[row, column, :2] / 250.0


def test_intrinsics_follow_the_pixels(rng):
    """A scene point that projects to a pixel shows there after resizing and cropping, too."""
    image, intrinsics = smooth_image(HEIGHT, WIDTH), random_intrinsics(rng)
    steps = [
        lambda i, k: resizing.resize_short_side(i, k, 40),
        lambda i, k: resizing.random_crop(i, k, 32, rng),
    ]
    changed, changed_intrinsics = image, intrinsics
    for step in steps:
        changed, changed_intrinsics = step(changed, changed_intrinsics)
    assert changed.shape == (32, 32, 3)
    for row, column in rng.integers(2, 30, (20, 2)):
        ray = np.linalg.inv(changed_intrinsics) @ [column, row, 1]
        u, v, _ = intrinsics @ ray
        expected = (u + 0.5) / WIDTH, (v + 0.5) / HEIGHT
        np.testing.assert_allclose(place_of(changed, row, column), expected, atol=0.006)


def test_resizing_by_hand():
    intrinsics = np.array([[10.0, 0, 2], [0, 20, 1], [0, 0, 1]])
    image = np.zeros((4, 8, 3), np.uint8)
    image[:, 4:6] = 100
    half, half_intrinsics = resizing.resize_short_side(image, intrinsics, 2)
    np.testing.assert_array_equal(half[:, :, 0], [[0, 0, 100, 0]] * 2)
    # (2 + 0.5) / 2 - 0.5 = 0.75, (1 + 0.5) / 2 - 0.5 = 0.25
    np.testing.assert_allclose(half_intrinsics, [[5, 0, 0.75], [0, 10, 0.25], [0, 0, 1]])


@pytest.mark.parametrize(("height", "width"), [(480, 640), (640, 480), (256, 256), (100, 133)])
def test_short_side(height, width):
    image, _ = resizing.resize_short_side(np.zeros((height, width, 3), np.uint8), np.eye(3), 256)
    assert min(image.shape[:2]) == 256
    assert abs(max(image.shape[:2]) - 256 * max(height, width) / min(height, width)) <= 0.5


def test_shrinking_averages(rng):
    image = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    shrunk, _ = resizing.resize_short_side(image, np.eye(3), 10)
    expected = image.reshape(10, 4, 15, 4, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(shrunk, expected, atol=0.51)


@pytest.mark.parametrize("shape", [(48, 64), (64, 48), (50, 50)])
def test_fitting_pads_evenly_and_keeps_the_whole_frame(rng, shape):
    image, intrinsics = smooth_image(HEIGHT, WIDTH) // 2 + 100, random_intrinsics(rng)
    fitted, fitted_intrinsics = resizing.resize_to_fit(image, intrinsics, *shape)
    assert fitted.shape == (*shape, 3)
    rows, columns = np.nonzero(fitted[:, :, 0])
    inner = rows.max() - rows.min() + 1, columns.max() - columns.min() + 1
    scale = min(shape[0] / HEIGHT, shape[1] / WIDTH)
    np.testing.assert_allclose(inner, (HEIGHT * scale, WIDTH * scale), atol=0.5)
    assert abs(rows.min() - (shape[0] - 1 - rows.max())) <= 1
    assert abs(columns.min() - (shape[1] - 1 - columns.max())) <= 1
    # The frame's outer corners keep their viewing rays: they now lie at the inner image's corners.
    corners = np.array([[-0.5, -0.5, 1], [WIDTH - 0.5, HEIGHT - 0.5, 1]]).T
    moved = fitted_intrinsics @ np.linalg.inv(intrinsics) @ corners
    expected = [
        [columns.min() - 0.5, columns.max() + 0.5],
        [rows.min() - 0.5, rows.max() + 0.5],
        [1, 1],
    ]
    np.testing.assert_allclose(moved, expected, atol=1e-9)


def test_fitting_frames_of_equal_aspect_pads_nothing():
    image = np.full((480, 640, 3), 9, np.uint8)
    fitted, intrinsics = resizing.resize_to_fit(image, np.eye(3), 192, 256)
    np.testing.assert_array_equal(fitted, np.full((192, 256, 3), 9))
    np.testing.assert_allclose(intrinsics, [[0.4, 0, -0.3], [0, 0.4, -0.3], [0, 0, 1]])


def test_resize_frame_takes_one_size_or_two():
    """By two, it keeps its aspect on a black canvas: 18 rows of 30, from row 6 on."""
    image = np.full((60, 100, 3), 40, np.uint8)
    image[:, :50] = 200
    half, intrinsics = resizing.resize_frame(image, np.eye(3), 30)
    expected = np.full((30, 50, 3), 40)
    expected[:, :25] = 200
    np.testing.assert_array_equal(half, expected)
    np.testing.assert_allclose(intrinsics, [[0.5, 0, -0.25], [0, 0.5, -0.25], [0, 0, 1]])
    fitted, intrinsics = resizing.resize_frame(image, np.eye(3), (30, 30))
    expected = np.zeros((30, 30, 3))
    expected[6:24], expected[6:24, :15] = 40, 200
    np.testing.assert_array_equal(fitted, expected)
    np.testing.assert_allclose(intrinsics, [[0.3, 0, -0.35], [0, 0.3, 5.65], [0, 0, 1]])


def test_center_crop_by_hand():
    image = np.arange(5 * 8 * 3, dtype=np.uint8).reshape(5, 8, 3)
    cropped, intrinsics = resizing.center_crop(image, np.eye(3), 3)
    np.testing.assert_array_equal(cropped, image[1:4, 2:5])
    np.testing.assert_array_equal(intrinsics, [[1, 0, -2], [0, 1, -1], [0, 0, 1]])


def test_random_crop_reaches_every_position(rng):
    image = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    seen = set()
    for _ in range(300):
        cropped, intrinsics = resizing.random_crop(image, np.eye(3), 3, rng)
        left, top = -intrinsics[0, 2], -intrinsics[1, 2]
        np.testing.assert_array_equal(
            cropped, image[int(top) : int(top) + 3, int(left) : int(left) + 3]
        )
        seen.add((top, left))
    assert seen == {(top, left) for top in range(2) for left in range(3)}


@pytest.mark.parametrize("crop", [resizing.center_crop, resizing.random_crop])
def test_crop_beyond_the_image_is_an_error(rng, crop):
    arguments = (rng,) if crop is resizing.random_crop else ()
    with pytest.raises(ValueError, match="crop of 9 px from an image of 20x8"):
        crop(np.zeros((8, 20, 3), np.uint8), np.eye(3), 9, *arguments)

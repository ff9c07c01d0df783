import cv2
import numpy as np
import pytest

from jaxreloc.data import transforms

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
        lambda i, k: transforms.resize_short_side(i, k, 40),
        lambda i, k: transforms.random_crop(i, k, 32, rng),
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
    half, half_intrinsics = transforms.resize_short_side(image, intrinsics, 2)
    np.testing.assert_array_equal(half[:, :, 0], [[0, 0, 100, 0]] * 2)
    # (2 + 0.5) / 2 - 0.5 = 0.75, (1 + 0.5) / 2 - 0.5 = 0.25
    np.testing.assert_allclose(half_intrinsics, [[5, 0, 0.75], [0, 10, 0.25], [0, 0, 1]])


@pytest.mark.parametrize(("height", "width"), [(480, 640), (640, 480), (256, 256), (100, 133)])
def test_short_side(height, width):
    image, _ = transforms.resize_short_side(np.zeros((height, width, 3), np.uint8), np.eye(3), 256)
    assert min(image.shape[:2]) == 256
    assert abs(max(image.shape[:2]) - 256 * max(height, width) / min(height, width)) <= 0.5


def test_shrinking_averages(rng):
    image = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    shrunk, _ = transforms.resize_short_side(image, np.eye(3), 10)
    expected = image.reshape(10, 4, 15, 4, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(shrunk, expected, atol=0.51)


@pytest.mark.parametrize("shape", [(48, 64), (64, 48), (50, 50)])
def test_fitting_pads_evenly_and_keeps_the_whole_frame(rng, shape):
    image, intrinsics = smooth_image(HEIGHT, WIDTH) // 2 + 100, random_intrinsics(rng)
    fitted, fitted_intrinsics = transforms.resize_to_fit(image, intrinsics, *shape)
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
    fitted, intrinsics = transforms.resize_to_fit(image, np.eye(3), 192, 256)
    np.testing.assert_array_equal(fitted, np.full((192, 256, 3), 9))
    np.testing.assert_allclose(intrinsics, [[0.4, 0, -0.3], [0, 0.4, -0.3], [0, 0, 1]])


def test_resize_frame_takes_one_size_or_two():
    image = np.zeros((60, 100, 3), np.uint8)
    assert transforms.resize_frame(image, np.eye(3), 30)[0].shape == (30, 50, 3)
    assert transforms.resize_frame(image, np.eye(3), (30, 30))[0].shape == (30, 30, 3)


TURNS = {1: cv2.ROTATE_90_COUNTERCLOCKWISE, 2: cv2.ROTATE_180, 3: cv2.ROTATE_90_CLOCKWISE}


@pytest.mark.parametrize("turns", TURNS)
def test_a_turned_camera_sees_every_point_in_its_colour(rng, turns):
    image = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    intrinsics = random_intrinsics(rng)
    turned, turned_intrinsics, turned_from_given = transforms.turn(image, intrinsics, turns)
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
    _, turned_intrinsics, rotation = transforms.turn(image, intrinsics, turns)
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
    turned, turned_intrinsics, rotation = transforms.turn(image, intrinsics, 1)
    np.testing.assert_array_equal(turned[0, :, 0], image[:, 7, 0])
    np.testing.assert_array_equal(turned_intrinsics, [[20, 0, 1], [0, 10, 5], [0, 0, 1]])
    np.testing.assert_array_equal(rotation @ [1, 0, 0], [0, -1, 0])  # what was right is above


def test_center_crop_by_hand():
    image = np.arange(5 * 8 * 3, dtype=np.uint8).reshape(5, 8, 3)
    cropped, intrinsics = transforms.center_crop(image, np.eye(3), 3)
    np.testing.assert_array_equal(cropped, image[1:4, 2:5])
    np.testing.assert_array_equal(intrinsics, [[1, 0, -2], [0, 1, -1], [0, 0, 1]])


def test_random_crop_reaches_every_position(rng):
    image = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    seen = set()
    for _ in range(300):
        cropped, intrinsics = transforms.random_crop(image, np.eye(3), 3, rng)
        left, top = -intrinsics[0, 2], -intrinsics[1, 2]
        np.testing.assert_array_equal(
            cropped, image[int(top) : int(top) + 3, int(left) : int(left) + 3]
        )
        seen.add((top, left))
    assert seen == {(top, left) for top in range(2) for left in range(3)}


@pytest.mark.parametrize("crop", [transforms.center_crop, transforms.random_crop])
def test_crop_beyond_the_image_is_an_error(rng, crop):
    arguments = (rng,) if crop is transforms.random_crop else ()
    with pytest.raises(ValueError, match="crop of 9 px from an image of 20x8"):
        crop(np.zeros((8, 20, 3), np.uint8), np.eye(3), 9, *arguments)


def one_pixel(*rgb):
    return np.array([[rgb]], np.uint8)


def test_brightness_by_hand():
    np.testing.assert_array_equal(
        transforms.adjust_brightness(one_pixel(10, 100, 200), 1.3), one_pixel(13, 130, 255)
    )
    np.testing.assert_array_equal(
        transforms.adjust_brightness(one_pixel(10, 100, 200), 0.0), one_pixel(0, 0, 0)
    )


def test_saturation_by_hand():
    # Luma of (100, 50, 200): 29.9 + 29.35 + 22.8 = 82.05.
    grey = transforms.adjust_saturation(one_pixel(100, 50, 200), 0.0)
    np.testing.assert_array_equal(grey, one_pixel(82, 82, 82))
    # 1.4 * v - 0.4 * 82.05: 107.18, 37.18, 247.18.
    vivid = transforms.adjust_saturation(one_pixel(100, 50, 200), 1.4)
    np.testing.assert_array_equal(vivid, one_pixel(107, 37, 247))


def test_contrast_by_hand():
    # Lumas 82.05 and 0: their mean is 41.025.
    image = np.concatenate([one_pixel(100, 50, 200), one_pixel(0, 0, 0)], axis=1)
    # 1.4 * v - 0.4 * 41.025 and 0.5 * v + 0.5 * 41.025.
    stark = transforms.adjust_contrast(image, 1.4)
    np.testing.assert_array_equal(stark, [[[124, 54, 255], [0, 0, 0]]])
    flat = transforms.adjust_contrast(image, 0.5)
    np.testing.assert_array_equal(flat, [[[71, 46, 121], [21, 21, 21]]])


@pytest.mark.parametrize(
    "adjust",
    [
        transforms.adjust_brightness,
        transforms.adjust_contrast,
        transforms.adjust_saturation,
    ],
)
def test_adjusting_by_one_changes_nothing(rng, adjust):
    image = rng.integers(0, 256, (7, 9, 3), dtype=np.uint8)
    np.testing.assert_array_equal(adjust(image, 1.0), image)


def test_jitter_is_the_three_adjustments_in_some_order(rng):
    """Against float arithmetic written out, over all orders that the generator comes up with."""
    image = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    intrinsics = random_intrinsics(rng)
    luma = np.array([0.299, 0.587, 0.114])

    def by_float(order, factors):
        x = image.astype(np.float64)
        for k in order:
            towards = (0.0, (x @ luma).mean(), (x @ luma)[..., None])[k]
            x = np.clip(factors[k] * x + (1 - factors[k]) * towards, 0, 255)
        return x

    orders = set()
    for seed in range(60):
        draws, replay = np.random.default_rng(seed), np.random.default_rng(seed)
        jittered, same = transforms.color_jitter(image, intrinsics, 0.4, draws)
        factors = replay.uniform(0.6, 1.4, 3)
        order = tuple(replay.permutation(3))
        np.testing.assert_allclose(jittered, by_float(order, factors), atol=2.5)
        np.testing.assert_array_equal(same, intrinsics)
        orders.add(order)
    assert len(orders) == 6


def test_colour_steps_agree_with_opencv_grey(rng):
    image = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    grey = transforms.adjust_saturation(image, 0.0)
    expected = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    for channel in range(3):
        np.testing.assert_allclose(grey[..., channel], expected, atol=1)

"""Pictures out of ROS bags of each kind, their cameras, and what is said of wrong ones."""

import cv2
import numpy as np
import pytest

from jaxreloc.formats.readers.ros_bag import bag_pictures, is_bag, picture_topic
from jaxreloc.usage import UsageError
from tests.formats.readers.bags import KINDS, Messages, write_bag

WIDTH, HEIGHT = 64, 48
K = np.array([[60.0, 0, 31.0], [0, 61.0, 24.0], [0, 0, 1]])
TOPIC = "/camera/color/image_raw"


@pytest.fixture
def pixels(rng):
    return cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), (WIDTH, HEIGHT))


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_and_their_camera_come_out(tmp_path, pixels, kind):
    make = Messages(kind)
    several = [
        make.image(pixels, "rgb8", 1_700_000_000_123_456_789),
        make.image(pixels[..., ::-1], "bgr8", padding=5),
    ]
    info = make.camera_info(WIDTH, HEIGHT, K, [0.0] * 5)
    topics = {TOPIC: several, "/camera/color/camera_info": [info], "/chat": [make.text()]}
    path = write_bag(tmp_path, kind, make, topics)
    assert is_bag(path) and picture_topic(path, None) == TOPIC
    first, second = bag_pictures(path, TOPIC)
    assert (first.time, second.time) == ("1700000000.123456789", "5.100000000")
    for found in (first, second):
        np.testing.assert_array_equal(found.image, pixels)
        np.testing.assert_array_equal(found.camera.intrinsics, K)
    if kind == "mcap":
        (file,) = path.glob("*.mcap")
        assert is_bag(file)
        np.testing.assert_array_equal(next(bag_pictures(file, TOPIC)).image, pixels)


@pytest.mark.parametrize("kind", ["bag", "mcap"])
def test_compressed_pictures_and_several_topics(tmp_path, pixels, kind):
    make = Messages(kind)
    compressed = f"{TOPIC}/compressed"
    depth = make.compressed(pixels)
    topics = {
        TOPIC: [make.image(pixels, "rgb8")],
        compressed: [make.compressed(pixels)],
        f"{TOPIC}/compressedDepth": [depth],
        "/camera/color/camera_info": [make.camera_info(WIDTH, HEIGHT, K, [])],
    }
    path = write_bag(tmp_path, kind, make, topics)
    with pytest.raises(UsageError, match=f"several .*--topic: {TOPIC}, {compressed}$"):
        picture_topic(path, None)
    with pytest.raises(UsageError, match=f"no pictures in --topic=/x; .*: {TOPIC}, {compressed}$"):
        picture_topic(path, "/x")
    assert picture_topic(path, compressed) == compressed
    (found,) = bag_pictures(path, compressed)
    np.testing.assert_array_equal(found.image, pixels)
    np.testing.assert_array_equal(found.camera.intrinsics, K)
    (found,) = bag_pictures(path, compressed, with_cameras=False)
    assert found.camera is None


@pytest.mark.parametrize("model", ["plumb_bob", "rational_polynomial", "equidistant"])
def test_distortion_is_undone(tmp_path, pixels, model):
    make = Messages("mcap")
    D = {
        "plumb_bob": [-0.2, 0.05, 0.001, -0.002, 0.0],
        "rational_polynomial": [-0.2, 0.05, 0.001, -0.002, 0.01, 0.1, 0.02, 0.0],
        "equidistant": [0.02, -0.01, 0.003, 0.0],
    }[model]
    info = make.camera_info(WIDTH, HEIGHT, K, D, model)
    topics = {TOPIC: [make.image(pixels, "rgb8")], "/camera/color/camera_info": [info]}
    (found,) = bag_pictures(write_bag(tmp_path, "mcap", make, topics), TOPIC)
    undistort = cv2.fisheye.undistortImage if model == "equidistant" else cv2.undistort
    options = {"Knew": K} if model == "equidistant" else {}
    expected = undistort(pixels, K, np.array(D), **options)
    assert np.abs(found.image.astype(int) - expected).max() <= 2
    assert np.abs(found.image.astype(int) - pixels).max() > 10


def test_rectified_pictures_have_the_projections_camera(tmp_path, pixels):
    make = Messages("bag")
    P = np.array([[55.0, 0, 30.0, -7.0], [0, 56.0, 23.0, 0], [0, 0, 1, 0]])
    info = make.camera_info(WIDTH, HEIGHT, K, [0.3, 0, 0, 0, 0], P=P)
    topics = {"/left/image_rect_color": [make.image(pixels, "rgb8")], "/left/camera_info": [info]}
    (found,) = bag_pictures(write_bag(tmp_path, "bag", make, topics), "/left/image_rect_color")
    np.testing.assert_array_equal(found.camera.intrinsics, P[:, :3])
    np.testing.assert_array_equal(found.image, pixels)


def bayer(pixels, pattern):
    """One channel a pixel; the pattern's letters are of the upper row, then of the lower."""
    found = np.empty(pixels.shape[:2], np.uint8)
    for i, letter in enumerate(pattern):
        row, column = divmod(i, 2)
        found[row::2, column::2] = pixels[row::2, column::2, "rgb".index(letter)]
    return found


BAYER = [f"bayer_{pattern}8" for pattern in ("rggb", "bggr", "gbrg", "grbg")]


@pytest.mark.parametrize("encoding", ["mono8", "rgba8", "bgra8", "yuv422", *BAYER])
def test_encodings(tmp_path, rng, encoding):
    color = rng.integers(30, 220, 3).astype(np.uint8)
    pixels = np.tile(color, (HEIGHT, WIDTH, 1))
    alpha = np.full((HEIGHT, WIDTH, 1), 9, np.uint8)
    raw = {
        "mono8": pixels[..., 0],
        "rgba8": np.concatenate([pixels, alpha], axis=2),
        "bgra8": np.concatenate([pixels[..., ::-1], alpha], axis=2),
        "yuv422": None,
    }.get(encoding)
    if encoding.startswith("bayer"):
        raw = bayer(pixels, encoding[6:10])
    if encoding == "yuv422":  # U Y V Y, in the limited range of BT.601
        r, g, b = color.astype(float)
        y = 16 + 0.257 * r + 0.504 * g + 0.098 * b
        u, v = 128 - 0.148 * r - 0.291 * g + 0.439 * b, 128 + 0.439 * r - 0.368 * g - 0.071 * b
        raw = np.tile(np.uint8(np.rint([[u, y], [v, y]])), (HEIGHT, WIDTH // 2, 1))
    make = Messages("mcap")
    path = write_bag(tmp_path, "mcap", make, {TOPIC: [make.image(raw, encoding)]})
    (found,) = bag_pictures(path, TOPIC, with_cameras=False)
    expected = np.repeat(pixels[..., :1], 3, axis=2) if encoding == "mono8" else pixels
    inside = (slice(2, -2), slice(2, -2))
    assert np.abs(found.image.astype(int) - expected)[inside].max() <= 4


def test_pictures_that_cannot_be_read_do_not_stop_the_others(tmp_path, pixels):
    make = Messages("mcap")
    short = make.image(pixels, "rgb8")
    short.data = short.data[:100]
    several = [make.image(pixels[..., 0], "32FC1"), short, make.image(pixels, "rgb8")]
    path = write_bag(tmp_path, "mcap", make, {TOPIC: several})
    first, second, third = bag_pictures(path, TOPIC)
    assert first.image is None and "encoding '32FC1' is not read" in first.problem
    assert second.image is None and "too few bytes for 64 x 48" in second.problem
    np.testing.assert_array_equal(third.image, pixels)


def test_what_is_wrong_is_one_line(tmp_path, pixels, caplog):
    make = Messages("mcap")
    (tmp_path / "text").mkdir()
    path = write_bag(tmp_path / "text", "mcap", make, {"/chat": [make.text()]})
    with pytest.raises(UsageError, match="no topic with pictures; topics: /chat"):
        picture_topic(path, None)
    (tmp_path / "size").mkdir()
    info = make.camera_info(32, 24, K / np.array([[2], [2], [1]]), [])
    topics = {TOPIC: [make.image(pixels, "rgb8")], "/camera/color/camera_info": [info]}
    with pytest.raises(UsageError, match="of 32 x 24 pictures, those of .* are 64 x 48; give"):
        list(bag_pictures(write_bag(tmp_path / "size", "mcap", make, topics), TOPIC))
    (tmp_path / "model").mkdir()
    info = make.camera_info(WIDTH, HEIGHT, K, [0.1, 0, 0, 0], "omni")
    topics = {TOPIC: [make.image(pixels, "rgb8")], "/camera/color/camera_info": [info]}
    with pytest.raises(UsageError, match="model 'omni' is not read .known: plumb_bob"):
        list(bag_pictures(write_bag(tmp_path / "model", "mcap", make, topics), TOPIC))
    (tmp_path / "none").mkdir()
    zero = make.camera_info(WIDTH, HEIGHT, np.zeros((3, 3)), [])
    topics = {TOPIC: [make.image(pixels, "rgb8")], "/camera/color/camera_info": [zero]}
    (found,) = bag_pictures(write_bag(tmp_path / "none", "mcap", make, topics), TOPIC)
    assert found.camera is None and "no calibrated camera_info beside" in caplog.text


def test_a_folder_of_pictures_with_metadata_is_no_bag(tmp_path):
    (tmp_path / "metadata.yaml").touch()
    (tmp_path / "a.jpg").touch()
    assert not is_bag(tmp_path)
    (tmp_path / "a_0.db3.zstd").touch()
    assert is_bag(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_bags_are_one_line_or_some_pictures(tmp_path, rng, pixels, kind):
    make = Messages(kind)
    path = write_bag(tmp_path, kind, make, {TOPIC: [make.image(pixels, "rgb8")] * 3})
    file = path if kind == "bag" else next(path.glob(f"*.{kind}"))
    whole = file.read_bytes()
    for _ in range(30):
        damaged = bytearray(whole[: rng.integers(len(whole))] if rng.random() < 0.5 else whole)
        for place in rng.integers(0, max(len(damaged), 1), 8):
            damaged[place : place + 1] = rng.bytes(1)
        file.write_bytes(damaged)
        try:
            pictures = list(bag_pictures(path, picture_topic(path, None), with_cameras=False))
        except UsageError as error:
            assert str(path) in str(error)
        else:
            assert len(pictures) <= 3
    for content in (b"", b"hello"):
        file.write_bytes(content)
        with pytest.raises(UsageError, match="no ROS bag, or damaged|no topic with pictures"):
            picture_topic(path, None)

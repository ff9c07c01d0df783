import cv2
import numpy as np
import pytest

from jaxreloc.images import (
    DepthFiles,
    ImageFiles,
    decode_depth,
    decode_image,
    image_size,
    read_image,
)
from jaxreloc.usage import UsageError
from tests.formats.scenes import truncate


def encode(suffix, picture):
    ok, encoded = cv2.imencode(suffix, picture)
    assert ok
    return encoded.tobytes()


@pytest.fixture
def picture(rng):
    return rng.integers(0, 256, (12, 20, 3), np.uint8)


def test_decoding_gives_rgb(picture):
    np.testing.assert_array_equal(
        decode_image(encode(".png", picture), "a"), picture[..., ::-1]
    )


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_size_comes_from_the_header_and_is_width_then_height(tmp_path, picture, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encode(suffix, picture))
    assert image_size(path) == (20, 12) == image_size(path.read_bytes(), "a")
    assert read_image(path).shape == (12, 20, 3)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_picture_that_breaks_off_is_refused_by_name(tmp_path, rng, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encode(suffix, rng.integers(0, 256, (64, 64, 3), np.uint8)))
    truncate(path)
    with pytest.raises(UsageError, match=f"a{suffix}: not a readable picture"):
        ImageFiles((path,))[0]


def test_what_is_no_picture_is_refused_by_name(tmp_path):
    (tmp_path / "a.png").write_text("hello")
    for read in (read_image, image_size):
        with pytest.raises(UsageError, match="a.png: not a readable picture"):
            read(tmp_path / "a.png")
        with pytest.raises(UsageError, match="b.png: cannot be read"):
            read(tmp_path / "b.png")


def test_depth_is_metres_with_zero_for_none(tmp_path):
    raw = np.array([[0, 1, 1000], [2500, 65534, 65535]], np.uint16)
    encoded = encode(".png", raw)
    expected = np.array([[0, 0.001, 1], [2.5, 65.534, 0]], np.float32)
    np.testing.assert_allclose(decode_depth(encoded, "a"), expected, rtol=1e-6)
    (tmp_path / "a.png").write_bytes(encoded)
    fifths = DepthFiles((tmp_path / "a.png",), per_metre=5000.0)[0]
    np.testing.assert_allclose(fifths, expected / 5, rtol=1e-6)
    assert fifths.dtype == np.float32


def test_a_colour_picture_is_no_depth(picture):
    with pytest.raises(UsageError, match="^a.png: not a 16-bit depth"):
        decode_depth(encode(".png", picture), "a.png")

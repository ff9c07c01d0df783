import io
import os
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from jaxreloc.images import (
    ImageFiles,
    check_shape,
    decode_image,
    headers,
    image_size,
    read_depth,
    read_header,
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


def oriented(pixels, orientation, form):
    exif = Image.Exif()
    exif[274] = orientation
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, exif=exif, quality=95)
    return file.getvalue()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_upright_as_pillow_turns_them(rng, form, orientation):
    blocks = rng.integers(0, 256, (3, 5, 3), np.uint8).repeat(16, 0).repeat(16, 1)
    encoded = oriented(blocks, orientation, form)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(encoded))), np.float64)
    found = decode_image(encoded, "a")
    assert found.shape == expected.shape == (*image_size(encoded)[::-1], 3)
    assert np.abs(found - expected).mean() < 4  # two decoders of JPEG
    header = read_header(encoded)
    assert (header.stored_size, header.orientation) == ((80, 48), orientation)


@pytest.mark.parametrize("orientation", [0, 9, 300, 65535])
def test_an_orientation_that_is_none_is_left_alone(rng, orientation):
    pixels = rng.integers(0, 256, (20, 30, 3), np.uint8)
    np.testing.assert_array_equal(decode_image(oriented(pixels, orientation, "PNG"), "a"), pixels)


def png_that_claims(width, height):
    def chunk(kind, data):
        checked = kind + data
        return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_too_many_pixels_are_refused_by_the_header(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(png_that_claims(40_000, 40_000))
    assert path.stat().st_size < 80
    for read in (read_image, image_size, read_depth):
        with pytest.raises(UsageError, match="a.png: 40000 x 40000 pixels are more than the 200"):
            read(path)
    path.write_bytes(png_that_claims(20_000, 10_000))
    assert image_size(path) == (20_000, 10_000)
    with pytest.raises(UsageError, match="not a readable picture"):
        read_image(path)
    monkeypatch.setattr(headers, "_max_pixels", headers.MAX_PIXELS)
    headers.set_max_pixels(1_000_000)
    with pytest.raises(UsageError, match="more than the 1 million"):
        image_size(path)


@pytest.mark.parametrize("size", [(20_000, 20), (20, 20_000), (500, 1), (15, 15), (321, 16)])
def test_what_is_no_photograph_is_refused(size):
    with pytest.raises(UsageError, match=f"^a: {size[0]} x {size[1]} pixels are no photograph"):
        check_shape(size, "a")
    check_shape((320, 16), "a")


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").mkdir()
    for read in (read_image, image_size):
        with pytest.raises(UsageError, match="a.jpg: is not a file but a folder, a pipe or"):
            read(tmp_path / "a.jpg")
        with pytest.raises(UsageError, match="b.jpg: is not a file but a folder"):
            read(tmp_path / "b.jpg")
        with pytest.raises(UsageError, match="cannot be a file's name"):
            read(tmp_path / "a\0.jpg")
        with pytest.raises(UsageError, match="cannot be read .File name too long"):
            read(tmp_path / ("a" * 5000))


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_the_focal_length_of_exif_is_of_the_diagonal(form):
    exif = Image.Exif()
    exif[274], exif[0x8769] = 6, {0xA405: 26}
    file = io.BytesIO()
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(file, form, exif=exif)
    header = read_header(file.getvalue(), "a")
    assert header.focal_35mm == 26
    assert header.focal_px == pytest.approx(26 * 50 / np.hypot(36, 24))


@pytest.mark.parametrize("value", [0, None, "wide"])
def test_a_focal_length_that_is_none_is_left_out(value):
    exif = Image.Exif()
    exif[0x8769] = {} if value is None else {0xA405: value}
    file = io.BytesIO()
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(file, "PNG", exif=exif)
    assert read_header(file.getvalue(), "a").focal_px is None

"""What EXIF says of a picture, written by Pillow."""

import io

import numpy as np
import pytest
from PIL import Image

from jaxreloc.images import PICTURE_SUFFIXES, decode_image, read_header
from jaxreloc.usage import UsageError


def header(exif=None, capture=None, gps=None, form="JPEG", size=(40, 30)):
    tags = Image.Exif()
    tags.update(exif or {})
    for number, folder in ((0x8769, capture), (0x8825, gps)):
        if folder is not None:
            tags[number] = folder
    file = io.BytesIO()
    Image.fromarray(np.zeros((*size[::-1], 3), np.uint8)).save(file, form, exif=tags)
    return read_header(file.getvalue(), "a")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("south", [False, True])
def test_the_place_is_in_degrees_and_metres(form, south):
    gps = {1: "S" if south else "N", 2: (60.0, 11.0, 12.12), 3: "W" if south else "E"}
    gps |= {4: (24.0, 49.0, 41.88), 5: b"\1" if south else b"\0", 6: 12.5}
    sign = -1 if south else 1
    expected = np.array([60.1867, 24.8283, 12.5]) * sign
    np.testing.assert_allclose(header(gps=gps, form=form).position, expected, atol=1e-6)


@pytest.mark.parametrize(
    "gps",
    [
        None,
        {},
        {1: "N", 2: (60.0, 0.0, 0.0)},
        {1: "N", 2: (95.0, 0.0, 0.0), 3: "E", 4: (24.0, 0.0, 0.0)},
        {1: "N", 2: (0.0, 0.0, 0.0), 3: "E", 4: (0.0, 0.0, 0.0)},
    ],
    ids=["none", "empty", "half", "beyond the pole", "no signal"],
)
def test_a_place_that_is_none_is_left_out(gps):
    assert header(gps=gps).position is None


def test_without_a_height_it_is_the_sea_s():
    gps = {1: "N", 2: (60.0, 0.0, 0.0), 3: "E", 4: (24.0, 0.0, 0.0)}
    assert header(gps=gps).position == (60.0, 24.0, 0.0)


@pytest.mark.parametrize("unit, per_unit", [(2, 25.4), (3, 10.0), (4, 1.0)])
def test_the_focal_plane_gives_the_focal_length(unit, per_unit):
    """Of a sensor of 8 mm with 4000 pixels, in a picture that has been scaled to 40."""
    capture = {0x920A: 6.0, 0xA20E: 4000 / 8 * per_unit, 0xA210: unit, 0xA002: 4000, 0xA003: 3000}
    found = header(capture=capture)
    assert found.focal_px == pytest.approx(6.0 / 8 * 40)
    of_film = header(capture=capture | {0xA405: 30})
    assert of_film.focal_px == pytest.approx(30 * 50 / np.hypot(36, 24))
    turned = header({274: 6}, capture=capture)
    assert turned.size == (30, 40) and turned.focal_px == pytest.approx(6.0 / 8 * 40)


@pytest.mark.parametrize("missing", [0x920A, 0xA20E, 0xA002])
def test_half_of_a_focal_plane_gives_nothing(missing):
    capture = {0x920A: 6.0, 0xA20E: 500.0, 0xA210: 4, 0xA002: 4000, 0xA003: 3000}
    del capture[missing]
    assert header(capture=capture).focal_px is None


def test_the_camera_has_a_name():
    named = header({0x010F: "Maker ", 0x0110: "Model"}, capture={0xA434: "Lens"})
    assert named.camera_name == "Maker Model Lens"
    assert header().camera_name == ""


def test_heic_is_upright_and_has_its_exif(rng):
    pillow_heif = pytest.importorskip("pillow_heif")
    pixels = rng.integers(0, 256, (12, 20, 3), np.uint8).repeat(16, 0).repeat(16, 1)
    tags = Image.Exif()
    tags[274], tags[0x8769] = 6, {0xA405: 26}
    file = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(pixels)).save(file, quality=95, exif=tags.tobytes())
    encoded = file.getvalue()
    found = read_header(encoded, "a.heic")
    assert (found.size, found.orientation, found.focal_35mm) == ((192, 320), 1, 26)
    upright = np.rot90(pixels, -1)  # as orientation 6 says
    assert np.abs(decode_image(encoded, "a").astype(float) - upright).mean() < 4
    with pytest.raises(UsageError, match="a: not a readable picture"):
        decode_image(encoded[: len(encoded) // 2], "a")
    assert ".heic" in PICTURE_SUFFIXES

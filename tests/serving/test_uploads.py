"""What a request brings is read as it is meant, or refused with its status and a sentence."""

import io
import json
import warnings

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from jaxreloc import images
from jaxreloc.localization.assumed_camera import UNKNOWN_DEVIATION
from jaxreloc.localization.map.encoding import encode_frames
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.serving.answering.map_shelf import OpenMap
from jaxreloc.serving.request_limits import Refused
from jaxreloc.serving.uploads import read_name, read_pose, read_prior, read_upload
from tests.localization.test_toy_network import BrightnessNetwork, corridor
from tests.serving import toy_maps

GIVEN = (30.0, 31.0, 20.0, 9.0)
NOT_GIVEN = (None,) * 4
MANY = 10_000  # pixels


@pytest.fixture(scope="module")
def scene_map():
    """Images a metre apart along x, at a height of a metre."""
    network = BrightnessNetwork()
    return SceneMap.from_images(network, encode_frames(corridor(np.arange(5.0), 1.0), network))


@pytest.fixture
def opened(scene_map):
    return OpenMap("a", toy_maps.ToyLocalizer(scene_map), generation=0, num_bytes=0)


def png(pixels, orientation=1, capture=()) -> bytes:
    file, exif = io.BytesIO(), Image.Exif()
    exif[274], exif[0x8769] = orientation, dict(capture)
    Image.fromarray(pixels).save(file, "png", exif=exif)
    return file.getvalue()


def noise(rng, height=24, width=32):
    return rng.integers(0, 256, (height, width, 3), np.uint8)


def refusal(function, *arguments) -> tuple[int, str]:
    with pytest.raises(Refused) as refused:
        function(*arguments)
    return refused.value.status_code, refused.value.detail


def test_a_picture_comes_with_the_camera_that_is_given(rng, opened):
    pixels = noise(rng)
    upload = read_upload(png(pixels), GIVEN, opened, MANY)
    np.testing.assert_array_equal(upload.image, pixels)
    np.testing.assert_array_equal(upload.intrinsics, [[30, 0, 20], [0, 31, 9], [0, 0, 1]])
    assert (upload.focal_deviation, upload.camera_source) == (None, "given")


def test_a_camera_of_the_stored_picture_is_turned_with_it(rng, opened):
    """Orientation 6: the upright picture has stored pixel (x, y) at (height - 1 - y, x)."""
    pixels = noise(rng)
    upload = read_upload(png(pixels, orientation=6), GIVEN, opened, MANY)
    np.testing.assert_array_equal(upload.image, np.rot90(pixels, -1))
    turned = [[31, 0, 23 - 9], [0, 30, 20], [0, 0, 1]]
    np.testing.assert_allclose(upload.intrinsics, turned, atol=1e-12)
    # Its principal point is nearer to the centre of the upright picture, 24 pixels wide.
    upright = read_upload(png(pixels, orientation=6), (30.0, 31.0, 9.0, 20.0), opened, MANY)
    np.testing.assert_array_equal(upright.intrinsics, [[30, 0, 9], [0, 31, 20], [0, 0, 1]])


def test_where_the_size_does_not_tell_a_camera_is_of_the_upright_picture(rng, opened):
    """Orientation 3: upside down, and as wide and high as before."""
    pixels = noise(rng)
    upload = read_upload(png(pixels, orientation=3), GIVEN, opened, MANY)
    np.testing.assert_array_equal(upload.image, pixels[::-1, ::-1])
    np.testing.assert_array_equal(upload.intrinsics, [[30, 0, 20], [0, 31, 9], [0, 0, 1]])


@pytest.mark.parametrize("missing", range(4))
def test_some_numbers_of_a_camera_are_none(rng, opened, missing):
    given = tuple(None if i == missing else x for i, x in enumerate(GIVEN))
    status, said = refusal(read_upload, png(noise(rng)), given, opened, MANY)
    name = ("fx", "fy", "cx", "cy")[missing]
    assert status == 422 and f"but {name} is missing" in said


@pytest.mark.parametrize("bad", [0.0, -30.0, float("nan"), float("inf")])
def test_a_focal_length_that_is_none_is_refused(rng, opened, bad):
    for given in ((bad, 30.0, 15.5, 11.5), (30.0, bad, 15.5, 11.5)):
        status, said = refusal(read_upload, png(noise(rng)), given, opened, MANY)
        assert status == 422 and "the intrinsics" in said


def test_without_a_camera_it_is_the_maps_or_exifs(rng, opened, scene_map):
    """The map's images are as large; a focal length by EXIF is of a film of 36 x 24 mm."""
    plain = png(noise(rng))
    by_exif = png(noise(rng), capture={0xA405: 52})
    for searches, deviation in ((False, None), (True, UNKNOWN_DEVIATION)):
        if searches:
            opened.searches.set()
        upload = read_upload(plain, NOT_GIVEN, opened, MANY)
        np.testing.assert_array_equal(upload.intrinsics, scene_map.intrinsics[0])
        assert (upload.focal_deviation, upload.camera_source) == (deviation, "map")
        upload = read_upload(by_exif, NOT_GIVEN, opened, MANY)
        focal = 52 * np.hypot(32, 24) / np.hypot(36, 24)
        expected = [[focal, 0, 15.5], [0, focal, 11.5], [0, 0, 1]]
        np.testing.assert_allclose(upload.intrinsics, expected)
        assert (upload.focal_deviation is None) == (not searches)
        assert upload.camera_source == "exif"


def test_nothing_is_decoded_of_what_is_too_large(rng, opened, monkeypatch):
    encoded = png(noise(rng))
    assert read_upload(encoded, GIVEN, opened, 32 * 24).image.shape == (24, 32, 3)
    monkeypatch.setattr(images, "decode_image", None)  # calling it raises TypeError
    status, said = refusal(read_upload, encoded, GIVEN, opened, 32 * 24 - 1)
    assert status == 413 and "more than 0.000767 million pixels" in said


def test_what_is_no_photograph_is_refused(rng, opened):
    whole = png(noise(rng))
    cases = {
        b"": (400, "empty"),
        rng.bytes(100): (415, "no readable"),
        whole[: len(whole) // 2]: (415, "no readable"),
        png(noise(rng, 15, 32)): (422, "32 x 15 pixels are no photograph"),
        png(noise(rng, 16, 321)): (422, "321 x 16 pixels are no photograph"),
    }
    for encoded, (status, words) in cases.items():
        found, said = refusal(read_upload, encoded, GIVEN, opened, MANY)
        assert found == status and words in said and "\n" not in said


def test_a_place_that_is_known_roughly_is_a_ball(scene_map):
    assert read_prior(None, scene_map) is None and read_prior("", scene_map) is None
    near = read_prior("2,1,0,1.5", scene_map)
    np.testing.assert_array_equal(near, [False, True, True, True, False])
    np.testing.assert_array_equal(read_prior(" 2 , 1e0, -0, 100", scene_map), [True] * 5)
    longer = "2,1,0," + "0" * 300 + "1.5"
    np.testing.assert_array_equal(read_prior(longer, scene_map), near)


@pytest.mark.parametrize(
    "text",
    ["2,1,0", "2,1,0,1,1", "2,1,0,x", "2,1,0,0", "2,1,0,-1", "nan,1,0,1", "2,1,0,inf", "a", ",,,"],
)
def test_a_place_without_four_numbers_is_refused(scene_map, text):
    status, said = refusal(read_prior, text, scene_map)
    assert status == 422 and "x,y,z,radius" in said


def test_a_place_without_images_says_where_the_next_one_is(scene_map):
    status, said = refusal(read_prior, "2,1,7,1.5", scene_map)
    assert status == 422 and "7 away, enlarge the radius" in said


def test_a_pose_is_its_rows(rng):
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = Rotation.random(rng=rng).as_matrix(), rng.normal(size=3)
    np.testing.assert_allclose(read_pose(json.dumps(pose.tolist())), pose, atol=1e-12)
    off = pose + np.pad(np.full((3, 3), 1e-5), ((0, 1), (0, 1)))  # as of few digits
    found = read_pose(json.dumps(off.tolist()))
    np.testing.assert_allclose(found[:3, :3] @ found[:3, :3].T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(found, pose, atol=1e-4)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "eye",
        "{}",
        "null",
        "[]",
        "[[1,0,0,0],[0,1,0,0],[0,0,1,0]]",
        "[[1,0,0,0],[0,1,0,0],[0,0,1],[0,0,0,1]]",
        '[[1,0,0,"x"],[0,1,0,0],[0,0,1,0],[0,0,0,1]]',
        "[[1,0,0,NaN],[0,1,0,0],[0,0,1,0],[0,0,0,1]]",
        "[[2,0,0,0],[0,2,0,0],[0,0,2,0],[0,0,0,1]]",
        "[[1,0,0,0],[0,1,0,0],[0,0,-1,0],[0,0,0,1]]",
        "[[1,0,0,0],[0,1,0,0],[0,0,1,0],[0,0,1,1]]",
        f"[[1{'0' * 400},0,0,0],[0,1,0,0],[0,0,1,0],[0,0,0,1]]",
        "[" * 100_000,
    ],
    ids=range(14),
)
def test_what_is_no_pose_is_refused(text):
    with warnings.catch_warnings(action="error"):
        status, said = refusal(read_pose, text)
    assert status == 422 and said.startswith("world_from_cam") and len(said) < 300


@pytest.mark.parametrize("name", ["a.png", "A.JPG", "b c.jpeg", "ö.webp", "a.b.tiff", "-.bmp"])
def test_the_name_of_a_picture_is_kept(name):
    assert read_name(name) == name
    longest = "x" * (200 - len(name)) + name
    assert read_name(longest) == longest
    assert refusal(read_name, "x" + longest)[0] == 422


@pytest.mark.parametrize(
    "name",
    [None, "", ".png", "..", "../a.png", "/a.png", "a/b.png", "a/", "a\n.png", "a\0.png",
     "\u202ea.png", "\ud800.png"],
    ids=ascii,
)  # fmt: skip
def test_a_name_that_leads_elsewhere_or_does_not_print_is_refused(name):
    assert refusal(read_name, name) == (
        422,
        "the name of the image is no plain file name; give another as name",
    )


@pytest.mark.parametrize("name", ["a", "a.txt", "a.png.exe", "png", "a.npy"])
def test_a_name_of_no_picture_is_refused(name):
    status, said = refusal(read_name, name)
    assert status == 422 and "does not end in .bmp, " in said and ".png" in said

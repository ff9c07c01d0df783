"""Which camera a query is seen with, and how well its focal length is known."""

import io
import types

import numpy as np
import pytest
from PIL import Image

from jaxreloc.formats.common.camera_models import Camera, undistorted
from jaxreloc.images import PictureHeader, read_header
from jaxreloc.localization.assumed_camera import EXIF_DEVIATION, UNKNOWN_DEVIATION, AssumedCamera
from jaxreloc.localization.jobs.query_cameras import QueryCameras
from jaxreloc.localization.jobs.query_images import QueryImage
from jaxreloc.usage import UsageError

SIZE = (64, 48)


def localizer(searches=True):
    K = np.array([[68.0, 0, 33.0], [0, 72.0, 20.0], [0, 0, 1]])
    scene_map = types.SimpleNamespace(intrinsics=K[None], image_sizes=np.array([SIZE]))
    return types.SimpleNamespace(
        assumed_camera=AssumedCamera(scene_map),
        method=types.SimpleNamespace(finds_focal_length=searches),
    )


@pytest.fixture
def query(rng):
    image = rng.integers(0, 256, (*SIZE[::-1], 3), np.uint8)
    return QueryImage("phone/a.jpg", image, PictureHeader(SIZE))


def with_exif(query, focal_35mm):
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x8769] = {0xA405: focal_35mm}
    Image.fromarray(query.image).save(file, "JPEG", exif=exif)
    return QueryImage(query.name, query.image, read_header(file.getvalue(), "a"))


@pytest.mark.parametrize("searches", [True, False])
def test_without_anything_the_map_s_camera_is_where_the_search_begins(query, searches):
    cameras = QueryCameras(localizer(searches), None)
    seen = cameras.see(query)
    assert seen.focal_deviation == (UNKNOWN_DEVIATION if searches else None)
    np.testing.assert_allclose(seen.intrinsics, [[68, 0, 33], [0, 72, 20], [0, 0, 1]])
    other = QueryImage("b", query.image[:24, :32], PictureHeader((32, 24)))
    np.testing.assert_allclose(
        cameras.see(other).intrinsics, [[35, 0, 15.5], [0, 35, 11.5], [0, 0, 1]]
    )
    assert cameras.may_search == searches


@pytest.mark.parametrize("is_start, said", [(True, "searched from"), (False, "taken to be")])
def test_it_is_said_whether_a_search_follows(caplog, is_start, said):
    localizer().assumed_camera.intrinsics(*SIZE, is_start=is_start)
    assert f"the focal length of 64 x 48 images is {said} 70 px" in caplog.text


def test_exif_is_nearly_known(query):
    seen = QueryCameras(localizer(), None).see(with_exif(query, 40))
    assert seen.focal_deviation == EXIF_DEVIATION
    assert seen.intrinsics[0, 0] == pytest.approx(40 * 80 / np.hypot(36, 24))
    absurd = QueryCameras(localizer(), None).see(with_exif(query, 4000))
    assert absurd.focal_deviation == UNKNOWN_DEVIATION


def test_a_bag_s_camera_is_known(query):
    camera = Camera(60.0, 61.0, 30.0, 22.0, *SIZE)
    given = QueryImage(query.name, query.image, query.header, camera)
    seen = QueryCameras(localizer(), None).see(given)
    assert seen.focal_deviation is None
    np.testing.assert_array_equal(seen.intrinsics, camera.intrinsics)


def test_one_camera_of_all(query, tmp_path):
    (tmp_path / "k.txt").write_text("60 61 31.5 23.5")
    cameras = QueryCameras(localizer(), tmp_path / "k.txt")
    seen = cameras.see(with_exif(query, 40))
    assert seen.focal_deviation is None and not cameras.may_search
    np.testing.assert_array_equal(seen.intrinsics, [[60, 0, 31.5], [0, 61, 23.5], [0, 0, 1]])


def test_a_camera_with_distortion_is_undone(query, tmp_path):
    (tmp_path / "k.txt").write_text("phone/ SIMPLE_RADIAL 64 48 60 32 24 -0.2\n")
    cameras = QueryCameras(localizer(), tmp_path / "k.txt")
    seen = cameras.see(query)
    camera = Camera(60.0, 60.0, 31.5, 23.5, *SIZE, distortion=(-0.2, 0.0, 0.0, 0.0))
    np.testing.assert_array_equal(seen.intrinsics, camera.intrinsics)
    np.testing.assert_array_equal(seen.image, undistorted(query.image, camera))
    assert (seen.image != query.image).any() and seen.focal_deviation is None
    with pytest.raises(UsageError, match="k.txt: has no camera of b.jpg"):
        cameras.see(QueryImage("b.jpg", query.image, query.header))
    small = QueryImage("phone/b.jpg", query.image[:24], PictureHeader((64, 24)))
    with pytest.raises(UsageError, match="k.txt: the intrinsics of phone/b.jpg are for 64 x 48"):
        cameras.see(small)


def test_a_file_that_is_neither_is_said_before_the_work(tmp_path):
    (tmp_path / "k.txt").write_text("hello\n")
    with pytest.raises(UsageError, match="k.txt"):
        QueryCameras(localizer(), tmp_path / "k.txt")

import dataclasses
import re

import cv2
import numpy as np
import pytest

from jaxreloc.formats.common.camera_models import (
    Camera,
    UndistortedImages,
    contradiction,
    from_corner_convention,
    pinhole,
    turned_upright,
)
from jaxreloc.images import PictureHeader
from jaxreloc.usage import UsageError

WIDE = Camera(200.0, 210.0, 161.0, 118.0, 320, 240)


def seen(camera, points):
    """A picture with a bright dot where `camera` sees each point, by OpenCV's own projection."""
    project = cv2.fisheye.projectPoints if camera.fisheye else cv2.projectPoints
    pixels, _ = project(
        points[:, None], np.zeros(3), np.zeros(3), camera.intrinsics, np.array(camera.distortion)
    )
    y, x = np.mgrid[: camera.height, : camera.width]
    picture = np.zeros((camera.height, camera.width))
    for u, v in pixels[:, 0]:
        picture += 250 * np.exp(-((x - u) ** 2 + (y - v) ** 2) / 8)
    return np.repeat(np.clip(picture, 0, 255).astype(np.uint8)[..., None], 3, axis=-1)


@pytest.mark.parametrize(
    "camera",
    [
        dataclasses.replace(WIDE, distortion=(-0.2, 0.05, 0.003, -0.002, 0.01)),
        dataclasses.replace(WIDE, distortion=(0.03, -0.01, 0.002, 0.0), fisheye=True),
    ],
    ids=["radial", "fisheye"],
)
def test_undistorted_pictures_show_points_where_the_pinhole_camera_sees_them(camera, rng):
    points = np.array([[x, y, 3.0] for x in (-1.5, 0.0, 1.6) for y in (-1.2, 0.1, 1.1)])
    points += rng.uniform(-0.1, 0.1, points.shape)
    image = UndistortedImages([seen(camera, points)], (camera,))[0]
    pixels = points @ camera.intrinsics.T
    for u, v in pixels[:, :2] / pixels[:, 2:]:
        window = image[int(v) - 6 : int(v) + 8, int(u) - 6 : int(u) + 8, 0].astype(float)
        y, x = np.mgrid[int(v) - 6 : int(v) + 8, int(u) - 6 : int(u) + 8]
        found = [(window * x).sum() / window.sum(), (window * y).sum() / window.sum()]
        np.testing.assert_allclose(found, [u, v], atol=0.15)


def test_a_pinhole_picture_passes_unchanged(rng):
    image = rng.integers(0, 256, (240, 320, 3), np.uint8)
    zero = dataclasses.replace(WIDE, distortion=(0.0, 0.0, 0.0, 0.0))
    assert UndistortedImages([image], (zero,))[0] is image


def test_corner_convention_counts_half_a_pixel_more():
    camera = from_corner_convention(500, 501, 320, 240, 640, 480)
    np.testing.assert_array_equal(
        camera.intrinsics, [[500, 0, 319.5], [0, 501, 239.5], [0, 0, 1]]
    )


@pytest.mark.parametrize("field", ["fx", "fy", "height"])
@pytest.mark.parametrize("value", [0, -3.0, float("nan")])
def test_a_camera_that_cannot_be_is_refused(field, value):
    with pytest.raises(UsageError, match="^cameras.txt: .*(image|finite|has no camera)"):
        dataclasses.replace(WIDE, **{field: value}).check("cameras.txt")


K = np.array([[500.0, 0, 320], [0, 505, 240], [0, 0, 1]])


def changed(row, column, value):
    matrix = K.copy()
    matrix[row, column] = value
    return matrix


@pytest.mark.parametrize(
    "wrong, message",
    [
        (changed(0, 0, np.nan), "not a 3x3 matrix of finite numbers"),
        (changed(2, 2, np.inf), "not a 3x3 matrix of finite numbers"),
        (K[:2], "not a 3x3 matrix of finite numbers"),
        (K.astype(object), "not a 3x3 matrix of finite numbers"),
        (K.T, "last row .* transpose"),
        (np.eye(3), "focal length lies between 0.25 and 10 times its longer side"),
        (np.diag([0.24, 0.24, 1.0]) @ K, "focal length lies between"),
        (K * [[13.0], [13.0], [1]], "focal length lies between"),
        (changed(0, 0, -500), "focal length lies between"),
        (changed(0, 1, 5.0), "have skew"),
        (changed(1, 0, 5.0), "have skew"),
        (changed(0, 0, 1100), "focal lengths of such different size"),
        (changed(0, 2, 641.0), "principal point lies outside"),
        (changed(1, 2, -2.0), "principal point lies outside"),
        (np.array([[500, 0, 240], [0, 505, 320], [0, 0, 1.0]]), "are of a 480 x 640 image"),
    ],
)
def test_intrinsics_that_contradict_their_picture(wrong, message):
    assert re.search(message, contradiction(wrong, 640, 480))


def test_intrinsics_of_real_cameras_are_accepted(rng):
    for _ in range(200):
        width, height = rng.integers(64, 6000, 2)
        focal = max(width, height) * rng.uniform(0.28, 9) * np.array([1, rng.uniform(0.9, 1.1)])
        centre = np.array([width, height]) * rng.uniform(0.44, 0.56, 2)
        matrix = np.array([[focal[0], 0, centre[0]], [0, focal[1], centre[1]], [0, 0, 1]])
        assert contradiction(matrix, int(width), int(height)) is None


def turned_pixels(pixels, orientation, width, height):
    """Where EXIF's orientation shows pixels of a stored picture, by the standard's own table."""
    x, y = pixels.T
    return np.stack(
        {
            1: (x, y),
            3: (width - 1 - x, height - 1 - y),
            6: (height - 1 - y, x),
            8: (y, width - 1 - x),
        }[orientation],
        axis=1,
    )


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("fisheye", [False, True])
def test_a_stored_pictures_camera_is_turned_with_it(rng, orientation, fisheye):
    distortion = (0.1, -0.05, 0.02, 0.01) if fisheye else (0.1, -0.05, 0.01, -0.02, 0.03)
    stored = dataclasses.replace(WIDE, distortion=distortion, fisheye=fisheye)
    header = PictureHeader((320, 240), orientation)
    camera, rotation = turned_upright(stored, header, "a", stored=True)
    points = rng.uniform(-1, 1, (20, 3)) + [0, 0, 4]
    project = cv2.fisheye.projectPoints if fisheye else cv2.projectPoints

    def pixels(points, camera):
        zero, coefficients = np.zeros(3), np.array(camera.distortion)
        return project(points[:, None], zero, zero, camera.intrinsics, coefficients)[0][:, 0]

    expected = turned_pixels(pixels(points, stored), orientation, 320, 240)
    np.testing.assert_allclose(pixels(points @ rotation.T, camera), expected, atol=1e-9)
    assert (camera.width, camera.height) == header.size


def test_an_upright_pictures_camera_stays():
    portrait = Camera(210.0, 200.0, 118.0, 161.0, 240, 320)
    header = PictureHeader((320, 240), 6)
    camera, rotation = turned_upright(portrait, header, "a", stored=True)
    assert camera == portrait and (rotation == np.eye(3)).all()
    half = PictureHeader((320, 240), 3)
    assert turned_upright(WIDE, half, "a", stored=False)[0] == WIDE
    assert turned_upright(WIDE, half, "a", stored=True)[0].cx == 319 - WIDE.cx
    with pytest.raises(UsageError, match="a are for 320 x 240 pixels, the picture is 100 x 100"):
        turned_upright(WIDE, PictureHeader((100, 100)), "a", stored=False)
    with pytest.raises(UsageError, match="orientation 5 mirrors"):
        turned_upright(WIDE, PictureHeader((320, 240), 5), "a", stored=False)


def test_a_principal_point_says_which_picture_it_is_of():
    phone = PictureHeader((4032, 3024), 6)
    assert pinhole(3000, 3000, 2010, 1520, phone, "k.txt").width == 4032
    assert pinhole(3000, 3000, 1520, 2010, phone, "k.txt").width == 3024
    with pytest.raises(UsageError, match="k.txt: .* principal point lies outside"):
        pinhole(3000, 3000, 4100, 4100, phone, "k.txt")

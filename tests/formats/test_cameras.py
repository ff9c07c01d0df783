import dataclasses

import cv2
import numpy as np
import pytest

from jaxreloc.formats.cameras import Camera, UndistortedImages, from_corner_convention
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
    with pytest.raises(UsageError, match="^cameras.txt: focal length"):
        dataclasses.replace(WIDE, **{field: value}).check("cameras.txt")

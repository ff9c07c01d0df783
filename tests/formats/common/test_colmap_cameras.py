"""COLMAP's cameras, each against a formula, and lists of them."""

import numpy as np
import pytest

from jaxreloc.formats.common.camera_models import undistorted
from jaxreloc.formats.common.colmap_cameras import (
    CAMERA_MODELS,
    CameraList,
    from_colmap,
    is_camera_list,
)
from jaxreloc.usage import UsageError

SIZE = (320, 240)
POINTS = np.array([[x, y, 3.0] for x in (-1.5, 0.0, 1.6) for y in (-1.2, 0.1, 1.1)])


def by_fov(points, omega=0.9):
    """Devernay and Faugeras: r_d = atan(2 r tan(omega / 2)) / omega."""
    xy = points[:, :2] / points[:, 2:]
    r = np.linalg.norm(xy, axis=1)[:, None]
    return xy * np.arctan(2 * r * np.tan(omega / 2)) / (omega * r)


def equidistant(points):
    xy = points[:, :2] / points[:, 2:]
    r = np.linalg.norm(xy, axis=1)[:, None]
    return xy * np.arctan(r) / r


MODELS = {
    "FOV": ((200.0, 210.0, 161.5, 118.5, 0.9), by_fov),
    "FISHEYE": ((200.0, 210.0, 161.5, 118.5), equidistant),
    "SIMPLE_FISHEYE": ((200.0, 161.5, 118.5), equidistant),
}


@pytest.mark.parametrize("model", MODELS)
def test_pictures_show_points_where_the_pinhole_camera_sees_them(model, rng):
    parameters, distort = MODELS[model]
    camera = from_colmap(model, *SIZE, parameters, "a")
    points = POINTS + rng.uniform(-0.1, 0.1, POINTS.shape)
    focal, centre = np.array([camera.fx, camera.fy]), np.array([161.0, 118.0])
    picture, (y, x) = np.zeros(SIZE[::-1]), np.mgrid[: SIZE[1], : SIZE[0]]
    for u, v in distort(points) * focal + centre:
        picture += 250 * np.exp(-((x - u) ** 2 + (y - v) ** 2) / 8)
    image = undistorted(np.clip(picture, 0, 255).astype(np.uint8), camera)
    for u, v in points[:, :2] / points[:, 2:] * focal + centre:
        rows, columns = slice(int(v) - 6, int(v) + 8), slice(int(u) - 6, int(u) + 8)
        window = image[rows, columns].astype(float)
        found = [(window * z[rows, columns]).sum() / window.sum() for z in (x, y)]
        np.testing.assert_allclose(found, [u, v], atol=0.2)


def test_every_model_is_read_or_refused_with_the_remedy():
    for model, count in CAMERA_MODELS.values():
        one_focal = model.startswith("SIMPLE") or model in ("RADIAL", "RADIAL_FISHEYE")
        first = (200.0, 160.0, 120.0) if one_focal else (200.0, 210.0, 160.0, 120.0)
        parameters = (first + (0.01,) * 16)[:count]
        if model == "EQUIRECTANGULAR":
            with pytest.raises(UsageError, match="a: camera model EQUIRECTANGULAR is not read"):
                from_colmap(model, *SIZE, parameters, "a")
            continue
        camera = from_colmap(model, *SIZE, parameters, "a")
        np.testing.assert_allclose(camera.intrinsics[:2, 2], [159.5, 119.5])
        seen = undistorted(np.full((*SIZE[::-1], 3), 9, np.uint8), camera)
        assert seen[115:125, 155:165].min() > 0
        with pytest.raises(UsageError, match=f"a: {model} has {count} parameters, not {count - 1}"):
            from_colmap(model, *SIZE, parameters[:-1], "a")


def test_a_list_has_the_camera_of_a_picture_or_of_its_folder(tmp_path):
    path = tmp_path / "cameras.txt"
    path.write_text(
        "# name MODEL width height parameters\n"
        "a.jpg PINHOLE 320 240 200 200 160 120\n"
        "phone/ SIMPLE_RADIAL 320 240 210 160 120 0.05\n"
        "phone/close/ SIMPLE_PINHOLE 320 240 220 160 120\n"
    )
    assert is_camera_list(path)
    cameras = CameraList(path)
    assert [cameras.of(x).fx for x in ("a.jpg", "phone/a.jpg", "phone/close/x/b.jpg")] == [
        *(200, 210, 220)
    ]
    with pytest.raises(UsageError, match="cameras.txt: has no camera of b.jpg; add 'name MODEL"):
        cameras.of("b.jpg")
    with open(path, "a") as file:
        file.write("* SIMPLE_PINHOLE 320 240 230 160 120\n")
    assert CameraList(path).of("b.jpg").fx == 230


@pytest.mark.parametrize(
    "row, why",
    [
        ("a.jpg PINHOLE 320", "not a camera 'name MODEL width height parameters'"),
        ("a.jpg PINHOLE 320 240 200 200 160", "PINHOLE has 4 parameters, not 3"),
        ("a.jpg PINHOLE 320.5 240 200 200 160 120", "320.5 x 240 is no size"),
        ("a.jpg PINHOLE 320 240 x 200 160 120", "is not a number"),
        ("a.jpg PINHOLE 320 240 -200 200 160 120", "focal length lies between"),
        ("b.jpg PINHOLE 320 240 200 200 160 120", "b.jpg has a camera already"),
    ],
)
def test_mistakes_in_a_list_are_said_with_their_line(tmp_path, row, why):
    path = tmp_path / "cameras.txt"
    path.write_text(f"b.jpg PINHOLE 320 240 200 200 160 120\n{row}\n")
    with pytest.raises(UsageError, match=rf"cameras.txt:2.*{why}"):
        CameraList(path)


def test_four_numbers_are_no_list(tmp_path):
    path = tmp_path / "intrinsics.txt"
    path.write_text("200 200 160 120\n")
    assert not is_camera_list(path)

"""Answers in the formats of other programs, read by these or by an independent conversion."""

import json

import numpy as np
import pycolmap
import pytest
from scipy.spatial.transform import Rotation

from jaxreloc.formats.common.camera_models import Camera
from jaxreloc.formats.common.geodesy import GeographicOrigin, earth_from_enu
from jaxreloc.formats.localized_poses import LocalizedPose
from jaxreloc.formats.writers.answer_formats import answer_format
from jaxreloc.usage import UsageError

ORIGIN = GeographicOrigin(60.0, 25.0, 10.0)


def answers(rng, n=5):
    """The second is a failure; the last two share a camera."""
    found = []
    for i in range(n):
        pose = np.eye(4)
        pose[:3, :3] = Rotation.random(rng=rng).as_matrix()
        pose[:3, 3] = rng.normal(size=3)
        focal = 50.0 + min(i, n - 2)
        camera = Camera(focal, focal + 1, 31.5, 24.0, 64, 48)
        found.append(
            LocalizedPose(f"a b/{i}.png", i != 1, pose, 0.9, 4, 5, np.eye(6), 1.0, camera=camera)
        )
    return found


def test_pycolmap_opens_the_model(tmp_path, rng):
    found = answers(rng)
    answer_format("colmap", None, "").write(tmp_path / "model", found)
    model = pycolmap.Reconstruction(str(tmp_path / "model"))
    by_name = {image.name: image for image in model.images.values()}
    assert sorted(by_name) == [x.name for x in found if x.success]
    assert model.num_cameras() == 3 and model.num_reg_images() == 4
    for x in found:
        if not x.success:
            continue
        image = by_name[x.name]
        world_from_cam = np.eye(4)
        world_from_cam[:3] = image.cam_from_world().inverse().matrix()
        np.testing.assert_allclose(world_from_cam, x.world_from_cam, atol=1e-12)
        np.testing.assert_allclose(  # a point is seen where OpenCV's camera sees it
            image.project_point(x.world_from_cam[:3] @ [0.1, -0.2, 2.0, 1.0]),
            [0.05 * x.camera.fx + 31.5 + 0.5, -0.1 * x.camera.fy + 24.0 + 0.5],
        )


def test_nerfstudio_has_opengls_axes_and_pixels_from_the_corner(tmp_path, rng):
    found = answers(rng)
    answer_format("nerfstudio", None, "").write(tmp_path / "t.json", found)
    frames = json.loads((tmp_path / "t.json").read_text())["frames"]
    assert [frame["file_path"] for frame in frames] == [x.name for x in found if x.success]
    matrix = np.array(frames[0]["transform_matrix"])
    np.testing.assert_allclose(matrix[:3, 2], -found[0].world_from_cam[:3, 2])
    np.testing.assert_allclose(matrix[:, 3], found[0].world_from_cam[:, 3])
    assert (frames[0]["cx"], frames[0]["cy"], frames[0]["w"]) == (32.0, 24.5, 64)


def looking(direction, up):
    """world_from_cam of a camera at the origin."""
    pose = np.eye(4)
    pose[:3, :3] = np.stack([np.cross(direction, up), -np.array(up), direction], axis=1)
    return pose


@pytest.mark.parametrize(
    ("direction", "up", "xyzw"),
    [
        ([1.0, 0, 0], [0, 0, 1.0], [0, 0, 0, 1]),  # level, to the east
        ([0, 1.0, 0], [0, 0, 1.0], [0, 0, 0.5**0.5, 0.5**0.5]),  # to the north: yaw of 90 degrees
        ([0, 0, -1.0], [1.0, 0, 0], [0, 0.5**0.5, 0, 0.5**0.5]),  # down, the east being above
    ],
)
def test_a_geopose_looks_east_at_one(direction, up, xyzw):
    found = LocalizedPose("a", True, looking(direction, up), 0.9, 4, 5, np.eye(6), 1.0)
    fields = json.loads(answer_format("geopose", ORIGIN, "").line(found))
    assert fields["name"] == "a"
    position = fields["position"]
    np.testing.assert_allclose([position[x] for x in ("lat", "lon", "h")], [60, 25, 10], atol=1e-8)
    np.testing.assert_allclose([fields["quaternion"][x] for x in "xyzw"], xyzw, atol=1e-9)


def test_geoposes_far_from_the_origin_are_turned_with_the_earth(tmp_path, rng):
    found = answers(rng)
    for x in found:
        x.world_from_cam[:3, 3] *= 1e5
    answer_format("geopose", ORIGIN, "").write(tmp_path / "out", found)
    lines = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    assert [line["name"] for line in lines] == [x.name for x in found if x.success]
    forward_left_up = np.array([[0, -1.0, 0], [0, 0, -1.0], [1.0, 0, 0]])
    for line, x in zip(lines, (x for x in found if x.success)):
        place = GeographicOrigin(*(line["position"][k] for k in ("lat", "lon", "h")))
        rotation = Rotation.from_quat([line["quaternion"][k] for k in "xyzw"]).as_matrix()
        in_earth = earth_from_enu(place)
        expected = earth_from_enu(ORIGIN) @ x.world_from_cam
        np.testing.assert_allclose(in_earth[:3, 3], expected[:3, 3], atol=1e-6)
        np.testing.assert_allclose(
            in_earth[:3, :3] @ rotation, expected[:3, :3] @ forward_left_up, atol=1e-9
        )


def test_what_cannot_be_written_is_said_before_the_work():
    with pytest.raises(UsageError, match="MAP: has no geographic origin.*--geographic_origin="):
        answer_format("geopose", None, "MAP")
    with pytest.raises(UsageError, match="unknown format 'kml'; known: 7scenes, colmap"):
        answer_format("kml", None, "MAP")

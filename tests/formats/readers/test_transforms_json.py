import json
import logging
import re

import cv2
import numpy as np
import pytest

from jaxreloc.formats.readers.transforms_json import read_transforms_json
from jaxreloc.usage import UsageError
from tests.formats.scenes import (
    CAMERA,
    HEIGHT,
    WIDTH,
    make_transforms_json,
    random_poses,
    truncate,
    write_picture,
)


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_axes_and_pixels_are_converted(tmp_path, rng):
    poses = random_poses(rng, 3)
    frames = read_transforms_json(make_transforms_json(tmp_path, poses))
    assert frames.names == ("images/0.png", "images/1.png", "images/2.png")
    assert frames.scene == tmp_path.name
    for pose, world_from_cam in zip(poses, frames.world_from_cam):
        centre, right, up, back = pose[:3, 3], *pose[:3, :3].T
        for in_cam, in_world in [
            ([0, 0, 0], centre),
            ([1, 0, 0], centre + right),
            ([0, 1, 0], centre - up),
            ([0, 0, 1], centre - back),
        ]:
            np.testing.assert_allclose((world_from_cam @ [*in_cam, 1])[:3], in_world, atol=1e-12)
    np.testing.assert_array_equal(
        frames.intrinsics[0], [[30, 0, 15.5], [0, 31, 11.5], [0, 0, 1]]
    )
    assert [int(image[0, 0, 0]) for image in frames.images] == [0, 10, 20]


def test_field_of_view_gives_the_focal_length(tmp_path, rng):
    make_transforms_json(tmp_path, random_poses(rng, 1), {"camera_angle_x": np.pi / 2})
    frames = read_transforms_json(tmp_path)
    np.testing.assert_allclose(frames.intrinsics[0], [[16, 0, 15.5], [0, 16, 11.5], [0, 0, 1]])


def test_a_frames_own_camera_comes_before_the_files(tmp_path, rng):
    path = make_transforms_json(tmp_path, random_poses(rng, 2))
    edit(path, lambda content: content["frames"][1].update(fl_x=44.0))
    np.testing.assert_array_equal(read_transforms_json(path).intrinsics[:, 0, 0], [30, 44])


def test_left_out_suffixes_are_found(tmp_path, rng):
    path = make_transforms_json(tmp_path, random_poses(rng, 1))
    edit(path, lambda content: content["frames"][0].update(file_path="./images/0"))
    assert read_transforms_json(path).names == ("images/0.png",)


def test_missing_images_are_counted_in_one_warning(tmp_path, rng, caplog):
    path = make_transforms_json(tmp_path, random_poses(rng, 5))
    for i in (1, 3):
        (tmp_path / f"images/{i}.png").unlink()
    with caplog.at_level(logging.WARNING, logger="jaxreloc"):
        assert len(read_transforms_json(path)) == 3
    assert len(caplog.messages) == 1
    assert "2 of 5 listed images do not exist" in caplog.messages[0]


def test_distortion_is_noted_and_undone(tmp_path, rng, caplog):
    path = make_transforms_json(tmp_path, random_poses(rng, 2), {**CAMERA, "k1": -0.4})
    with caplog.at_level(logging.WARNING, logger="jaxreloc"):
        frames = read_transforms_json(path)
    assert len(caplog.messages) == 1 and "lens distortion (-0.4" in caplog.messages[0]
    assert frames.images[1].shape == (HEIGHT, WIDTH, 3)
    assert frames.images[1][HEIGHT // 2, WIDTH // 2, 0] == 10


def test_a_fisheye_is_undone_even_without_coefficients(tmp_path, rng):
    """At 45 degrees the fisheye sees f pi / 4 from the centre, the pinhole camera f."""
    camera = {"fl_x": 12, "fl_y": 12, "cx": 16.5, "cy": 12.5, "w": WIDTH, "h": HEIGHT}
    path = make_transforms_json(
        tmp_path, random_poses(rng, 1), {**camera, "camera_model": "OPENCV_FISHEYE"}
    )
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    picture[:, : 16 - round(12 * np.pi / 4)] = 255
    assert cv2.imwrite(str(tmp_path / "images/0.png"), picture)
    row = read_transforms_json(path).images[0][12, :, 0]
    assert row[0] == row[2] == 255 and row[6] == row[16] == 0


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: c["frames"][1].pop("transform_matrix"), "frames[1]: has no 'transform_matrix'"),
        (lambda c: c["frames"][1]["transform_matrix"].pop(), "transform_matrix: pose has shape"),
        (lambda c: c["frames"][1]["transform_matrix"][0].__setitem__(0, float("nan")), "NaN"),
        (lambda c: c["frames"][1]["transform_matrix"][0].__setitem__(0, 7.0), "not a rigid"),
        (lambda c: c["frames"][1]["transform_matrix"][0].__setitem__(0, "x"), "matrix of numbers"),
        (lambda c: c["frames"][1]["transform_matrix"][0].pop(), "matrix of numbers"),
        (lambda c: c["frames"][1].update(fl_x=-1), "focal length"),
        (lambda c: c["frames"][1].update(w=WIDTH * 2), "its intrinsics"),
        (lambda c: c["frames"][1].update(camera_model="EQUIRECTANGULAR"), "'EQUIRECTANGULAR'"),
        (lambda c: c["frames"][1].update(file_path="images/0.png"), "listed twice"),
    ],
)
def test_a_bad_frame_raises_or_is_skipped(tmp_path, rng, caplog, change, message):
    path = make_transforms_json(tmp_path, random_poses(rng, 3))
    edit(path, change)
    with pytest.raises(UsageError, match=re.escape(message)) as error:
        read_transforms_json(path)
    assert str(tmp_path) in str(error.value) and "--skip_bad_frames" in str(error.value)
    with caplog.at_level(logging.WARNING, logger="jaxreloc"):
        frames = read_transforms_json(path, skip_bad_frames=True)
    assert frames.names == ("images/0.png", "images/2.png")
    assert "skipped 1 bad frame" in caplog.text and message in caplog.text


def test_a_picture_that_breaks_off_raises_when_decoded_or_is_skipped(tmp_path, rng, caplog):
    path = make_transforms_json(tmp_path, random_poses(rng, 3))
    truncate(tmp_path / "images/1.png")
    with pytest.raises(UsageError, match="images/1.png: not a readable picture"):
        read_transforms_json(path).images[1]
    with caplog.at_level(logging.WARNING, logger="jaxreloc"):
        assert len(read_transforms_json(path, skip_bad_frames=True)) == 2
    assert "images/1.png: not a readable picture" in caplog.text


@pytest.mark.parametrize(
    "text, message",
    [("{", "not valid JSON"), ("[]", "no list 'frames'"), ('{"frames": []}', "no usable frame")],
)
def test_what_is_no_transforms_json_is_refused(tmp_path, text, message):
    (tmp_path / "transforms.json").write_text(text)
    with pytest.raises(UsageError, match=f"transforms.json.*{message}"):
        read_transforms_json(tmp_path)


def test_no_intrinsics_is_refused_with_the_remedy(tmp_path, rng):
    make_transforms_json(tmp_path, random_poses(rng, 1), {"w": WIDTH, "h": HEIGHT})
    with pytest.raises(UsageError, match="neither 'fl_x' nor 'camera_angle_x'; add one"):
        read_transforms_json(tmp_path)


def test_fox(shared_data, caplog):
    with caplog.at_level(logging.WARNING, logger="jaxreloc"):
        frames = read_transforms_json(shared_data / "fox")
    assert len(frames) == 50
    assert sum("17 of 67 listed images do not exist" in message for message in caplog.messages) == 1
    assert sum("lens distortion" in message for message in caplog.messages) == 1
    assert frames.images[7].shape == (640, 360, 3)
    listed = json.loads((shared_data / "fox/transforms.json").read_text())["frames"]
    centres = {frame["file_path"]: np.array(frame["transform_matrix"])[:3, 3] for frame in listed}
    for name, pose in zip(frames.names, frames.world_from_cam):
        np.testing.assert_allclose(pose[:3, 3], centres[name], atol=1e-12)
    # Every photograph shows the fox: the camera looks towards what all of them look at.
    origins, axes = frames.world_from_cam[:, :3, 3], frames.world_from_cam[:, :3, 2]
    across = np.eye(3) - axes[:, :, None] * axes[:, None, :]
    target = np.linalg.solve(across.sum(0), np.einsum("nij,nj->i", across, origins))
    assert (np.einsum("ni,ni->n", target - origins, axes) > 0).all()


def test_images_may_lie_elsewhere(tmp_path, rng):
    path = make_transforms_json(tmp_path / "room", random_poses(rng, 2))
    write_picture(tmp_path / "elsewhere/2.png", 77)
    absolute = str(tmp_path / "elsewhere/2.png")
    edit(path, lambda content: content["frames"][1].update(file_path=absolute))
    frames = read_transforms_json(path)
    assert frames.names == ("images/0.png", "../elsewhere/2.png")
    assert [int(image[0, 0, 0]) for image in frames.images] == [0, 77]


def test_images_without_pose_are_counted(tmp_path, rng, caplog):
    path = make_transforms_json(tmp_path, random_poses(rng, 2))
    read_transforms_json(path)
    assert "no pose" not in caplog.text
    for name in ("images/7.png", "images/8.png"):
        write_picture(tmp_path / name, 7)
    assert len(read_transforms_json(path)) == 2
    assert "2 image(s) have no pose and are left out, the first is images/7.png" in caplog.text


HUGE = "1" + "0" * 400


@pytest.mark.parametrize(
    "field, value",
    [
        ("w", "Infinity"),
        ("w", "1e999"),
        ("w", HUGE),
        ("h", "-" + HUGE),
        ("fl_x", HUGE),
        ("cx", HUGE),
        ("k1", HUGE),
        ("w", "9" * 5000),
        ("w", "[]"),
        ("fl_x", "{}"),
        ("camera_model", "[[]]"),
        ("frames", "[" * 100_000),
        ("frames", "[[[]]]"),
        ("w", "[" * 900 + "]" * 900),
    ],
)
def test_absurd_values_are_one_line(tmp_path, rng, field, value):
    path = make_transforms_json(tmp_path, random_poses(rng, 2))
    content = json.loads(path.read_text()) | {field: "PUT HERE"}
    path.write_text(json.dumps(content).replace('"PUT HERE"', value))
    with pytest.raises(UsageError, match="^.*transforms.json"):
        read_transforms_json(tmp_path)


@pytest.mark.parametrize("angle", [0, -0.0, "Infinity", 1e308, "x"])
def test_absurd_fields_of_view(tmp_path, rng, angle):
    path = make_transforms_json(tmp_path, random_poses(rng, 1), {"camera_angle_x": 0.5})
    path.write_text(path.read_text().replace('"camera_angle_x": 0.5', f'"camera_angle_x": {angle}'))
    with pytest.raises(UsageError, match="transforms.json"):
        read_transforms_json(tmp_path)


@pytest.mark.parametrize("matrix", [HUGE, f"[[{HUGE}]]", "[[1, 2], [3]]", "[" * 80 + "]" * 80])
def test_absurd_matrices(tmp_path, rng, matrix):
    path = make_transforms_json(tmp_path, random_poses(rng, 1))
    content = json.loads(path.read_text())
    content["frames"][0]["transform_matrix"] = "PUT HERE"
    path.write_text(json.dumps(content).replace('"PUT HERE"', matrix))
    with pytest.raises(UsageError, match=r"frames\[0\]"):
        read_transforms_json(tmp_path)


@pytest.mark.parametrize(
    "name",
    ["a" * 100_000, "a/" * 5000, "\0.png", "\ud800.png"],
    ids=["long", "deep", "zero byte", "no UTF-8"],
)
def test_names_that_no_file_has_are_missing(tmp_path, rng, name, caplog):
    path = make_transforms_json(tmp_path, random_poses(rng, 2))
    content = json.loads(path.read_text())
    content["frames"][0]["file_path"] = name
    path.write_text(json.dumps(content))
    assert len(read_transforms_json(tmp_path)) == 1
    assert "1 of 2 listed images do not exist" in caplog.text
    caplog.text.encode("utf-8")  # can be written


def test_a_pose_beyond_the_earth_is_refused(tmp_path, rng):
    poses = random_poses(rng, 1)
    poses[0, 0, 3] = 1e30
    make_transforms_json(tmp_path, poses)
    with pytest.raises(UsageError, match="images/0.png stands at .* further than 1e.09"):
        read_transforms_json(tmp_path)

import dataclasses
import pathlib
import re
import signal
import subprocess
import sys

import numpy as np
import pycolmap
import pytest
from scipy.spatial.transform import Rotation

from jaxreloc.formats.colmap import read_colmap, write_colmap
from jaxreloc.usage import UsageError
from tests.formats.scenes import HEIGHT, WIDTH, frames_with_pictures, truncate, write_picture


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
@pytest.mark.parametrize("model", [".", "sparse/0", "sparse"])
def test_round_trip_is_exact(tmp_path, rng, binary, model):
    frames = frames_with_pictures(rng, tmp_path)
    write_colmap(tmp_path / model, frames, binary=binary)
    read = read_colmap(tmp_path, scene="room")
    assert read.scene == "room" and read.names == frames.names
    np.testing.assert_allclose(read.world_from_cam, frames.world_from_cam, atol=1e-14)
    np.testing.assert_array_equal(read.intrinsics, frames.intrinsics)
    np.testing.assert_array_equal(read.image_sizes, frames.image_sizes)
    assert [int(image[0, 0, 0]) for image in read.images] == [0, 10, 20, 30]


def test_poses_and_pixels_are_colmaps(tmp_path, rng):
    """Where pycolmap projects a point, half a pixel further, is where the frames say it is seen."""
    frames = frames_with_pictures(rng, tmp_path)
    write_colmap(tmp_path, frames)
    point = np.array([0.3, -0.2, 0.4])
    for image in pycolmap.Reconstruction(tmp_path).images.values():
        i = frames.names.index(image.name)
        in_cam = np.linalg.inv(frames.world_from_cam[i])[:3] @ [*point, 1]
        if in_cam[2] > 0:
            u, v, w = frames.intrinsics[i] @ in_cam
            np.testing.assert_allclose(image.project_point(point), [u / w + 0.5, v / w + 0.5])
        np.testing.assert_allclose(image.projection_center(), frames.world_from_cam[i, :3, 3])


def write_text_model(folder, cameras, images):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cameras.txt").write_text(cameras)
    (folder / "images.txt").write_text("".join(f"{line}\n\n" for line in images))
    (folder / "points3D.txt").write_text("")


@pytest.mark.parametrize(
    "camera, intrinsics, distortion, fisheye",
    [
        ("SIMPLE_PINHOLE 32 24 30 16 12", (30, 30), (), False),
        ("SIMPLE_RADIAL 32 24 30 16 12 0.1", (30, 30), (0.1, 0, 0, 0), False),
        ("RADIAL 32 24 30 16 12 0.1 0.2", (30, 30), (0.1, 0.2, 0, 0), False),
        ("OPENCV 32 24 30 31 16 12 1 2 3 4", (30, 31), (1, 2, 3, 4), False),
        ("FULL_OPENCV 32 24 30 31 16 12 1 2 3 4 5 6 7 8", (30, 31), tuple(range(1, 9)), False),
        ("OPENCV_FISHEYE 32 24 30 31 16 12 1 2 3 4", (30, 31), (1, 2, 3, 4), True),
        ("SIMPLE_RADIAL_FISHEYE 32 24 30 16 12 0.1", (30, 30), (0.1, 0, 0, 0), True),
    ],
)
def test_distorted_cameras_keep_their_pinhole_part(
    tmp_path, camera, intrinsics, distortion, fisheye
):
    write_picture(tmp_path / "images/a.png", 7)
    write_text_model(tmp_path, f"1 {camera}\n", ["1 1 0 0 0 0 0 0 1 a.png"])
    frames = read_colmap(tmp_path)
    fx, fy = intrinsics
    np.testing.assert_array_equal(frames.intrinsics[0], [[fx, 0, 15.5], [0, fy, 11.5], [0, 0, 1]])
    if distortion:
        assert frames.images.cameras[0].distortion == distortion
        assert frames.images.cameras[0].fisheye == fisheye
        assert frames.images[0].shape == (HEIGHT, WIDTH, 3)


def test_other_models_are_refused_with_the_remedy(tmp_path):
    write_picture(tmp_path / "images/a.png", 7)
    write_text_model(tmp_path, "1 FOV 32 24 30 30 16 12 0.1\n", ["1 1 0 0 0 0 0 0 1 a.png"])
    with pytest.raises(UsageError, match="a.png: camera model FOV is not read; run COLMAP's"):
        read_colmap(tmp_path)


def test_bad_frames_raise_or_are_skipped(tmp_path, rng, caplog):
    frames = frames_with_pictures(rng, tmp_path)
    write_colmap(tmp_path, frames, binary=True)
    (tmp_path / "images/a/1.png").unlink()
    with pytest.raises(UsageError, match=re.escape("a/1.png: cannot be read")):
        read_colmap(tmp_path)
    truncate(tmp_path / "images/a/2.png")
    read = read_colmap(tmp_path, skip_bad_frames=True)
    assert read.names == ("a/0.png", "a/3.png")
    assert "skipped 2 bad frame" in caplog.text


@pytest.mark.parametrize("value", ["nan", "x", ""])
def test_an_unreadable_pose_names_the_model(tmp_path, value):
    write_picture(tmp_path / "images/a.png", 7)
    write_text_model(tmp_path, "1 PINHOLE 32 24 30 30 16 12\n", [f"1 1 0 0 0 0 0 {value} 1 a.png"])
    with pytest.raises(UsageError, match=f"{tmp_path.name}: not a readable COLMAP model"):
        read_colmap(tmp_path)


@pytest.mark.parametrize("name", ["cameras.bin", "images.bin"])
def test_a_binary_model_that_breaks_off_is_refused(tmp_path, rng, name):
    write_colmap(tmp_path, frames_with_pictures(rng, tmp_path), binary=True)
    truncate(tmp_path / name)
    with pytest.raises(UsageError):
        read_colmap(tmp_path)


def test_what_is_not_there_is_said(tmp_path, rng):
    with pytest.raises(UsageError, match="no COLMAP model; looked for images.bin or images.txt"):
        read_colmap(tmp_path)
    write_colmap(tmp_path / "other", frames_with_pictures(rng, tmp_path / "x"))
    with pytest.raises(UsageError, match="the model's image a/0.png is not there"):
        read_colmap(tmp_path / "other")
    assert len(read_colmap(tmp_path / "other", images=tmp_path / "x/images")) == 4


def test_the_first_image_may_be_the_missing_one(tmp_path, rng):
    write_colmap(tmp_path / "sparse", frames_with_pictures(rng, tmp_path))
    (tmp_path / "images/a/0.png").unlink()
    with pytest.raises(UsageError, match="a/0.png: cannot be read"):
        read_colmap(tmp_path)
    assert len(read_colmap(tmp_path, skip_bad_frames=True)) == 3


def test_images_that_are_not_registered_are_counted(tmp_path, rng, caplog):
    write_colmap(tmp_path / "sparse", frames_with_pictures(rng, tmp_path))
    read_colmap(tmp_path)
    assert "no pose" not in caplog.text
    write_picture(tmp_path / "images/a/7.png", 7)
    assert len(read_colmap(tmp_path)) == 4
    assert "1 image(s) have no pose and are left out, the first is a/7.png" in caplog.text


def test_an_undistorted_model_takes_the_images_beside_it(tmp_path, rng):
    frames = frames_with_pictures(rng, tmp_path / "dense")
    write_colmap(tmp_path / "dense/sparse", frames)
    for name in frames.names:
        write_picture(tmp_path / "images" / name, 200)
    assert [int(image[0, 0, 0]) for image in read_colmap(tmp_path).images] == [0, 10, 20, 30]


def test_names_with_spaces_cannot_be_written(tmp_path, rng):
    frames = dataclasses.replace(frames_with_pictures(rng, tmp_path, n=1), names=("a b.png",))
    with pytest.raises(UsageError, match="no space"):
        write_colmap(tmp_path, frames)


def test_quaternion_is_cam_from_world(tmp_path):
    """Hand-worked: the camera stands at x = 2 and looks along world -x."""
    write_picture(tmp_path / "images/a.png", 7)
    cam_R_world = np.array([[0, 1, 0], [0, 0, -1], [-1, 0, 0]])  # right +y, down -z, forward -x
    q = Rotation.from_matrix(cam_R_world).as_quat(scalar_first=True)
    t = -cam_R_world @ [2, 0, 0]
    line = " ".join(map(str, [1, *q, *t, 1, "a.png"]))
    write_text_model(tmp_path, "1 PINHOLE 32 24 30 30 16 12\n", [line])
    world_from_cam = read_colmap(tmp_path).world_from_cam[0]
    np.testing.assert_allclose(world_from_cam @ [0, 0, 2, 1], [0, 0, 0, 1], atol=1e-15)
    np.testing.assert_allclose(world_from_cam @ [0, 1, 0, 1], [2, 0, -1, 1], atol=1e-15)


def test_reading_a_model_leaves_sigterm_as_it_was(tmp_path, rng):
    """In a process of its own: a native handler cannot be seen from Python."""
    write_colmap(tmp_path, frames_with_pictures(rng, tmp_path))
    program = (
        "import os, signal, sys\n"
        "from jaxreloc.formats.colmap import read_colmap\n"
        f"read_colmap({str(tmp_path)!r})\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    root = pathlib.Path(__file__).parents[2]
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True
    )
    assert result.returncode == -signal.SIGTERM and result.stderr == ""

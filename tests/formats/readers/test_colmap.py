import contextlib
import dataclasses
import os
import re

import numpy as np
import pycolmap
import pytest
from scipy.spatial.transform import Rotation

from jaxreloc.formats.common.colmap_cameras import CAMERA_MODELS
from jaxreloc.formats.readers.colmap import read_colmap
from jaxreloc.usage import UsageError
from tests.formats.colmap_writer import write_colmap
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
    write_text_model(tmp_path, "1 EQUIRECTANGULAR 32 24 32 24\n", ["1 1 0 0 0 0 0 0 1 a.png"])
    with pytest.raises(UsageError, match="a.png: camera model EQUIRECTANGULAR is not read; run"):
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
def test_an_unreadable_pose_names_its_line(tmp_path, value):
    write_picture(tmp_path / "images/a.png", 7)
    write_text_model(tmp_path, "1 PINHOLE 32 24 30 30 16 12\n", [f"1 1 0 0 0 0 0 {value} 1 a.png"])
    with pytest.raises(UsageError, match="images.txt:1: (a pose value|not an image)"):
        read_colmap(tmp_path)


@pytest.mark.parametrize("camera", ["PINHOLE 32 24 30 30 16", "PINHOLE 32.5 24 30 30 16 12", "PIN"])
def test_an_unreadable_camera_names_its_line(tmp_path, camera):
    write_picture(tmp_path / "images/a.png", 7)
    write_text_model(tmp_path, f"1 {camera}\n", ["1 1 0 0 0 0 0 0 1 a.png"])
    with pytest.raises(UsageError, match="cameras.txt:1: "):
        read_colmap(tmp_path)


def test_a_camera_that_is_not_there_is_said(tmp_path):
    write_picture(tmp_path / "images/a.png", 7)
    write_text_model(tmp_path, "1 PINHOLE 32 24 30 30 16 12\n", ["1 1 0 0 0 0 0 0 2 a.png"])
    with pytest.raises(UsageError, match="a.png: its camera 2 is not in the model"):
        read_colmap(tmp_path)


def test_camera_models_are_colmaps():
    known = {}
    for model in pycolmap.CameraModelId.__members__.values():
        if model.value >= 0:
            camera = pycolmap.Camera.create_from_model_id(1, model, 9, 64, 48)
            known[model.value] = model.name, len(camera.params)
    assert known == CAMERA_MODELS


def colmaps_own_model(folder, rng, binary=True):
    """A model with rigs, frames and points, as pycolmap writes it, and its frames."""
    frames = frames_with_pictures(rng, folder)
    write_colmap(folder / "bare", frames)
    model = pycolmap.Reconstruction(folder / "bare")
    for image in model.images.values():
        image.points2D = [pycolmap.Point2D(xy) for xy in rng.uniform(0, 20, (7, 2))]
    for _ in range(5):
        track = pycolmap.Track()
        for key in (1, 2):
            free = next(i for i, p in enumerate(model.images[key].points2D) if not p.has_point3D())
            track.add_element(key, free)
        model.add_point3D(rng.normal(size=3), track)
    (folder / "sparse").mkdir()
    (model.write_binary if binary else model.write_text)(folder / "sparse")
    return frames


@pytest.mark.parametrize("binary", [False, True])
def test_a_model_that_colmap_wrote(tmp_path, rng, binary):
    frames = colmaps_own_model(tmp_path, rng, binary)
    read = read_colmap(tmp_path)
    assert read.names == frames.names
    np.testing.assert_allclose(read.world_from_cam, frames.world_from_cam, atol=1e-12)
    np.testing.assert_array_equal(read.intrinsics, frames.intrinsics)


def test_colmap_reads_what_is_written(tmp_path, rng):
    frames = frames_with_pictures(rng, tmp_path)
    for binary in (False, True):
        write_colmap(tmp_path / str(binary), frames, binary=binary)
        model = pycolmap.Reconstruction(tmp_path / str(binary))
        for image in model.images.values():
            found = np.vstack([image.cam_from_world().matrix(), [0, 0, 0, 1]])
            expected = np.linalg.inv(frames.world_from_cam[frames.names.index(image.name)])
            np.testing.assert_allclose(found, expected, atol=1e-12)


def test_no_damaged_count_is_believed(tmp_path, rng):
    """Whatever eight bytes are overwritten: an answer at once, and little memory."""
    frames = colmaps_own_model(tmp_path, rng)
    for path in sorted((tmp_path / "sparse").glob("*.bin")):
        whole = path.read_bytes()
        for place in range(0, len(whole) - 8, 4):
            count = (2**64 - 1, 2**63, 2**40, 2**31, 10**7)[rng.integers(5)]
            path.write_bytes(whole[:place] + count.to_bytes(8, "little") + whole[place + 8 :])
            with contextlib.suppress(UsageError):
                assert len(read_colmap(tmp_path)) == len(frames)
        path.write_bytes(whole)
    assert len(read_colmap(tmp_path)) == len(frames)


def test_what_follows_the_end_is_damage(tmp_path, rng):
    colmaps_own_model(tmp_path, rng)
    for name in ("images.bin", "cameras.bin"):
        path = tmp_path / "sparse" / name
        whole = path.read_bytes()
        path.write_bytes(whole + b"\0")
        with pytest.raises(UsageError, match=f"{name}: .* goes on after its end"):
            read_colmap(tmp_path)
        path.write_bytes(b"")
        with pytest.raises(UsageError, match=f"{name}: not a file of a COLMAP model"):
            read_colmap(tmp_path)
        path.write_bytes(whole)


@pytest.mark.parametrize("binary", [False, True])
def test_names_may_be_no_utf8(tmp_path, rng, binary):
    frames = frames_with_pictures(rng, tmp_path, n=1)
    name = os.fsdecode(b"caf\xe9.png")
    (tmp_path / "images/a/0.png").rename(tmp_path / "images" / name)
    frames = dataclasses.replace(frames, names=("cafe.png",))
    write_colmap(tmp_path, frames, binary=binary)
    for path in tmp_path.glob("images.*"):
        path.write_bytes(path.read_bytes().replace(b"cafe.png", b"caf\xe9.png"))
    read = read_colmap(tmp_path)
    assert read.names == (name,) and read.images[0].shape == (HEIGHT, WIDTH, 3)


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

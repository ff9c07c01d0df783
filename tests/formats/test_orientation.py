"""Pictures that EXIF turns, in every format: the frame that is read is the upright one."""

import json

import numpy as np
import pytest
from PIL import Image

from jaxreloc.formats.frames import PosedFrames
from jaxreloc.formats.posed_images import read_posed_images
from jaxreloc.formats.rigid_arrays import CV_FROM_GL, quaternion_wxyz
from jaxreloc.usage import UsageError
from tests.formats.colmap_writer import write_colmap
from tests.formats.scenes import CSV_HEADER, random_poses

STORED = (64, 48)
STORED_K = np.array([[60.0, 0, 34], [0, 62, 22], [0, 0, 1]])
# The camera of EXIF orientation 6, a quarter turn clockwise, by hand: pixel (x, y) goes to
# (47 - y, x), and a point (x, y, z) to (-y, x, z).
UPRIGHT_K = np.array([[62.0, 0, 47 - 22], [0, 60, 34], [0, 0, 1]])
UPRIGHT_FROM_STORED = np.array([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


@pytest.fixture
def pixels(rng):
    return rng.integers(0, 256, (STORED[1], STORED[0], 3), np.uint8)


def write_turned(folder, pixels, orientation=6):
    exif = Image.Exif()
    exif[274] = orientation
    (folder / "images").mkdir()
    Image.fromarray(pixels).save(folder / "images" / "a.png", exif=exif)


def write_transforms(folder, K, size, pose, with_size=True):
    camera = {"fl_x": K[0, 0], "fl_y": K[1, 1], "cx": K[0, 2] + 0.5, "cy": K[1, 2] + 0.5}
    if with_size:
        camera |= {"w": size[0], "h": size[1]}
    frame = {"file_path": "images/a.png", "transform_matrix": (pose @ CV_FROM_GL).tolist()}
    (folder / "transforms.json").write_text(json.dumps(camera | {"frames": [frame]}))


def write_model(folder, K, size, pose):
    frames = PosedFrames("", ("a.png",), pose[None], K[None], np.array([size]), [None])
    write_colmap(folder / "sparse/0", frames, binary=True)


def write_csv(folder, K, size, pose):
    del size  # it has no place for it
    values = [*pose[:3, 3], *quaternion_wxyz(pose), K[0, 0], K[1, 1], K[0, 2], K[1, 2]]
    row = ",".join(["images/a.png", *map(repr, map(float, values))])
    (folder / "poses.csv").write_text(f"{CSV_HEADER},fx,fy,cx,cy\n{row}\n")


def write_sizeless_transforms(folder, K, size, pose):
    write_transforms(folder, K, size, pose, with_size=False)


WRITERS = [write_transforms, write_sizeless_transforms, write_model, write_csv]


def check(folder, pixels, world_from_upright):
    frames = read_posed_images(folder)
    np.testing.assert_array_equal(frames.images[0], np.rot90(pixels, -1))
    np.testing.assert_array_equal(frames.image_sizes, [STORED[::-1]])
    np.testing.assert_allclose(frames.intrinsics[0], UPRIGHT_K, atol=1e-9)
    np.testing.assert_allclose(frames.world_from_cam[0], world_from_upright, atol=1e-9)


@pytest.mark.parametrize("write", WRITERS)
def test_intrinsics_of_the_stored_picture_are_turned_with_the_pose(tmp_path, rng, pixels, write):
    write_turned(tmp_path, pixels)
    world_from_stored = random_poses(rng, 1)[0]
    write(tmp_path, STORED_K, STORED, world_from_stored)
    check(tmp_path, pixels, world_from_stored @ UPRIGHT_FROM_STORED.T)


@pytest.mark.parametrize("write", WRITERS)
def test_intrinsics_of_the_upright_picture_stay_with_the_pose(tmp_path, rng, pixels, write):
    write_turned(tmp_path, pixels)
    world_from_upright = random_poses(rng, 1)[0]
    write(tmp_path, UPRIGHT_K, STORED[::-1], world_from_upright)
    check(tmp_path, pixels, world_from_upright)


@pytest.mark.parametrize("write", [write_transforms, write_model])
def test_half_a_turn_is_of_the_stored_picture_for_those_who_ignore_exif(
    tmp_path, rng, pixels, write
):
    write_turned(tmp_path, pixels, 3)
    world_from_stored = random_poses(rng, 1)[0]
    write(tmp_path, STORED_K, STORED, world_from_stored)
    frames = read_posed_images(tmp_path)
    np.testing.assert_array_equal(frames.images[0], pixels[::-1, ::-1])
    half_turn = np.diag([-1.0, -1, 1, 1])
    np.testing.assert_allclose(frames.world_from_cam[0], world_from_stored @ half_turn, atol=1e-9)
    np.testing.assert_allclose(frames.intrinsics[0, :2, 2], [63 - 34, 47 - 22], atol=1e-9)


def test_a_mirrored_picture_with_the_camera_of_the_stored_one_is_refused(tmp_path, rng, pixels):
    write_turned(tmp_path, pixels, 7)
    write_model(tmp_path, STORED_K, STORED, random_poses(rng, 1)[0])
    with pytest.raises(UsageError, match="a.png: .* EXIF orientation 7 mirrors"):
        read_posed_images(tmp_path)


def test_a_picture_of_neither_size_is_refused(tmp_path, rng, pixels):
    write_turned(tmp_path, pixels)
    write_transforms(tmp_path, 2 * UPRIGHT_K, (96, 128), random_poses(rng, 1)[0])
    with pytest.raises(UsageError, match="are for 96 x 128 pixels, the picture is 48 x 64"):
        read_posed_images(tmp_path)


def test_frames_of_both_kinds_make_one_scene(tmp_path, rng, pixels):
    """Portrait and landscape pictures of a phone, as COLMAP sees them: one stored size."""
    write_turned(tmp_path, pixels)
    Image.fromarray(pixels).save(tmp_path / "images" / "b.png")
    poses = random_poses(rng, 2)
    frames = PosedFrames(
        "", ("a.png", "b.png"), poses, np.array([STORED_K] * 2), np.array([STORED] * 2), [None] * 2
    )
    write_colmap(tmp_path / "sparse/0", frames)
    read = read_posed_images(tmp_path)
    np.testing.assert_array_equal(read.image_sizes, [STORED[::-1], STORED])
    np.testing.assert_allclose(read.world_from_cam[1], poses[1], atol=1e-9)

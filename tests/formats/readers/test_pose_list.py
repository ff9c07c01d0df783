import re

import numpy as np
import pytest

from jaxreloc.formats.readers.pose_list import (
    EvaluationPoses,
    read_csv,
    read_evaluation_poses,
    read_tum_list,
    write_evaluation_poses,
)
from jaxreloc.usage import UsageError
from tests.formats.scenes import (
    CSV_HEADER,
    HEIGHT,
    WIDTH,
    make_csv,
    make_tum_list,
    random_poses,
    truncate,
    write_images,
    write_picture,
)


def test_csv_is_read_exactly(tmp_path, rng):
    poses = random_poses(rng, 3)
    make_csv(tmp_path, poses)
    frames = read_csv(tmp_path)
    assert frames.names == ("images/0.png", "images/1.png", "images/2.png")
    np.testing.assert_allclose(frames.world_from_cam, poses, atol=1e-14)
    np.testing.assert_array_equal(frames.intrinsics[2], [[30, 0, 15.5], [0, 31, 11.5], [0, 0, 1]])
    np.testing.assert_array_equal(frames.image_sizes[0], [WIDTH, HEIGHT])
    assert [int(image[0, 0, 0]) for image in frames.images] == [0, 10, 20]


def test_csv_columns_come_in_any_order_and_may_hold_the_camera(tmp_path):
    write_images(tmp_path, 1)
    (tmp_path / "intrinsics.txt").unlink()
    (tmp_path / "poses.csv").write_text(
        "qx,qy,qz,qw, tx,ty,tz, fx,fy,cx,cy, image\n"
        "0,0,0,1, 1,2,3, 40,41,15,11, images/0.png\n"
    )
    frames = read_csv(tmp_path)
    np.testing.assert_array_equal(frames.world_from_cam[0, :3, 3], [1, 2, 3])
    np.testing.assert_array_equal(frames.intrinsics[0], [[40, 0, 15], [0, 41, 11], [0, 0, 1]])


@pytest.mark.parametrize("name", [str, "images/{}.png".format], ids=["stem", "path"])
def test_tum_list_is_read_exactly(tmp_path, rng, name):
    poses = random_poses(rng, 3)
    make_tum_list(tmp_path, poses, name)
    frames = read_tum_list(tmp_path)
    assert frames.names == ("images/0.png", "images/1.png", "images/2.png")
    np.testing.assert_allclose(frames.world_from_cam, poses, atol=1e-14)


@pytest.mark.parametrize(
    "line, message",
    [
        ("images/7.png,0,0,0,1,0,0,0", "poses.csv:5: pose without image: 'images/7.png'"),
        ("images/3.png,0,0,nan,1,0,0,0", "poses.csv:5: a pose value has NaN"),
        ("images/3.png,0,0,0,1,0,0", "poses.csv:5: not 8 fields"),
        ("images/3.png,0,0,0,1,0,0,0,0", "poses.csv:5: not 8 fields"),
        ("images/3.png,0,0,0,2,0,0,0", "poses.csv:5: the quaternion has norm 2"),
        ("images/0.png,0,0,0,1,0,0,0", "images/0.png is listed twice"),
    ],
)
def test_a_bad_row_raises_or_is_skipped(tmp_path, rng, caplog, line, message):
    path = make_csv(tmp_path, random_poses(rng, 3))
    with open(path, "a") as file:
        file.write(line + "\n")
    if "images/3.png" in line:
        write_picture(tmp_path / "images/3.png", 1)
    with pytest.raises(UsageError, match=re.escape(message)):
        read_csv(tmp_path)
    assert len(read_csv(tmp_path, skip_bad_frames=True)) == 3
    assert "skipped" in caplog.text and message in caplog.text


@pytest.mark.parametrize("make, read", [(make_csv, read_csv), (make_tum_list, read_tum_list)])
def test_images_without_pose_and_broken_ones_raise_or_are_skipped(
    tmp_path, rng, caplog, make, read
):
    make(tmp_path, random_poses(rng, 3))
    write_picture(tmp_path / "images/more.png", 1)
    with pytest.raises(UsageError, match="more.png: image without pose: .* add its pose or move"):
        read(tmp_path)
    truncate(tmp_path / "images/1.png")
    assert read(tmp_path, skip_bad_frames=True).names == ("images/0.png", "images/2.png")
    assert "skipped 2 bad frame(s)" in caplog.text


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "intrinsics.txt: missing, .* write 'fx fy cx cy'"),
        ("1 2 3", "intrinsics.txt: 3 numbers"),
        ("30 1 15 0 30 11 0 0 1", "intrinsics.txt: not "),
        ("30 nan 15 11", "intrinsics.txt:1: K has NaN"),
        ("0 30 15 11", "intrinsics.txt: .* are not of a 32 x 24 image"),
    ],
)
def test_bad_intrinsics_are_refused(tmp_path, rng, content, message):
    make_csv(tmp_path, random_poses(rng, 1))
    path = tmp_path / "intrinsics.txt"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(UsageError, match=message):
        read_csv(tmp_path)


def test_intrinsics_may_be_a_matrix(tmp_path, rng):
    make_csv(tmp_path, random_poses(rng, 1))
    (tmp_path / "intrinsics.txt").write_text("30 0 15\n0 31 11\n0 0 1\n")
    np.testing.assert_array_equal(
        read_csv(tmp_path).intrinsics[0], [[30, 0, 15], [0, 31, 11], [0, 0, 1]]
    )


def test_a_missing_column_is_named(tmp_path, rng):
    make_csv(tmp_path, random_poses(rng, 1), header=CSV_HEADER.replace("qw", "w"))
    with pytest.raises(UsageError, match="poses.csv: has no column qw"):
        read_csv(tmp_path)


@pytest.mark.parametrize("focal_px", [None, 526.22])
def test_evaluation_format_round_trip_is_exact(tmp_path, rng, focal_px):
    poses = EvaluationPoses(
        names=tuple(f"seq-01/frame-{i:06d}.color.png" for i in range(9)),
        world_from_cam=random_poses(rng, 9),
        focal_px=None if focal_px is None else np.full(9, focal_px),
    )
    write_evaluation_poses(tmp_path / "a.txt", poses)
    read = read_evaluation_poses(tmp_path / "a.txt")
    assert read.names == poses.names
    np.testing.assert_allclose(read.world_from_cam, poses.world_from_cam, atol=1e-14)
    np.testing.assert_array_equal(read.focal_px, poses.focal_px)


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "a.txt: has no pose"),
        ("a 1 0 0 0 0 0\n", "a.txt:1: not a row"),
        ("a 1 0 0 0 0 0 0 525\nb 1 0 0 0 0 0 0\n", "a.txt:2: not a row .* throughout"),
        ("a 1 0 0 0 0 0 0\nb 1 0 0 0 0 0 0 525\n", "a.txt:2: not a row .* throughout"),
        ("a 1 0 0 0 0 0 0\na 1 0 0 0 0 0 0\n", "a.txt:2: a came before"),
        ("a 1 0 0 0 0 0 inf\n", "a.txt:1: a value has NaN or infinite"),
    ],
)
def test_bad_evaluation_files_are_refused(tmp_path, text, message):
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(UsageError, match=message):
        read_evaluation_poses(tmp_path / "a.txt")


def test_the_published_lists_hold_the_inverse_pose(shared_data, rng):
    """Against the formula of a quaternion's matrix written out: centre -R^T t, axes R^T."""
    path = shared_data / "seven_scenes_poses/dslam/heads_train.txt"
    poses = read_evaluation_poses(path)
    assert len(poses.names) == 1000 and (poses.focal_px == 525).all()
    raw = np.loadtxt(path, usecols=range(1, 8))
    for i in rng.choice(len(raw), 20, replace=False):
        w, x, y, z = raw[i, :4] / np.linalg.norm(raw[i, :4])
        R = np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
            ]
        )
        np.testing.assert_allclose(poses.world_from_cam[i, :3, 3], -R.T @ raw[i, 4:], atol=1e-6)
        np.testing.assert_allclose(poses.world_from_cam[i, :3, :3], R.T, atol=1e-6)


def test_listed_images_may_lie_elsewhere(tmp_path, rng):
    path = make_csv(tmp_path / "room", random_poses(rng, 2))
    write_picture(tmp_path / "elsewhere/2.png", 77)
    path.write_text(
        path.read_text()
        .replace("images/0.png", str(tmp_path / "room/images/0.png"))
        .replace("images/1.png", str(tmp_path / "elsewhere/2.png"))
    )
    (tmp_path / "room/images/1.png").unlink()
    frames = read_csv(tmp_path / "room")
    assert frames.names == ("images/0.png", "../elsewhere/2.png")
    assert [int(image[0, 0, 0]) for image in frames.images] == [0, 77]


@pytest.mark.parametrize("place", [0, -1])
def test_a_field_longer_than_any_is_refused(tmp_path, rng, place):
    path = make_csv(tmp_path, random_poses(rng, 1))
    lines = path.read_text().splitlines()
    lines[place] += "," + "9" * 200_000
    path.write_text("\n".join(lines))
    with pytest.raises(UsageError, match="poses.csv.*: not a CSV .field larger"):
        read_csv(tmp_path)

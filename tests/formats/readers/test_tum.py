import logging
import re

import cv2
import numpy as np
import pytest

from jaxreloc.formats.readers.tum import read_trajectory, read_tum
from jaxreloc.usage import UsageError
from tests.formats.scenes import make_tum_sequence, random_trajectory, truncate, write_trajectory


def test_round_trip_is_exact(tmp_path, rng):
    times = np.sort(rng.uniform(1.3e9, 1.4e9, 50))
    trajectory = random_trajectory(rng, times)
    write_trajectory(tmp_path / "a.txt", trajectory)
    read = read_trajectory(tmp_path / "a.txt")
    np.testing.assert_array_equal(read.timestamps, trajectory.timestamps)
    np.testing.assert_allclose(read.world_from_cam, trajectory.world_from_cam, atol=1e-14)


def test_a_row_is_position_then_quaternion_with_w_last(tmp_path):
    half = np.sqrt(0.5)
    (tmp_path / "a.txt").write_text(f"7.5 1 2 3 0 0 {half} {half}\n")
    read = read_trajectory(tmp_path / "a.txt")
    expected = [[0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]]
    np.testing.assert_allclose(read.world_from_cam, [expected], atol=1e-15)
    np.testing.assert_array_equal(read.timestamps, [7.5])


def test_rows_are_put_in_the_order_of_time(tmp_path, rng):
    lines = ["3 0 0 3 0 0 0 1", "1 0 0 1 0 0 0 1", "2 0 0 2 0 0 0 1"]
    (tmp_path / "a.txt").write_text("\n".join(lines))
    read = read_trajectory(tmp_path / "a.txt")
    np.testing.assert_array_equal(read.world_from_cam[:, 2, 3], [1, 2, 3])


@pytest.mark.parametrize(
    "line, message",
    [
        ("1.0 0 0 0 0 0 0 1", "a.txt:2: timestamp 1.0 came before"),
        ("2 0 0 0 0 0 0", "a.txt:2: 7 fields instead of the 8"),
        ("2 0 0 nan 0 0 0 1", "a.txt:2: a value has NaN"),
        ("2 0 0 x 0 0 0 1", "a.txt:2: a value is not a number"),
        ("2 0 0 0 0 0 0 2", "a.txt:2: the quaternion has norm 2"),
    ],
)
def test_a_bad_row_raises_or_is_skipped(tmp_path, caplog, line, message):
    (tmp_path / "a.txt").write_text(f"1 0 0 0 0 0 0 1\n{line}\n3 0 0 0 0 0 0 1\n")
    with pytest.raises(UsageError, match=re.escape(message)):
        read_trajectory(tmp_path / "a.txt")
    read = read_trajectory(tmp_path / "a.txt", skip_bad_frames=True)
    np.testing.assert_array_equal(read.timestamps, [1, 3])
    assert "skipped 1 bad frame" in caplog.text and message in caplog.text


def test_pictures_take_the_pose_and_depth_nearest_in_time(tmp_path, rng, caplog):
    folder = tmp_path / "rgbd_dataset_freiburg3_desk"
    trajectory = make_tum_sequence(
        folder,
        rng,
        image_times=[1.0, 1.1, 1.2, 1.3],
        pose_times=[1.009, 1.09, 1.1049, 1.3199],
        depth_times=[1.001, 1.101, 1.199, 1.299],
    )
    with caplog.at_level(logging.WARNING, logger="jaxreloc"):
        frames = read_tum(folder)
    assert frames.names == ("rgb/1.0.png", "rgb/1.1.png", "rgb/1.3.png")
    np.testing.assert_allclose(
        frames.world_from_cam, trajectory.world_from_cam[[0, 2, 3]], atol=1e-14
    )
    assert "1 of 4 pictures have no pose or depth within 0.02 s" in caplog.text
    assert [float(depth[100, 100]) for depth in frames.depths] == [0, 1, 3]
    assert [int(image[100, 100, 0]) for image in frames.images] == [0, 1, 3]
    np.testing.assert_array_equal(
        frames.intrinsics[0], [[535.4, 0, 320.1], [0, 539.2, 247.6], [0, 0, 1]]
    )


def test_the_first_cameras_pictures_and_depth_are_undistorted_alike(tmp_path, rng):
    folder = tmp_path / "rgbd_dataset_freiburg1_desk"
    make_tum_sequence(folder, rng, image_times=[1.0], pose_times=[1.0], depth_times=[1.0])
    picture = np.zeros((480, 640), np.uint8)
    picture[60:90, 500:540] = 200
    before = np.argwhere(picture).mean(0)
    assert cv2.imwrite(str(folder / "rgb/1.0.png"), picture)
    assert cv2.imwrite(str(folder / "depth/1.0.png"), picture.astype(np.uint16) * 10)
    frames = read_tum(folder)
    image = np.argwhere(frames.images[0][..., 0] > 100).mean(0)
    depth = np.argwhere(frames.depths[0] > 0.1).mean(0)
    np.testing.assert_allclose(image, depth, atol=0.5)
    assert np.linalg.norm(image - before) > 3


def test_intrinsics_come_from_a_file_or_are_asked_for(tmp_path, rng):
    make_tum_sequence(tmp_path / "mine", rng, image_times=[1.0], pose_times=[1.0])
    with pytest.raises(UsageError, match="the camera is unknown; write 'fx fy cx cy'"):
        read_tum(tmp_path / "mine")
    (tmp_path / "mine/intrinsics.txt").write_text("500 501 320 240")
    frames = read_tum(tmp_path / "mine")
    np.testing.assert_array_equal(frames.intrinsics[0], [[500, 0, 320], [0, 501, 240], [0, 0, 1]])
    assert frames.depths is None


def test_bad_pictures_raise_or_are_skipped(tmp_path, rng, caplog):
    folder = tmp_path / "freiburg3"
    make_tum_sequence(folder, rng, image_times=[1.0, 2.0, 3.0], pose_times=[1.0, 2.0, 3.0])
    (folder / "rgb/1.0.png").unlink()
    truncate(folder / "rgb/3.0.png")
    with pytest.raises(UsageError, match="rgb/1.0.png: cannot be read"):
        read_tum(folder)
    assert read_tum(folder, skip_bad_frames=True).names == ("rgb/2.0.png",)
    assert "skipped 2 bad frame(s)" in caplog.text


def test_duplicate_timestamps_of_pictures_are_refused(tmp_path, rng):
    make_tum_sequence(tmp_path, rng, image_times=[1.0], pose_times=[1.0])
    with open(tmp_path / "rgb.txt", "a") as file:
        file.write("\n1.0 rgb/other.png\n")
    with pytest.raises(UsageError, match="rgb.txt:3: timestamp 1.0 came before"):
        read_tum(tmp_path)

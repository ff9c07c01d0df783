"""Keyframes of videos of a room: sharp, apart from each other, few where nothing moves."""

import cv2
import numpy as np
import pytest

from jaxreloc.capture.keyframes import keyframes
from jaxreloc.images import read_image
from jaxreloc.usage import UsageError
from tests.capture.textured_room import TexturedRoom, walk

SIZE, RATE = (320, 240), 20
K = np.array([[300.0, 0, 159.5], [0, 300, 119.5], [0, 0, 1]])


def write_video(path, pictures):
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), RATE, SIZE)
    for picture in pictures:
        video.write(picture)
    video.release()
    return path


def views(rng, count, step=0.03):
    poses = walk(rng, count, step)
    poses[:, :3, :3], poses[:, 1:3, 3] = poses[0, :3, :3], poses[0, 1:3, 3]  # without shaking
    room = TexturedRoom(rng)
    return [room.view(pose, K, SIZE) for pose in poses]


def numbers(folder):
    """Of the frames that were chosen."""
    return [round(float(path.stem) * RATE) for path in sorted(folder.iterdir())]


def test_they_are_sharp_and_apart(tmp_path, rng):
    pictures = views(rng, 60)
    blurred = {i for i in range(1, 60) if i % 2}
    for i in blurred:
        pictures[i] = cv2.GaussianBlur(pictures[i], (0, 0), 3)
    shares = []
    video = write_video(tmp_path / "v.avi", pictures)
    folder = keyframes(video, tmp_path, shares.append)
    chosen = numbers(folder)
    assert chosen[0] == 0 and 5 <= len(chosen) <= 30
    assert not blurred & set(chosen[:-1])
    assert min(np.diff(chosen)) >= 1
    assert shares[-1] > 0.9 and (np.diff(shares) >= 0).all()
    assert read_image(sorted(folder.iterdir())[0]).shape == (240, 320, 3)
    made = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert keyframes(video, tmp_path, shares.append) == folder
    assert made == {path: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_a_camera_that_stands_still_gives_one(tmp_path, rng):
    video = write_video(tmp_path / "v.avi", views(rng, 1) * 20)
    assert numbers(keyframes(video, tmp_path, print)) == [0]


def test_half_the_steps_take_twice_the_frames(tmp_path, rng):
    seed = rng.integers(1 << 30)
    counts = []
    for step in (0.06, 0.03):
        pictures = views(np.random.default_rng(seed), round(1.2 / step), step)
        beside = tmp_path / f"{step}"
        beside.mkdir()
        video = write_video(beside / "v.avi", pictures)
        counts.append(len(numbers(keyframes(video, beside, print))))
    assert abs(counts[0] - counts[1]) <= 2


def test_what_is_no_video_is_one_line(tmp_path):
    (tmp_path / "v.avi").write_bytes(b"no video")
    with pytest.raises(UsageError, match="v.avi: no frame can be read; convert the video to MP4"):
        keyframes(tmp_path / "v.avi", tmp_path, print)
    assert [path.name for path in tmp_path.iterdir()] == ["v.avi"]

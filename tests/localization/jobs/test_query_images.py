"""What --images may name, and what becomes of pictures that are none."""

import time

import cv2
import numpy as np
import pytest

from jaxreloc.localization.jobs import query_images
from jaxreloc.localization.jobs.query_images import find_query_images
from jaxreloc.usage import UsageError


def test_pictures_by_name_and_what_is_none_comes_as_none(tmp_path, rng):
    for name in ("b.png", "sub/a.JPG"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), rng.integers(0, 256, (16, 20, 3), np.uint8))
    (tmp_path / "c.png").write_bytes(b"no picture")
    (tmp_path / "._b.png").write_bytes(b"a resource fork")
    (tmp_path / "notes.txt").write_text("no picture either")
    queries = {query.name: query for query in find_query_images(tmp_path)}
    found = {name: query.image for name, query in queries.items()}
    assert list(found) == ["b.png", "c.png", "sub/a.JPG"]
    assert found["c.png"] is None
    assert "c.png: not a readable picture" in queries["c.png"].problem
    assert found["b.png"].shape == (16, 20, 3)


def test_one_picture_goes_by_its_name(tmp_path, rng):
    cv2.imwrite(str(tmp_path / "b.png"), rng.integers(0, 256, (16, 20, 3), np.uint8))
    queries = find_query_images(tmp_path / "b.png")
    assert [query.name for query in queries] == ["b.png"] and not queries.is_video


def test_what_is_not_there_is_said(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "v.mp4").write_bytes(b"no video")
    for source, message in [
        (tmp_path / "none", "no such picture"),
        (tmp_path / "empty", "no picture in this folder"),
        (tmp_path / "v.mp4", "no frame can be read; convert"),
        ("camera:99", "camera:99: no frame can be read; check that it is connected"),
    ]:
        with pytest.raises(UsageError, match=message):
            list(find_query_images(source))


def test_streams_are_videos():
    assert find_query_images("camera:0").is_video
    assert find_query_images("rtsp://host/stream").is_video


def test_a_cameras_frames_go_by_the_clock(tmp_path, rng, monkeypatch):
    path = str(tmp_path / "v.avi")
    video = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for _ in range(3):
        video.write(np.full((48, 64, 3), (200, 0, 0), np.uint8))  # blue
    video.release()
    opened = []

    def stand_in(source):
        opened.append(source)
        return cv2.VideoCapture(path)

    monkeypatch.setattr(query_images, "_open_quietly", stand_in)
    before = time.time()
    frames = list(find_query_images("camera:3"))
    assert opened == [3] and len(frames) == 3
    times = [float(frame.name) for frame in frames]
    assert before - 1e-5 <= times[0] <= times[1] <= times[2] <= time.time() + 1e-5
    assert frames[0].image[..., 2].mean() > 150 > 50 > frames[0].image[..., 0].mean()

import re

import numpy as np
import pytest

from jaxreloc.formats.readers.seven_scenes import (
    frame_files,
    intrinsics,
    parse_split,
    read_seven_scenes,
)
from jaxreloc.usage import UsageError
from tests.formats.scenes import make_seven_scenes, truncate


@pytest.mark.parametrize("suffix", [".color.png", ".color.jpg"])
def test_round_trip_is_exact(tmp_path, rng, suffix):
    poses = make_seven_scenes(tmp_path / "chess", rng, suffix=suffix)
    frames = read_seven_scenes(tmp_path / "chess")
    assert frames.scene == "chess"
    assert frames.names[0] == "seq-01/frame-000000.color.png"
    assert frames.sequences == ("seq-01",) * 3 + ("seq-02",) * 3
    np.testing.assert_allclose(frames.world_from_cam, poses, atol=1e-14)
    assert [int(image[9, 9, 0]) for image in frames.images] == [10, 11, 12, 20, 21, 22]


def test_colour_and_depth_have_their_own_intrinsics(tmp_path, rng):
    make_seven_scenes(tmp_path, rng)
    frames = read_seven_scenes(tmp_path)
    focal = [52.5, 58.5]  # 525 and 585 at a tenth of the width
    for K, f in zip((frames.intrinsics, frames.depth_intrinsics), focal):
        np.testing.assert_allclose(K[0], [[f, 0, 31.5], [0, f, 23.5], [0, 0, 1]])
    depth = frames.select([4]).depths[0]
    np.testing.assert_array_equal(depth[0, :3], np.array([0, 0, 0.021], np.float32))
    np.testing.assert_allclose(intrinsics(525, 640, 480)[:2, 2], [319.5, 239.5])


def test_without_depth_there_is_none(tmp_path, rng):
    make_seven_scenes(tmp_path, rng, depth=False)
    frames = read_seven_scenes(tmp_path)
    assert frames.depths is None and frames.depth_intrinsics is None


def test_splits_are_the_scenes_own(tmp_path, rng):
    poses = make_seven_scenes(tmp_path, rng, sequences=(1, 2, 14))
    train = read_seven_scenes(tmp_path, split="train")
    np.testing.assert_allclose(train.world_from_cam, poses[:3], atol=1e-14)
    test = read_seven_scenes(tmp_path, split="test")
    assert set(test.sequences) == {"seq-02", "seq-14"}
    np.testing.assert_allclose(test.world_from_cam, poses[3:], atol=1e-14)
    one = read_seven_scenes(tmp_path / "seq-02")
    assert one.names[0] == "seq-02/frame-000000.color.png" and len(one) == 3


@pytest.mark.parametrize(
    "text, expected",
    [
        ("sequence1\r\nsequence3\r\n", ["seq-01", "seq-03"]),
        ("sequence14", ["seq-14"]),
    ],
)
def test_split_files(text, expected):
    assert parse_split(text, "TrainSplit.txt") == expected


@pytest.mark.parametrize("text, message", [("seq-01", "'seq-01' is not of"), ("", "no sequence")])
def test_bad_split_files_are_refused(text, message):
    with pytest.raises(UsageError, match=f"^TrainSplit.txt: .*{message}"):
        parse_split(text, "TrainSplit.txt")


def test_a_missing_sequence_is_named_with_the_remedy(tmp_path, rng):
    make_seven_scenes(tmp_path, rng)
    (tmp_path / "TestSplit.txt").write_text("sequence5\r\n")
    with pytest.raises(UsageError, match="seq-05: missing, .* unpack seq-05.zip there"):
        read_seven_scenes(tmp_path, split="test")


def spoil_pose(text):
    return lambda folder: (folder / "frame-000001.pose.txt").write_text(text)


@pytest.mark.parametrize(
    "spoil, message",
    [
        (spoil_pose("1 0 0 0\n0 1 0 0\n0 0 1 nan\n0 0 0 1\n"), "frame-000001.pose.txt: an entry"),
        (spoil_pose("1 0 0 0\n0 1 0 0\n0 0 1 0\n"), "not four rows of four numbers"),
        (spoil_pose("1 0 0 0\n0 2 0 0\n0 0 1 0\n0 0 0 1\n"), "not a rigid transform"),
        (spoil_pose(""), "not four rows"),
        (lambda seq: (seq / "frame-000001.pose.txt").unlink(), "frame-000001 has no pose.txt"),
        (lambda seq: (seq / "frame-000001.color.png").unlink(), "frame-000001 has no picture"),
        (lambda seq: (seq / "frame-000001.color.png").write_bytes(b""), "not a readable"),
    ],
)
def test_a_bad_frame_raises_or_is_skipped(tmp_path, rng, caplog, spoil, message):
    make_seven_scenes(tmp_path, rng)
    spoil(tmp_path / "seq-01")
    with pytest.raises(UsageError, match=re.escape(message)) as error:
        read_seven_scenes(tmp_path)
    assert str(tmp_path / "seq-01") in str(error.value)
    assert len(read_seven_scenes(tmp_path, skip_bad_frames=True)) == 5
    assert "skipped 1 bad frame" in caplog.text and message in caplog.text


def test_a_picture_that_breaks_off_is_skipped(tmp_path, rng):
    make_seven_scenes(tmp_path, rng)
    truncate(tmp_path / "seq-01/frame-000001.color.png")
    frames = read_seven_scenes(tmp_path, skip_bad_frames=True)
    assert "seq-01/frame-000001.color.png" not in frames.names and len(frames) == 5


def test_stray_files_are_no_frames():
    names = ["Thumbs.db", "frame-000003.pose.txt", "frame-000003.color.png", "frame-3.txt"]
    frames, complaints = frame_files(names)
    assert [(frame.number, frame.depth) for frame in frames] == [(3, None)] and not complaints

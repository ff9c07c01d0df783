import logging
import pickle

import numpy as np
import pytest

from jaxreloc.formats.cameras import Camera
from jaxreloc.formats.collector import BadFrames, FrameCollector
from jaxreloc.usage import UsageError
from tests.formats.scenes import HEIGHT, WIDTH, random_poses, write_picture

CAMERA = Camera(30, 30, 15.5, 11.5, WIDTH, HEIGHT)


def test_the_first_bad_frame_raises_and_names_the_way_out():
    bad = BadFrames("list.txt", skip=False)
    with pytest.raises(UsageError, match="^a.png: broken; --skip_bad_frames leaves"), bad.guard():
        raise UsageError("a.png: broken")


def test_skipped_frames_are_counted_and_listed_in_one_warning(caplog):
    bad = BadFrames("list.txt", skip=True)
    for name in ("a", "b"):
        with bad.guard():
            raise UsageError(f"{name}.png: broken")
    with caplog.at_level(logging.WARNING, logger="absl"):
        bad.report()
    (message,) = caplog.messages
    assert message == "list.txt: skipped 2 bad frame(s):\n  a.png: broken\n  b.png: broken"


def test_no_warning_without_bad_frames(caplog):
    bad = BadFrames("list.txt", skip=True)
    with bad.guard():
        pass
    bad.report()
    assert not caplog.messages


def test_other_errors_are_not_swallowed():
    with pytest.raises(KeyError), BadFrames("list.txt", skip=True).guard():
        raise KeyError("a defect")


def test_collected_frames_pickle_and_decode(tmp_path, rng):
    poses = random_poses(rng, 2)
    collector = FrameCollector("room", tmp_path)
    for i, pose in enumerate(poses):
        write_picture(tmp_path / f"{i}.png", i + 7)
        collector.add(f"{i}.png", tmp_path / f"{i}.png", pose, CAMERA, sequence="a")
    frames = pickle.loads(pickle.dumps(collector.finish()))
    np.testing.assert_array_equal(frames.world_from_cam, poses)
    assert frames.sequences == ("a", "a") and frames.depths is None
    assert [int(image[0, 0, 0]) for image in frames.images] == [7, 8]


def test_a_picture_of_another_size_is_refused(tmp_path, rng):
    write_picture(tmp_path / "a.png", 7, (WIDTH, HEIGHT + 1))
    collector = FrameCollector("room", "list.txt")
    with pytest.raises(UsageError, match="a.png: is 32 x 25, but .* list.txt are for 32 x 24"):
        collector.add("a.png", tmp_path / "a.png", random_poses(rng, 1)[0], CAMERA)


def test_no_frame_at_all_is_refused():
    with pytest.raises(UsageError, match="^list.txt: no usable frame"):
        FrameCollector("room", "list.txt").finish()

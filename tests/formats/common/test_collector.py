import logging
import pathlib
import pickle

import cv2
import numpy as np
import pytest

from jaxreloc.formats.common.camera_models import Camera
from jaxreloc.formats.common.collector import BadFrames, FrameCollector, relative_name
from jaxreloc.usage import CommonError, UsageError
from tests.formats.scenes import HEIGHT, WIDTH, random_poses, write_picture

CAMERA = Camera(30, 30, 15.5, 11.5, WIDTH, HEIGHT)


def test_the_first_bad_frame_raises_and_names_the_way_out():
    bad = BadFrames("list.txt", skip=False)
    with pytest.raises(UsageError, match="^a.png: broken; or leave such frames out") as error:
        with bad.guard():
            raise UsageError("a.png: broken")
    for way in ("--skip_bad_frames", "--config.data.skip_bad_frames=True", "builder_kwargs="):
        assert way in str(error.value)


def test_skipped_frames_are_counted_and_listed_in_one_warning(caplog):
    bad = BadFrames("list.txt", skip=True)
    for name in ("a", "b"):
        with bad.guard():
            raise UsageError(f"{name}.png: broken")
    with caplog.at_level(logging.WARNING, logger="jaxreloc"):
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


def test_what_all_frames_share_is_no_frames_fault():
    for skip in (False, True):
        with pytest.raises(CommonError, match="^k.txt: broken$"):
            with BadFrames("list.txt", skip=skip).guard():
                raise CommonError("k.txt: broken")


def test_a_picture_of_another_size_is_refused(tmp_path, rng):
    write_picture(tmp_path / "a.png", 7, (WIDTH, HEIGHT + 1))
    collector = FrameCollector("room", "list.txt")
    with pytest.raises(UsageError, match="a.png: .* are for 32 x 24 pixels, .* is 32 x 25"):
        collector.add("a.png", tmp_path / "a.png", random_poses(rng, 1)[0], CAMERA)


def test_no_frame_at_all_is_refused():
    with pytest.raises(UsageError, match="^list.txt: no usable frame"):
        FrameCollector("room", "list.txt").finish()


def collect_with_depth(folder, rng, depth, **options):
    """Frames 0.png to 2.png, of which the second has `depth`, the others depth of their own."""
    collector = FrameCollector("room", folder, **options)
    for i, pose in enumerate(random_poses(rng, 3)):
        write_picture(folder / f"{i}.png", i)
        assert cv2.imwrite(str(folder / f"{i}.depth.png"), np.full((HEIGHT, WIDTH), i, np.uint16))
        own = depth if i == 1 else folder / f"{i}.depth.png"
        with collector.bad.guard():
            collector.add(f"{i}.png", folder / f"{i}.png", pose, CAMERA, depth=own)
    return collector.finish()


def test_bad_depth_raises_or_is_skipped(tmp_path, rng):
    missing, broken = tmp_path / "none.png", tmp_path / "broken.png"
    with pytest.raises(UsageError, match="none.png: depth picture of 1.png is missing"):
        collect_with_depth(tmp_path, rng, missing)
    broken.write_bytes(b"no picture")
    for bad in (missing, broken):
        frames = collect_with_depth(tmp_path, rng, bad, skip_bad_frames=True)
        assert frames.names == ("0.png", "2.png")
        assert [float(depth[0, 0]) for depth in frames.depths] == pytest.approx([0, 0.002])


def test_frames_that_lack_depth_are_counted(tmp_path, rng, caplog):
    assert collect_with_depth(tmp_path, rng, None).depths is None
    assert "1 of 3 frames have no depth picture" in caplog.text


def test_images_are_named_by_their_path_from_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = pathlib.Path("room")
    assert relative_name(folder / "images/a.png", folder) == "images/a.png"
    assert relative_name(tmp_path / "room/a.png", folder) == "a.png"
    assert relative_name(tmp_path / "other/a.png", folder) == "../other/a.png"

"""A run of queries: one line an image, whatever the files, and nothing answered is lost."""

import contextlib
import json
import os
import pathlib
import types

import cv2
import numpy as np
import pycolmap
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from jaxreloc.formats.common.geodesy import GeographicOrigin
from jaxreloc.formats.readers.transforms_json import named_poses
from jaxreloc.formats.writers import answer_formats
from jaxreloc.localization.assumed_camera import PresumedCamera
from jaxreloc.localization.jobs import querying
from jaxreloc.localization.localizer import Localizer
from jaxreloc.localization.query_state import Localization
from jaxreloc.usage import UsageError
from tests.formats.readers.bags import Messages, write_bag

ORIGIN = GeographicOrigin(60.0, 25.0, 10.0)
FILES = sorted({*answer_formats.NAMES} - {"colmap"})


class StandIn(Localizer):
    """Answers with the picture's mean as the camera's place, and keeps what it was given.

    The picture whose mean is 20 is refused.
    """

    num_neighbors = 1

    def __init__(self, stop_at=None, error=KeyboardInterrupt):
        self.scene_map = types.SimpleNamespace(names=("a", "b"), images_near=self._images_near)
        self.assumed_camera = types.SimpleNamespace(of_picture=self._presumed)
        self.method = types.SimpleNamespace(finds_focal_length=False)
        self.asked = []
        self._stop_at, self._error = stop_at, error

    @staticmethod
    def _presumed(header, *, searches):
        width, height = header.size
        intrinsics = np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1.0]])
        return PresumedCamera(intrinsics, None, "map")

    def warm_up(self, *, candidates, searching):
        assert not searching
        return 1.0

    @staticmethod
    def _images_near(place):
        return np.array([place[0] < 0.5, True])

    def __call__(
        self,
        image,
        intrinsics,
        candidates=None,
        expected=None,
        allowed=None,
        *,
        focal_deviation=None,
    ):
        assert focal_deviation is None
        if len(self.asked) == self._stop_at:
            raise self._error
        self.allowed = allowed
        self.asked.append((image.shape, intrinsics))
        pose = np.eye(4)
        pose[:3, 3] = image.mean()
        one = np.ones(1, bool)
        return Localization(
            pose, bool(image.mean() != 20), 0.9, one, one, np.eye(3), 0.1, np.zeros(1, int),
            {"fusion": 1.0}, covariance=np.eye(6),
        )


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(6):
        assert cv2.imwrite(str(folder / f"{i}.png"), np.full((24, 32, 3), 10 * i, np.uint8))
    return folder


def run(pictures, out, localizer=None, form="tum", **options):
    return querying.localize_images(
        localizer or StandIn(),
        pictures,
        out,
        answer_formats.answer_format(form, ORIGIN, "map"),
        **options,
    )


def answered(out):
    return [line.split()[0] for line in out.read_text().splitlines() if line[0] != "#"]


def add_bad_files(folder):
    """What destroyed a whole run: shapes, a bomb, a pipe, a name, and no pictures at all."""
    os.mkfifo(folder / "pipe.jpg")
    (folder / "folder.jpg").mkdir()
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.jpg").write_text("hello")
    for name, size in [("long.png", (20_000, 20)), ("row.png", (900, 1)), ("dot.png", (1, 1))]:
        Image.new("L", size).save(folder / name)
    with open(os.fsencode(folder) + b"/caf\xe9.png", "wb") as file:
        Image.new("RGB", (32, 24), (77, 77, 77)).save(file, "png")
    header = bytearray((folder / "0.png").read_bytes())
    header[16:24] = np.array([40_000, 40_000], ">u4").tobytes()
    (folder / "bomb.png").write_bytes(header)


def names_in(form, out):
    """Of what a format has as localized."""
    if form == "colmap":
        model = pycolmap.Reconstruction(str(out))
        return {image.name for image in model.images.values()}
    if form == "nerfstudio":
        return {frame["file_path"] for frame in json.loads(out.read_text())["frames"]}
    if form in ("jsonl", "geopose"):
        lines = map(json.loads, out.read_text(encoding="utf-8").splitlines())
        return {line["name"] for line in lines if line.get("success", True)}
    return set(answered(out))


@pytest.mark.parametrize("form", answer_formats.NAMES)
def test_bad_files_do_not_stop_the_others(pictures, tmp_path, form, capsys, caplog):
    add_bad_files(pictures)
    count = run(pictures, tmp_path / "out", form=form)
    assert (count.total, count.localized, count.unread) == (14, 6, 7)
    if form == "jsonl":
        assert "left out" not in str(count)
    else:
        assert f"; 8 left out, {form} has no failures" in str(count)
    printed = capsys.readouterr().out
    assert printed.count("\n") == 14
    if form in ("tum", "7scenes", "jsonl"):
        assert printed == (tmp_path / "out").read_text(encoding="utf-8")
    found = names_in(form, tmp_path / "out")
    assert found == {*(f"{i}.png" for i in (0, 1, 3, 4, 5)), "caf\\xe9.png"}
    assert len(caplog.records) == 7 and not (tmp_path / "out.partial").exists()


@pytest.mark.parametrize("form", FILES)
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, OSError])
def test_what_was_answered_is_kept_and_gone_on_from(pictures, tmp_path, form, error):
    out = tmp_path / "out"
    run(pictures, tmp_path / "whole", form=form)
    with pytest.raises(error):
        run(pictures, out, StandIn(stop_at=3, error=error), form)
    assert not out.exists()
    kept = (tmp_path / "out.partial").read_text().splitlines()[1:]
    assert len(kept) == 3
    rest = StandIn()
    count = run(pictures, out, rest, form, resume=True)
    assert len(rest.asked) == 3 and (count.total, count.localized) == (6, 5)
    assert sorted(os.listdir(tmp_path)) == ["out", "pictures", "whole"]
    if form != "jsonl":  # which has times
        assert out.read_bytes() == (tmp_path / "whole").read_bytes()


def interrupted(pictures, out):
    with pytest.raises(KeyboardInterrupt):
        run(pictures, out, StandIn(stop_at=3))
    return out.with_name("out.partial")


def test_a_line_that_a_crash_cut_off_is_answered_again(pictures, tmp_path):
    out = tmp_path / "out"
    partial = interrupted(pictures, out)
    partial.write_bytes(partial.read_bytes()[:-9])
    localizer = StandIn()
    run(pictures, out, localizer, resume=True)
    assert len(localizer.asked) == 4
    assert answered(out) == [f"{i}.png" for i in (0, 1, 3, 4, 5)]


def test_answers_are_gone_on_from_in_another_format(pictures, tmp_path):
    interrupted(pictures, tmp_path / "out")
    run(pictures, tmp_path / "out", form="nerfstudio", resume=True)
    class Bad:
        guard = contextlib.nullcontext

    found = {x.name: x.world_from_cam for x in named_poses(tmp_path / "out", Bad)}
    assert sorted(found) == [f"{i}.png" for i in (0, 1, 3, 4, 5)]
    for name, world_from_cam in found.items():
        expected = np.eye(4)
        expected[:3, 3] = 10 * int(name[0])
        np.testing.assert_allclose(world_from_cam, expected)


def test_a_model_takes_no_ones_place(pictures, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match="exists; --out names the new folder of the colmap model"):
        run(pictures, tmp_path / "out", form="colmap")
    with pytest.raises(UsageError, match="is a folder"):
        run(pictures, tmp_path / "out", form="nerfstudio")


def test_a_place_limits_the_images_that_may_be_neighbours(pictures, tmp_path):
    localizer = StandIn()
    run(pictures, tmp_path / "out", localizer, near=(1, 0, 0, 2))
    assert localizer.allowed.tolist() == [False, True]
    with pytest.raises(KeyboardInterrupt):
        run(pictures, tmp_path / "other", StandIn(stop_at=3), near=(1, 0, 0, 2))
    with pytest.raises(UsageError, match="other flags"):
        run(pictures, tmp_path / "other", resume=True)


def test_what_is_kept_is_neither_overwritten_nor_mixed(pictures, tmp_path):
    out = tmp_path / "out"
    partial = interrupted(pictures, out)
    before = partial.read_bytes()
    for options, message in [
        ({}, "left 3 answers; go on from them with --resume"),
        ({"resume": True, "intrinsics_path": intrinsics_file(tmp_path)}, "other flags"),
    ]:
        with pytest.raises(UsageError, match=message):
            run(pictures, out, **options)
        assert partial.read_bytes() == before
    partial.write_bytes(before.replace(b'"name": "1.png", ', b""))
    with pytest.raises(UsageError, match="out.partial: damaged .no answer"):
        run(pictures, out, resume=True)


def test_two_runs_do_not_write_one_file(pictures, tmp_path):
    from jaxreloc.localization.jobs.answer_file import AnswerFile

    settings = querying._settings(
        StandIn(), querying.find_query_images(pictures), None, None
    )
    with AnswerFile(tmp_path / "out", settings, resume=False):
        with pytest.raises(UsageError, match="another program is writing it"):
            run(pictures, tmp_path / "out")


def test_answers_that_another_run_takes_away_are_not_written_to(tmp_path, monkeypatch):
    """It was finished between our opening the file and our locking it."""
    from jaxreloc.localization.jobs import answer_file

    def lock_late(*_):
        (tmp_path / "out.partial").unlink()

    monkeypatch.setattr(answer_file.fcntl, "flock", lock_late)
    with pytest.raises(UsageError, match="another program is writing it"):
        answer_file.AnswerFile(tmp_path / "out", "settings", resume=False)


def test_where_nothing_could_be_read_nothing_is_left(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.png").write_text("none")
    (tmp_path / "out").write_text("old")
    with pytest.raises(UsageError, match="no picture could be localized"):
        run(folder, tmp_path / "out")
    assert (tmp_path / "out").read_text() == "old" and len(os.listdir(tmp_path)) == 2


def test_a_ros_bag_is_a_video_with_its_own_camera(tmp_path, rng):
    make = Messages("mcap")
    pixels = rng.integers(0, 256, (24, 32, 3), np.uint8)
    K = np.array([[30.0, 0, 16], [0, 31.0, 11], [0, 0, 1]])
    topics = {
        "/left/image": [make.image(pixels, "rgb8", 7), make.image(pixels, "16UC1")],
        "/left/camera_info": [make.camera_info(32, 24, K, [])],
        "/right/image": [make.image(pixels, "rgb8")],
    }
    bag = write_bag(tmp_path, "mcap", make, topics)
    with pytest.raises(UsageError, match="choose with --topic: /left/image, /right/image"):
        run(bag, tmp_path / "out")
    localizer = StandIn()
    count = run(bag, tmp_path / "out", localizer, topic="/left/image")
    assert (count.total, count.unread) == (2, 1)
    ((_, intrinsics),) = localizer.asked
    np.testing.assert_array_equal(intrinsics, K)
    assert answered(tmp_path / "out") == ["0.000000007"]
    localizer = StandIn()
    given = intrinsics_file(tmp_path, "40 40 15.5 11.5")
    run(bag, tmp_path / "out", localizer, topic="/left/image", intrinsics_path=given)
    assert localizer.asked[0][1][0, 0] == 40


def test_only_a_bag_has_topics(pictures, tmp_path):
    for source in (pictures, "camera:0"):
        with pytest.raises(UsageError, match="is no ROS bag, and has no --topic=/a; leave it out"):
            run(source, tmp_path / "out", topic="/a")


def test_pictures_of_formats_that_are_not_read_are_named(pictures, tmp_path, caplog):
    for name in ("b.AVIF", "a.gif"):
        (pictures / name).write_bytes(b"")
    assert run(pictures, tmp_path / "out").total == 6
    assert "2 picture(s) in .avif, .gif are skipped, the first is a.gif" in caplog.text


def intrinsics_file(folder, text="60 62 34 22"):
    (folder / "intrinsics.txt").write_text(text)
    return folder / "intrinsics.txt"


def test_intrinsics_of_either_form_are_turned_with_the_picture(tmp_path):
    folder = pathlib.Path(tmp_path, "pictures")
    folder.mkdir()
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (64, 48)).save(folder / "a.jpg", exif=exif)
    for text in ("60 62 34 22", "62 60 25 34"):  # stored; upright, by hand
        localizer = StandIn()
        run(folder, tmp_path / "o", localizer, intrinsics_path=intrinsics_file(tmp_path, text))
        ((shape, intrinsics),) = localizer.asked
        assert shape == (64, 48, 3)
        np.testing.assert_allclose(intrinsics, [[62, 0, 25], [0, 60, 34], [0, 0, 1]])


def test_intrinsics_of_another_picture_are_a_failure_of_that_picture(pictures, tmp_path, caplog):
    Image.new("RGB", (480, 640)).save(pictures / "portrait.png")
    path = intrinsics_file(tmp_path, "30 30 16 12")
    count = run(pictures, tmp_path / "out", intrinsics_path=path)
    assert (count.total, count.localized, count.unread) == (7, 5, 1)
    assert "portrait.png: " in caplog.text and "are not of a 480 x 640 image" in caplog.text


def test_a_video_is_expected_where_it_was_or_as_much_further(rng):
    def pose():
        found = np.eye(4)
        found[:3, :3] = Rotation.random(rng=rng).as_matrix()
        found[:3, 3] = rng.normal(size=3)
        return found

    before, step = pose(), pose()
    now = before @ step
    assert querying.expected_poses([]) is None
    np.testing.assert_array_equal(querying.expected_poses([now])[0], now)
    same, further = querying.expected_poses([before, now])
    np.testing.assert_array_equal(same, now)
    np.testing.assert_allclose(further, now @ step, atol=1e-12)

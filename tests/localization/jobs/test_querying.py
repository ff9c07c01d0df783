"""A run of queries: one line an image, whatever the files, and nothing answered is lost."""

import json
import os
import pathlib
import types

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from jaxreloc.formats.localized_poses import LINE_FORMATS
from jaxreloc.localization.jobs import querying
from jaxreloc.localization.localizer import Localizer
from jaxreloc.localization.query_state import Localization
from jaxreloc.usage import UsageError


class StandIn(Localizer):
    """Answers with the picture's mean as the camera's place, and keeps what it was given."""

    num_neighbors = 1

    def __init__(self, stop_at=None, error=KeyboardInterrupt):
        self.scene_map = types.SimpleNamespace(names=("a", "b"))
        self.assumed_camera = types.SimpleNamespace(intrinsics=self._assumed)
        self.asked = []
        self._stop_at, self._error = stop_at, error

    @staticmethod
    def _assumed(width, height):
        return np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1.0]])

    def warm_up(self, *, candidates):
        return 1.0

    def __call__(self, image, intrinsics, candidates=None, expected=None):
        if len(self.asked) == self._stop_at:
            raise self._error
        self.asked.append((image.shape, intrinsics))
        pose = np.eye(4)
        pose[:3, 3] = image.mean()
        one = np.ones(1, bool)
        return Localization(
            pose, True, 0.9, one, one, np.eye(3), 0.1, np.zeros(1, int), {"fusion": 1.0},
            covariance=np.eye(6),
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
        localizer or StandIn(), pictures, out, LINE_FORMATS[form], **options
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


@pytest.mark.parametrize("form", LINE_FORMATS)
def test_bad_files_do_not_stop_the_others(pictures, tmp_path, form, capsys, caplog):
    add_bad_files(pictures)
    count = run(pictures, tmp_path / "out", form=form)
    assert (count.total, count.localized, count.unread) == (14, 7, 7)
    text = (tmp_path / "out").read_text(encoding="utf-8")
    assert capsys.readouterr().out == text
    if form == "jsonl":
        lines = map(json.loads, text.splitlines())
        found = {line["name"] for line in lines if line["success"]}
    else:
        found = set(answered(tmp_path / "out"))
    assert found == {*(f"{i}.png" for i in range(6)), "caf\\xe9.png"}
    assert len(caplog.records) == 7 and not (tmp_path / "out.partial").exists()


@pytest.mark.parametrize("form", LINE_FORMATS)
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
    assert len(rest.asked) == 3 and (count.total, count.localized) == (6, 6)
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
    assert answered(out) == [f"{i}.png" for i in range(6)]


def test_what_is_kept_is_neither_overwritten_nor_mixed(pictures, tmp_path):
    out = tmp_path / "out"
    partial = interrupted(pictures, out)
    before = partial.read_bytes()
    for options, message in [
        ({}, "left 3 answers; go on from them with --resume"),
        ({"resume": True, "form": "colmap"}, "another map or other flags"),
        ({"resume": True, "intrinsics_path": intrinsics_file(tmp_path)}, "other flags"),
    ]:
        with pytest.raises(UsageError, match=message):
            run(pictures, out, **options)
        assert partial.read_bytes() == before
    partial.write_bytes(before.replace(b"2.png", b"2.png x"))
    with pytest.raises(UsageError, match="out.partial: damaged .not a pose"):
        run(pictures, out, resume=True)


def test_two_runs_do_not_write_one_file(pictures, tmp_path):
    from jaxreloc.localization.jobs.answer_file import AnswerFile

    settings = querying._settings(
        StandIn(), querying.find_query_images(pictures), LINE_FORMATS["tum"], None
    )
    with AnswerFile(tmp_path / "out", settings, resume=False):
        with pytest.raises(UsageError, match="another program is writing it"):
            run(pictures, tmp_path / "out")


def test_where_nothing_could_be_read_nothing_is_left(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.png").write_text("none")
    (tmp_path / "out").write_text("old")
    with pytest.raises(UsageError, match="no picture could be localized"):
        run(folder, tmp_path / "out")
    assert (tmp_path / "out").read_text() == "old" and len(os.listdir(tmp_path)) == 2


def test_pictures_of_formats_that_are_not_read_are_named(pictures, tmp_path, caplog):
    for name in ("b.HEIC", "a.gif"):
        (pictures / name).write_bytes(b"")
    assert run(pictures, tmp_path / "out").total == 6
    assert "2 picture(s) in .gif, .heic are skipped, the first is a.gif" in caplog.text


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
    assert (count.total, count.localized, count.unread) == (7, 6, 1)
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

"""Photographs without poses become a map; what cannot is one sentence, and nothing is written."""

import functools
import json
import pathlib
import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

from jaxreloc.capture import from_photographs
from jaxreloc.capture.photographs import find_photographs, lacks_poses
from jaxreloc.capture.sfm import pairing, sift_features
from jaxreloc.capture.sfm.work_folder import work_folder
from jaxreloc.capture.stages import Stages
from jaxreloc.capture.structure import find_structure
from jaxreloc.formats.common.collector import BadFrames
from jaxreloc.localization.map.large import catalogue, kept_index
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.usage import UsageError
from tests.capture.textured_room import TexturedRoom, walk, write_walk
from tests.photographs import save_small_network, write_photographs
from tests.scripts import assert_fails, call_command


def structure_of(folder: pathlib.Path, out: pathlib.Path):
    photographs = find_photographs(folder)
    pairs = functools.partial(pairing.all_pairs, len(photographs))
    stages = Stages({"features": 1, "matching": 1, "mapping": 1})
    with work_folder(out) as work, stages:
        bad = BadFrames(folder, skip=False)
        return find_structure(work, photographs, pairs, bad, stages)


def relative_lengths(poses: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(poses[1:, :3, 3] - poses[:1, :3, 3], axis=1)
    return lengths / lengths.sum()


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """Of a small network."""
    folder = tmp_path_factory.mktemp("network")
    save_small_network(folder)
    return folder


@pytest.fixture(scope="module")
def walked(tmp_path_factory, workdir):
    """Photographs of a room with their true poses, a map of them, and what was printed."""
    folder = tmp_path_factory.mktemp("walked")
    poses = write_walk(folder / "photographs", np.random.default_rng(3))
    (folder / "photographs" / "05.png").rename(folder / "photographs" / "at home 5.png")
    metres = np.linalg.norm(poses[5, :3, 3] - poses[0, :3, 3])
    distance = f"--distance=00.png,at home 5.png,{metres}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalogue, "MIN_IMAGES", 1)  # the map counts as a large one
        result = build(folder / "photographs", folder, workdir, distance)
    assert result.returncode == 0, result.stderr
    return folder, poses, result


def build(photographs, folder, workdir, *arguments):
    out = (f"--out={folder}/map", f"--workdir={workdir}")
    return call_command("map", "build", f"--images={photographs}", *out, *arguments)


def test_the_map_has_the_cameras_where_they_were(walked):
    folder, poses, result = walked
    assert "7 of 7 photographs have a pose" in result.stdout
    assert "as given" in result.stdout and "no poses; they are found" in result.stderr
    scene_map = SceneMap.open(folder / "map")
    rows = [int(name.removesuffix(".png")[-2:]) for name in scene_map.names]
    found, true = scene_map.world_from_db, poses[rows]
    between = [np.linalg.inv(x[0]) @ x for x in (found, true)]
    np.testing.assert_allclose(between[0][:, :3, 3], between[1][:, :3, 3], atol=0.05)
    np.testing.assert_allclose(between[0][:, :3, :3], between[1][:, :3, :3], atol=0.02)
    np.testing.assert_allclose(scene_map.intrinsics[:, 0, 0], 300, rtol=0.03)
    assert (scene_map.scale.source, scene_map.scale.deviation) == ("distance", None)
    assert (folder / "map" / catalogue.FILE_NAME).exists()


def test_answers_say_where_their_metres_come_from(walked, tmp_path):
    folder, _, _ = walked
    arguments = (f"--map={folder}/map", f"--images={folder}/photographs/00.png")
    result = call_command("query", *arguments, f"--out={tmp_path}/o", "--format=jsonl")
    answer = json.loads((tmp_path / "o").read_text())
    assert result.returncode == 0 and answer.get("scale_source", "distance") == "distance"


def test_a_second_run_goes_on_from_the_first(walked, monkeypatch):
    folder, _, _ = walked
    shutil.copytree(folder / "map.sfm", folder / "other.sfm")
    monkeypatch.setattr(sift_features, "_describe", None)  # which would be called
    found = structure_of(folder / "photographs", folder / "other")
    assert len(found.frames) == 7 and not found.unregistered
    shutil.rmtree(folder / "other.sfm" / "models")  # as an interrupt would have left it
    found = structure_of(folder / "photographs", folder / "other")
    assert len(found.frames) == 7
    again = folder / "photographs" / "00.png"
    again.touch()  # another picture, for all that is known
    with pytest.raises(TypeError):
        structure_of(folder / "photographs", folder / "other")


def test_pictures_of_two_cameras_make_one_map(tmp_path):
    """Of a room and a walk in which COLMAP places all pictures; it does not in every one."""
    rng = np.random.default_rng(3)
    room, poses = TexturedRoom(rng), walk(rng, 8, 0.2)
    folder = tmp_path / "photographs"
    write_walk(folder, rng, room=room, poses=poses[::2], prefix="wide")
    write_walk(folder, rng, room=room, poses=poses[1::2], focal=420, size=(280, 360))
    found = structure_of(folder, tmp_path / "map").frames
    assert len(found) == 8
    is_wide = np.array([name.startswith("wide") for name in found.names])
    focal = found.intrinsics[:, 0, 0]
    np.testing.assert_allclose(focal, np.where(is_wide, 300, 420), rtol=0.05)


def test_a_picture_of_elsewhere_is_named_with_the_reason(tmp_path, rng):
    """The walk is that of `walked`: in some rooms COLMAP places two pictures alone."""
    folder = tmp_path / "photographs"
    write_walk(folder, np.random.default_rng(3))
    write_walk(folder, rng, 1, prefix="elsewhere")
    cv2.imwrite(str(folder / "sky.png"), np.full((240, 320, 3), 200, np.uint8))
    structure = structure_of(folder, tmp_path / "map")
    assert len(structure.frames) == 7
    lines = list(from_photographs.report(structure, 9))
    assert lines[0] == "7 of 9 photographs have a pose"
    assert lines[1].startswith("  elsewhere00.png: no overlap with the others; photograph the way")
    assert lines[2].startswith("  sky.png: too few features (0); photograph something with more")


class TestBadInput:
    @pytest.fixture
    def folder(self, tmp_path, workdir):
        self.workdir = workdir
        (tmp_path / "photographs").mkdir()
        return tmp_path

    def refused(self, folder, *words, arguments=()):
        before = sorted(folder.rglob("*"))
        assert_fails(build(folder / "photographs", folder, self.workdir, *arguments), *words)
        assert sorted(folder.rglob("*")) == before

    def test_one_photograph(self, folder, rng):
        write_walk(folder / "photographs", rng, 1)
        self.refused(folder, "1 picture(s) without poses; a map needs at least 3")

    def test_copies_of_one_photograph(self, folder, rng):
        write_walk(folder / "photographs", rng, 1)
        for i in range(4):
            shutil.copy(folder / "photographs/00.png", folder / f"photographs/c{i}.png")
        self.refused(folder, "1 picture(s) (and 4 copies)", "from different places")

    def test_one_view_again_and_again(self, folder, rng):
        write_walk(folder / "photographs", rng, 1)
        picture = Image.open(folder / "photographs/00.png")
        for i in range(4):
            picture.save(folder / f"photographs/q{i}.jpg", quality=80 + i)
        self.refused(folder, "all photographs show the same view", "to the side")

    def test_no_overlap(self, folder, rng):
        for prefix in "abcd":
            write_walk(folder / "photographs", rng, 1, prefix=prefix)
        self.refused(folder, "no two of 4 photographs show the same", "in steps of half a metre")

    def test_a_text_named_jpg(self, folder, rng):
        write_walk(folder / "photographs", rng, 3)
        (folder / "photographs" / "notes.jpg").write_text("hello")
        self.refused(folder, "notes.jpg: not a readable picture", "--skip_bad_frames")

    def test_a_distance_of_nothing(self, folder, rng):
        write_walk(folder / "photographs", rng, 3)
        missing = ("--distance=00.png,zz.png,2",)
        self.refused(folder, "--distance: there is no photograph zz.png", arguments=missing)
        for wrong in ("00.png,01.png", "00.png,00.png,2", "00.png,01.png,-2", "a,b,far"):
            self.refused(folder, "give two photographs", arguments=(f"--distance={wrong}",))

    def test_an_index_without_its_library(self, folder, rng, monkeypatch):
        def absent(asker, otherwise):
            raise UsageError(f"{asker} needs FAISS, or {otherwise}")

        monkeypatch.setattr(kept_index, "check_library", absent)
        write_walk(folder / "photographs", rng, 3)
        self.refused(folder, "--index needs FAISS", "leave --index out", arguments=("--index",))

    def test_a_place_on_the_earth_of_no_poses(self, folder, rng):
        write_walk(folder / "photographs", rng, 3)
        given = ("--geographic_origin=60,24,0",)
        self.refused(folder, "--geographic_origin is of poses, which these", arguments=given)

    def test_a_distance_of_photographs_with_poses(self, folder, rng):
        shutil.rmtree(folder / "photographs")
        write_photographs(folder / "photographs", rng, n=3)
        given = ("--distance=00.png,01.png,2",)
        self.refused(folder, "--distance is for photographs without poses", arguments=given)


def test_only_pictures_without_poses_are_taken(tmp_path, rng):
    write_photographs(tmp_path / "posed", rng, n=2)
    assert not lacks_poses(tmp_path / "posed") and lacks_poses(tmp_path / "posed" / "images")
    (tmp_path / "empty").mkdir()
    assert not lacks_poses(tmp_path / "empty") and not lacks_poses(tmp_path / "none")
    (tmp_path / "a.mp4").write_bytes(b"")
    assert lacks_poses(tmp_path / "a.mp4")

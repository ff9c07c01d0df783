"""`jaxreloc map` and `jaxreloc query` as a user runs them: build a map, query it, change it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pycolmap
import pytest

from jaxreloc.formats.posed_images import read_posed_images
from jaxreloc.formats.readers.pose_list import read_evaluation_poses
from tests.photographs import save_small_network, write_photographs
from tests.scripts import ROOT, assert_fails, call_command, run_command


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With `photographs`, a `workdir` and their `map`; for tests that do not change them."""
    folder = tmp_path_factory.mktemp("localize")
    write_photographs(folder / "photographs", np.random.default_rng(0), n=6)
    save_small_network(folder / "workdir")
    result = call_command(*map_arguments(folder, folder / "map"))
    assert result.returncode == 0, result.stderr
    assert "6 images of" in result.stdout and "kB each" in result.stdout
    assert "images/s" in result.stdout
    return folder


def map_arguments(folder, out):
    images = folder / "photographs"
    return ("map", "build", f"--images={images}", f"--out={out}", f"--workdir={folder}/workdir")


def query_arguments(folder, images, out):
    return ("query", f"--map={folder}/map", f"--images={images}", f"--out={out}")


def query(folder, images, out, *arguments):
    return call_command(*query_arguments(folder, images, out), *arguments)


def test_pictures_give_a_line_each(folder, tmp_path):
    out = tmp_path / "poses.txt"
    chosen = query_arguments(folder, folder / "photographs" / "images", out)
    result = run_command(*chosen, "--format=7scenes")
    assert result.returncode == 0, result.stderr
    assert "no intrinsics given" in result.stderr and "a query takes" in result.stderr
    lines = out.read_text().splitlines()
    assert result.stdout.splitlines()[:-1] == lines
    assert [line.strip("#: ").split()[0].rstrip(":") for line in lines] == [
        f"{i:02d}.png" for i in range(6)
    ]
    if any(not line.startswith("#") for line in lines):
        assert set(read_evaluation_poses(out).names) <= {f"{i:02d}.png" for i in range(6)}


def test_video_gives_a_line_a_frame(folder, tmp_path, rng):
    video = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (128, 96))
    for _ in range(3):
        video.write(cv2.resize(rng.integers(0, 256, (12, 16, 3), np.uint8), (128, 96)))
    video.release()
    (tmp_path / "intrinsics.txt").write_text("100 100 63.5 47.5\n")
    intrinsics = f"--intrinsics={tmp_path}/intrinsics.txt"
    result = query(folder, tmp_path / "v.avi", tmp_path / "out", "--format=jsonl", intrinsics)
    assert result.returncode == 0, result.stderr
    assert "intrinsics" not in result.stderr
    lines = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    assert all(0 <= line.get("confidence", 0) <= 1 for line in lines)
    np.testing.assert_allclose([float(line["name"]) for line in lines], [0, 0.1, 0.2], atol=1e-3)


def test_a_picture_that_is_none_does_not_stop_the_others(folder, tmp_path):
    pictures = tmp_path / "pictures"
    shutil.copytree(folder / "photographs" / "images", pictures)
    (pictures / "02.png").write_bytes(b"no picture")
    result = query(folder, pictures, tmp_path / "out", "--viz")
    assert_fails(result, "of 6 images localized", "1 could not be read")
    lines = (tmp_path / "out").read_text().splitlines()
    assert len(lines) == 6 and lines[2] == "# 02.png: not localized"
    assert "02.png: not a readable picture" in result.stderr
    assert "<html" in (tmp_path / "out_report.html").read_text()[:200]
    (tmp_path / "out").write_text("old")
    result = query(folder, pictures / "02.png", tmp_path / "out")
    assert_fails(result, "no picture could be localized (", "02.png: not a readable picture")
    assert (tmp_path / "out").read_text() == "old"


def test_poses_apart_from_the_images(folder, tmp_path):
    shutil.copytree(folder / "photographs" / "images", tmp_path / "pictures")
    (tmp_path / "pictures" / "03.png").rename(tmp_path / "pictures" / "other.png")
    poses = f"--poses={folder}/photographs/transforms.json"
    arguments = (poses, f"--out={tmp_path}/map", f"--workdir={folder}/workdir")
    result = call_command("map", "build", f"--images={tmp_path}/pictures", *arguments)
    assert result.returncode == 0 and "5 images" in result.stdout, result.stderr
    assert "1 of 6 poses have no picture" in result.stderr
    assert "1 of 6 pictures have no pose" in result.stderr
    (tmp_path / "strangers").mkdir()
    (tmp_path / "pictures" / "other.png").rename(tmp_path / "strangers" / "x.png")
    result = call_command(
        "map", "build", f"--images={tmp_path}/strangers", poses, f"--out={tmp_path}/m"
    )
    assert_fails(result, "poses: images/00.png, images/01.png, images/02.png", "pictures: x.png")


def test_geographic_answers_need_an_origin(folder, tmp_path):
    images = folder / "photographs" / "images"
    asked = (images, tmp_path / "out", "--format=geopose")
    assert_fails(query(folder, *asked), "map: has no geographic origin", "--geographic_origin=LAT")
    given = (*map_arguments(folder, tmp_path / "map"), "--geographic_origin=60.1,24.9,12")
    assert call_command(*given).returncode == 0
    result = query(tmp_path, *asked, "--near_gps=60.1,24.9,100")
    assert result.returncode == 0, result.stderr
    for line in (tmp_path / "out").read_text().splitlines():
        assert json.loads(line)["position"]["lat"] == pytest.approx(60.1, abs=1e-2)
    other = (*map_arguments(folder, tmp_path / "other"), "--geographic_origin=")
    assert_fails(call_command(*other[:-1], f"{other[-1]}60,24"), "=60,24: give 3 numbers")
    assert_fails(call_command(*other[:-1], f"{other[-1]}99,24,0"), "latitude_deg is 99; give -90")
    assert not (tmp_path / "other").exists()


def test_a_damaged_map_is_found(folder, tmp_path):
    shutil.copytree(folder / "map", tmp_path / "map")
    result = call_command("map", "check", f"--map={tmp_path}/map", "--files")
    assert result.returncode == 0 and "every file is as it was written" in result.stdout
    picture = tmp_path / "map/segments/000000/pictures/000003.jpg"
    picture.write_bytes(picture.read_bytes()[:-1] + b"x")
    result = call_command("map", "check", f"--map={tmp_path}/map", "--files")
    assert_fails(result, "1 problem(s)")
    assert "pictures/000003.jpg: damaged, or of another map" in result.stdout


def test_a_map_is_exported_and_what_cannot_be_is_said(folder, tmp_path):
    def export(out, *options):
        given = (f"--map={folder}/map", f"--out={tmp_path / out}", *options)
        return call_command("map", "export", *given)

    result = export("m", "--format=colmap")
    assert result.returncode == 0 and "6 images and 0 points" in result.stdout, result.stderr
    assert pycolmap.Reconstruction(str(tmp_path / "m")).num_reg_images() == 6
    images = f"--images={folder}/photographs"
    result = export("n", "--format=nerfstudio", images)
    assert result.returncode == 0, result.stderr
    again = read_posed_images(tmp_path / "n")
    first = read_posed_images(folder / "photographs")
    np.testing.assert_allclose(again.world_from_cam, first.world_from_cam, atol=1e-9)
    np.testing.assert_allclose(again.intrinsics, first.intrinsics)
    assert_fails(export("n", "--format=colmap"), "exists")
    assert_fails(export("o"), "--format is missing")


def test_a_map_is_checked_and_merged_by_what_its_network_sees(folder, tmp_path):
    """This one sees nothing, having random weights."""
    result = call_command("map", "check", f"--map={folder}/map")
    assert result.returncode in (0, 2) and "6 images checked: " in result.stdout, result.stderr
    shutil.copytree(folder / "map", tmp_path / "other")
    out = f"--out={tmp_path}/new"
    result = call_command("map", "merge", f"--map={folder}/map", f"--other={tmp_path}/other", out)
    assert_fails(result, "images of", "agree on where the maps lie; too few to merge them")
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_a_map_changes_in_place(folder, tmp_path):
    shutil.copytree(folder / "map", tmp_path / "map")
    changed = f"--map={tmp_path}/map"
    result = call_command("map", "remove", changed, "--names=images/00.png,images/01.png")
    assert result.returncode == 0 and "4 images" in result.stdout, result.stderr
    more = f"--images={folder}/photographs"
    assert_fails(call_command("map", "add", changed, more), "images/02.png and 3 more", "already")
    assert_fails(call_command("map", "remove", changed, "--names=nobody.png"), "nobody.png")
    one = tmp_path / "one"
    write_photographs(one, np.random.default_rng(1), n=1)
    result = call_command("map", "add", changed, f"--images={one}")
    assert result.returncode == 0 and "5 images" in result.stdout, result.stderr


@pytest.mark.slow
def test_a_map_of_one_image_fails_without_a_crash(folder, tmp_path):
    write_photographs(tmp_path / "one", np.random.default_rng(1), n=1)
    network = f"--workdir={folder}/workdir"
    result = call_command(
        "map", "build", f"--images={tmp_path}/one", f"--out={tmp_path}/map", network
    )
    assert result.returncode == 0 and "1 images" in result.stdout, result.stderr
    result = query(tmp_path, tmp_path / "one" / "images", tmp_path / "out", "--format=jsonl")
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "out").read_text())["name"] == "00.png"


@pytest.mark.slow
def test_the_documented_lines_of_python_run(folder, tmp_path):
    text = (ROOT / "docs" / "localization.md").read_text()
    (tmp_path / "lines.py").write_text(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1])
    (tmp_path / "MAP").symlink_to(folder / "map")
    picture = cv2.imread(str(folder / "photographs" / "images" / "00.png"))
    cv2.imwrite(str(tmp_path / "query.jpg"), picture)
    result = subprocess.run(
        [sys.executable, "lines.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert "ms a query" in result.stdout


@pytest.mark.slow
def test_interrupting_keeps_what_was_localized(folder, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i in range(300):
        shutil.copy(folder / "photographs" / "images" / "00.png", pictures / f"{i:03d}.png")
    arguments = (f"--map={folder}/map", f"--images={pictures}", f"--out={tmp_path}/out")
    command = [sys.executable, "-m", "jaxreloc", "query", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as process:
        for _ in range(3):
            process.stdout.readline()
        process.send_signal(signal.SIGINT)
        last = process.communicate()[1].splitlines()[-1]
    assert process.returncode == 130 and last.startswith("interrupted: ") and "--resume" in last
    assert 3 <= len((tmp_path / "out.partial").read_text().splitlines()) - 1 < 300


def test_mistakes(folder, tmp_path):
    assert_fails(run_command("mpa"), "no command 'mpa'", "map add", "map remove", "query")
    assert_fails(call_command(*map_arguments(folder, folder / "map")), "exists")
    both = ("--workdir=a", "--checkpoint=b")
    assert_fails(
        call_command("map", "build", "--images=x", "--out=y", *both), "--workdir", "--checkpoint"
    )
    images = folder / "photographs" / "images"
    assert_fails(query(tmp_path, images, tmp_path / "o"), "no scene map", "jaxreloc map build")
    assert_fails(query(folder, tmp_path, tmp_path / "o"), "no picture")
    assert_fails(query(folder, images, tmp_path / "o", "--format=xml"), "tum", "jsonl")
    assert_fails(query(folder, images, tmp_path / "o", "--near=1,2,3"), "--near=1,2,3: give 4")
    assert_fails(query(folder, images, tmp_path / "o", "--near=99,0,0,1"), "no image of the map")
    both = ("--near=0,0,0,1", "--near_gps=60,24,5")
    assert_fails(query(folder, images, tmp_path / "o", *both), "give one of them")
    assert_fails(query(folder, images, tmp_path / "o", both[1]), "has no geographic origin")
    assert_fails(query(folder, images, tmp_path / "o", "--workdir=x"), "query takes no --workdir")
    assert_fails(query(folder, images, tmp_path / "o", "--mode=fast"), "mode is for the method all")
    assert_fails(query(folder, images, tmp_path), "is a folder; --out names the file")
    (tmp_path / "k.txt").write_text("100 100 640 360")
    wrong = f"--intrinsics={tmp_path}/k.txt"
    assert_fails(query(folder, images, tmp_path / "o", wrong), "k.txt", "128 x 96 image")
    shutil.copy(images / "00.png", tmp_path / "a photo.png")
    assert_fails(query(folder, tmp_path / "a photo.png", tmp_path / "o"), "space", "jsonl")
    assert not (tmp_path / "o").exists()


def test_nothing_outlives_a_build_that_is_killed(folder, tmp_path, rng):
    """Neither a process nor, once the next build is done, a folder."""
    out = tmp_path / "maps" / "map"
    command = [sys.executable, "-m", "jaxreloc", *map_arguments(folder, out)]
    parent = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    deadline = time.monotonic() + 120
    while not list(out.parent.glob(".map.*")):
        assert parent.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(rng.uniform(0, 0.5))
    parent.kill()
    parent.wait()
    while group_lives(parent.pid):
        assert time.monotonic() < deadline, "a process outlives the command"
        time.sleep(0.05)
    shutil.rmtree(out, ignore_errors=True)  # it may have been done
    result = call_command(*map_arguments(folder, out))
    assert result.returncode == 0, result.stderr
    assert [path.name for path in out.parent.iterdir()] == ["map"]


def group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True

"""run_localize.py as a user runs it: build a map, query it, change it."""

import json

import cv2
import numpy as np
import pytest

from jaxreloc.formats.pose_list import read_evaluation_poses
from tests.photographs import assert_fails, run_script, save_small_network, write_photographs


def run_localize(*arguments):
    return run_script("run_localize.py", *arguments)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With `photographs`, a `workdir` and their `map`; for tests that do not change them."""
    folder = tmp_path_factory.mktemp("localize")
    write_photographs(folder / "photographs", np.random.default_rng(0), n=6)
    save_small_network(folder / "workdir")
    result = build_map(folder, folder / "map")
    assert result.returncode == 0, result.stderr
    assert "6 images" in result.stdout
    return folder


def build_map(folder, out):
    images = folder / "photographs"
    return run_localize("map", f"--images={images}", f"--out={out}", f"--workdir={folder}/workdir")


def query(folder, images, out, *arguments):
    return run_localize(
        "query", f"--map={folder}/map", f"--images={images}", f"--out={out}", *arguments
    )


def test_pictures_give_a_line_each(folder, tmp_path):
    out = tmp_path / "poses.txt"
    result = query(folder, folder / "photographs" / "images", out, "--format=colmap")
    assert result.returncode == 0, result.stderr
    assert "no --intrinsics" in result.stderr
    lines = out.read_text().splitlines()
    assert result.stdout.splitlines()[:-1] == lines
    assert [line.strip("#: ").split()[0].rstrip(":") for line in lines] == [f"{i:02d}.png" for i in range(6)]
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
    np.testing.assert_allclose([float(line["name"]) for line in lines], [0, 0.1, 0.2], atol=1e-3)


def test_mistakes(folder, tmp_path):
    assert_fails(run_localize("mpa"), "map add", "map remove", "query")
    assert_fails(build_map(folder, folder / "map"), "exists")
    both = ("--workdir=a", "--checkpoint=b")
    assert_fails(run_localize("map", "--images=x", "--out=y", *both), "--workdir", "--checkpoint")
    images = folder / "photographs" / "images"
    assert_fails(query(tmp_path, images, tmp_path / "o"), "no scene map", "run_localize.py map")
    assert_fails(query(folder, tmp_path, tmp_path / "o"), "no picture")
    assert_fails(query(folder, tmp_path, tmp_path / "o", "--format=xml"), "tum", "jsonl")
    assert not (tmp_path / "o").exists()

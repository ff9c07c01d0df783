"""run_eval.py as a user runs it: the table, the files, and what it says to mistakes."""

import json
import pathlib
import subprocess
import sys

import cv2
import jax
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxreloc.evaluation.evaluate import METHODS
from jaxreloc.models import build, saved_network

ROOT = pathlib.Path(__file__).parents[1]
MODEL = {"backbone": "resnet18", "head": "concat"}


def run_eval(*arguments):
    return subprocess.run(
        [sys.executable, "run_eval.py", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workdir")
    variables = build.init_variables(build.build_network(MODEL), jax.random.key(0))
    config = {"model": MODEL, "data": {"short_side": 72, "crop": 64}}
    saved_network.save_network(folder / "best", config, variables)
    return folder


@pytest.fixture
def photographs(tmp_path, rng):
    """Twelve textured pictures with poses in a transforms.json, OpenGL axes."""
    frames = []
    for i in range(12):
        name = f"images/{i:02d}.png"
        (tmp_path / "images").mkdir(exist_ok=True)
        picture = cv2.resize(rng.integers(0, 256, (12, 16, 3), np.uint8), (128, 96))
        cv2.imwrite(str(tmp_path / name), picture)
        pose = np.eye(4)
        pose[:3, :3] = Rotation.from_rotvec(rng.normal(size=3) * 0.1).as_matrix()
        pose[:3, 3] = rng.normal(size=3)
        frames.append({"file_path": name, "transform_matrix": pose.tolist()})
    camera = {"fl_x": 100, "fl_y": 100, "cx": 64, "cy": 48, "w": 128, "h": 96}
    write_transforms(tmp_path, camera | {"frames": frames})
    return tmp_path


def write_transforms(folder, content):
    (folder / "transforms.json").write_text(json.dumps(content))


def edit_transforms(folder, edit):
    content = json.loads((folder / "transforms.json").read_text())
    edit(content)
    write_transforms(folder, content)


def own_photographs(folder, workdir):
    return ("--dataset=posed_images", f"--data_path={folder}", "--scene=mine", f"--workdir={workdir}")


def test_own_photographs_end_to_end(photographs, workdir, tmp_path):
    out = tmp_path / "results"
    result = run_eval(*own_photographs(photographs, workdir), f"--out={out}")
    assert result.returncode == 0, result.stderr
    for title in METHODS.values():
        assert title in result.stdout
    metrics = json.loads((out / "metrics.json").read_text())
    assert set(metrics["scenes"]["mine"]) == set(METHODS)
    nearest = metrics["scenes"]["mine"]["nearest"]
    assert nearest["num_queries"] == 2 and nearest["num_failed"] == 0
    assert [r["recall"] for r in nearest["recalls"]] == pytest.approx([0, 0, 0, 0], abs=1)
    lines = (out / "mine" / "nearest.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == [f"images/{i:02d}.png" for i in (4, 9)]
    for line in lines:
        assert np.linalg.norm([float(x) for x in line.split()[1:5]]) == pytest.approx(1, abs=1e-5)
    assert (out / "mine" / "network.png").stat().st_size > 1000


def fails_with(result, *words):
    assert result.returncode == 2, result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and "Traceback" not in result.stderr
    for word in words:
        assert word in last, last


def test_wrong_names_list_the_right_ones(workdir):
    fails_with(
        run_eval("--dataset=seven_scene", "--scene=chess", f"--workdir={workdir}"),
        "seven_scenes",
        "posed_images",
        "synthetic_rooms",
        "university",
    )
    fails_with(run_eval("--scene=ches", f"--workdir={workdir}"), "chess", "redkitchen", "stairs")
    fails_with(
        run_eval("--scene=chess", f"--workdir={workdir}", "--baseline=surf"), "surf", "nearest", "sift"
    )


def test_absent_dataset_says_how_to_get_it(workdir, tmp_path):
    arguments = ("--scene=chess", f"--workdir={workdir}", f"--data_dir={tmp_path}")
    fails_with(run_eval(*arguments), "seven_scenes")


def test_missing_or_doubled_arguments(workdir, tmp_path):
    fails_with(run_eval(f"--workdir={workdir}"), "--scene")
    fails_with(run_eval("--scene=chess"), "--workdir", "--checkpoint")
    fails_with(run_eval("--pairs=list.txt"), "--estimates")
    fails_with(run_eval("--scene=chess", f"--workdir={tmp_path}"), str(tmp_path), "run_train.py")


def test_network_of_another_architecture_lists_every_parameter(workdir):
    config = ("--config=configs/pairs.py", "--config.model.backbone=resnet34")
    result = run_eval("--scene=chess", f"--workdir={workdir}", *config)
    fails_with(result, "parameters do not match", "is missing")
    assert result.stderr.count("is missing") > 50


def test_unknown_config_field_lists_the_known(workdir):
    config = ("--config=configs/pairs.py", "--config.model.backbon=resnet34")
    fails_with(run_eval("--scene=chess", f"--workdir={workdir}", *config), "backbon", "backbone")


def test_unreadable_picture_and_pose_that_is_not_rigid(photographs, workdir):
    picture = photographs / "images" / "03.png"
    good = picture.read_bytes()
    picture.write_bytes(b"not a picture")
    fails_with(run_eval(*own_photographs(photographs, workdir)), "03.png")
    picture.write_bytes(good)

    def shear(content):
        content["frames"][4]["transform_matrix"][0][1] += 0.5

    edit_transforms(photographs, shear)
    fails_with(run_eval(*own_photographs(photographs, workdir)), "transforms.json", "rigid")

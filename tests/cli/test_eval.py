"""`jaxreloc eval` and run_eval.py as a user runs them: table, files, mistakes."""

import csv
import json
import re

import numpy as np
import pytest

from jaxreloc.evaluation.evaluate import DEFAULT_METHODS, METHODS
from tests.photographs import save_small_network, write_photographs
from tests.scripts import assert_fails, call_command, run_script


def run_eval(*arguments):
    return call_command("eval", *arguments)


def assert_refused(result, *words):
    """One line about the mistake, and none before it."""
    assert_fails(result, *words)
    assert result.stdout == "" and len(result.stderr.splitlines()) == 1


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workdir")
    save_small_network(folder)
    return folder


@pytest.fixture
def photographs(tmp_path, rng):
    write_photographs(tmp_path / "photographs", rng)
    return tmp_path / "photographs"


def edit_transforms(folder, edit):
    content = json.loads((folder / "transforms.json").read_text())
    edit(content)
    (folder / "transforms.json").write_text(json.dumps(content))


def distort(folder):
    edit_transforms(folder, lambda content: content.update(k1=0.01))


def own_photographs(folder, workdir):
    return (
        "--dataset=posed_images",
        f"--data_path={folder}",
        "--scene=mine",
        f"--workdir={workdir}",
    )


def test_own_photographs_end_to_end(photographs, workdir, tmp_path):
    out = tmp_path / "results"
    distort(photographs)
    chosen = own_photographs(photographs, workdir)
    result = run_script("run_eval.py", *chosen, f"--out={out}", "--viz")
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("lens distortion") == 1
    assert f"{out}/report.html" in result.stdout
    for method in DEFAULT_METHODS:
        assert METHODS[method] in result.stdout
    metrics = json.loads((out / "metrics.json").read_text())
    assert set(metrics["scenes"]["mine"]) == set(DEFAULT_METHODS)
    nearest = metrics["scenes"]["mine"]["nearest"]
    assert nearest["num_queries"] == 2 and nearest["num_failed"] == 0
    assert [r["recall"] for r in nearest["recalls"]] == pytest.approx([0, 0, 0, 0], abs=1)
    lines = (out / "mine" / "nearest.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == [f"images/{i:02d}.png" for i in (4, 9)]
    for line in lines:
        assert np.linalg.norm([float(x) for x in line.split()[1:5]]) == pytest.approx(1, abs=1e-5)
    assert (out / "mine" / "network.png").stat().st_size > 1000
    assert (out / "mine" / "error_curves.png").stat().st_size > 1000
    with open(out / "mine" / "errors.csv", newline="") as file:
        errors = [float(row["nearest_position_m"]) for row in csv.DictReader(file)]
    assert nearest["median_position_m"] == pytest.approx(np.median(errors))
    shown = json.loads(re.search(r'id="data">(.*?)</script>', (out / "report.html").read_text())[1])
    (scene,) = shown["scenes"]
    assert (len(scene["database"]["names"]), len(scene["queries"]["names"])) == (10, 2)
    assert [method["key"] for method in scene["methods"]] == list(DEFAULT_METHODS)
    assert scene["methods"][0]["positionErrors"] == pytest.approx(errors, rel=1e-5)
    assert scene["matchedBy"] == "SIFT" and set(scene["pictures"]) == {"0", "1"}


def test_wrong_names_list_the_right_ones(workdir):
    assert_refused(
        run_eval("--dataset=seven_scene", "--scene=chess", f"--workdir={workdir}"),
        "seven_scenes",
        "posed_images",
        "synthetic_rooms",
        "university",
    )
    result = run_eval("--scene=ches", f"--workdir={workdir}")
    assert_refused(result, "chess", "redkitchen", "stairs")
    assert_refused(
        run_eval("--scene=chess", f"--workdir={workdir}", "--baseline=surf"),
        "surf",
        "nearest",
        "sift",
    )


@pytest.mark.parametrize(
    "given, words",
    [
        (["--pairs=p", "--estimates=e", "--scene=a"], "--scene has no use with --pairs and --est"),
        (["--pairs=p", "--estimates=e", "--mode=fast"], "--mode has no use with --pairs"),
        (["--pairs=p", "--estimates=e", "--poses=a"], "--poses has no use with --pairs"),
        (["--pairs=p", "--estimates=e", "--method=all_matches"], "known: median, paper, robust"),
        (["--poses=p", "--truth=t", "--workdir=w"], "--workdir has no use with --poses and --tr"),
        (["--poses=p", "--truth=t", "--baseline=sift"], "--baseline has no use with --poses"),
        (["--poses=p", "--truth=t", "--out=o"], "--out has no use with --poses"),
        (["--poses=p", "--truth=t", "--config.a=1"], "--config has no use with --poses"),
        (["--scene=a", "--translation_frame=camera"], "--translation_frame is for --pairs and"),
        (["--scene=a", "--config.a=1"], "--config.a=1 changes a config; name it with --config"),
    ],
)
def test_a_flag_that_would_do_nothing_is_refused(given, words):
    assert_refused(run_eval(*given), words)


def test_a_method_says_what_it_does_not_take(photographs, workdir, tmp_path):
    out = f"--out={tmp_path}/results"
    chosen = (*own_photographs(photographs, workdir), out)
    assert_refused(run_eval(*chosen, "--mode=fast"), "mode is for the method all_matches, not for")
    shipped = (*chosen[:3], out, "--min_baseline=0")
    assert_refused(run_eval(*shipped), "min_baseline is for the methods robust, paper and median")
    assert not (tmp_path / "results").exists()


def test_ground_truths_are_of_seven_scenes(workdir):
    chosen = (f"--workdir={workdir}", "--scene=chess", "--ground_truth=dslam,slam")
    assert_fails(run_eval(*chosen), "slam", "dslam", "sfm")
    other = (f"--workdir={workdir}", "--scene=a", "--dataset=posed_images", "--ground_truth=sfm")
    assert_fails(run_eval(*other), "--ground_truth", "seven_scenes", "posed_images")


def test_absent_dataset_says_how_to_get_it(workdir, tmp_path):
    arguments = ("--scene=chess", f"--workdir={workdir}", f"--data_dir={tmp_path}")
    assert_fails(run_eval(*arguments), "seven_scenes", "README", "--data_path")


def test_missing_or_doubled_arguments(photographs, workdir, tmp_path):
    assert_fails(run_script("run_eval.py", f"--workdir={workdir}"), "--scene")
    both = (f"--workdir={workdir}", f"--checkpoint={workdir}")
    assert_fails(run_eval("--scene=chess", *both), "--workdir", "--checkpoint")
    assert_fails(run_eval("--pairs=list.txt"), "--estimates")
    assert_fails(run_eval("--poses=poses.txt"), "--truth")
    assert_fails(run_eval("--poses=poses.txt", "--truth=truth.txt"), "poses.txt", "cannot be read")
    untrained = own_photographs(photographs, tmp_path)
    assert_fails(run_eval(*untrained), str(tmp_path), "run_train.py")


def test_network_of_another_architecture_lists_every_parameter(photographs, workdir):
    config = ("--config=configs/pairs.py", "--config.model.backbone=resnet34")
    result = run_eval(*own_photographs(photographs, workdir), *config)
    assert_fails(result, "parameters do not match", "is missing")
    assert result.stderr.count("is missing") > 50


def test_unknown_config_field_lists_the_known(workdir):
    config = ("--config=configs/pairs.py", "--config.model.backbon=resnet34")
    assert_fails(run_eval("--scene=chess", f"--workdir={workdir}", *config), "backbon", "backbone")


def test_a_config_that_is_none(workdir, tmp_path):
    (tmp_path / "a.txt").write_text("two words")
    config = f"--config={tmp_path}/a.txt"
    assert_fails(run_eval("--scene=chess", f"--workdir={workdir}", config), f"{config}: line 1: ")
    given = "import ml_collections\nget_config = ml_collections.ConfigDict\n"
    (tmp_path / "a.txt").write_text(given)
    assert_fails(run_eval("--scene=chess", f"--workdir={workdir}", config), "field config.model")


def test_unreadable_picture_and_pose_that_is_not_rigid(photographs, workdir):
    picture = photographs / "images" / "03.png"
    good = picture.read_bytes()
    picture.write_bytes(b"not a picture")
    assert_fails(run_eval(*own_photographs(photographs, workdir)), "03.png")
    picture.write_bytes(good)

    def shear(content):
        content["frames"][4]["transform_matrix"][0][1] += 0.5

    edit_transforms(photographs, shear)
    assert_fails(run_eval(*own_photographs(photographs, workdir)), "transforms.json", "rigid")

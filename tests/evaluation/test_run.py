"""All of 7-Scenes, on its dummy build: what is printed and what is written."""

import json

import pytest
import tensorflow_datasets as tfds

import tfds_builders  # noqa: F401  (registers the builders)
from jaxreloc.evaluation import run
from jaxreloc.evaluation.baselines.published import SEVEN_SCENES
from jaxreloc.formats.readers.pose_list import read_evaluation_poses
from jaxreloc.formats.readers.seven_scenes import SCENES
from tests.data.conftest import DUMMY_DATA
from tests.photographs import save_small_network

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """The folder of the results and what was printed, against the re-estimated ground truth."""
    folder = tmp_path_factory.mktemp("seven_scenes")
    builder = tfds.builder("seven_scenes/all_sfm", data_dir=folder / "data")
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=DUMMY_DATA)
    )
    save_small_network(folder / "workdir")
    settings = run.Settings(
        dataset="seven_scenes/sfm",
        scenes=("all",),
        data_dir=str(folder / "data"),
        methods=("nearest",),
    )
    printed = run.evaluate_network(folder / "workdir", settings, folder / "out")
    return folder / "out", printed


def test_a_table_for_each_scene_for_all_and_of_medians(evaluated):
    out, printed = evaluated
    assert (out / "tables.txt").read_text() == printed + "\n"
    for scene in (*SCENES, "all 7 scenes"):
        assert f"{scene}: " in printed
    medians = printed[printed.index("median errors by scene") :]
    header = medians.splitlines()[1].split()
    assert header[-8:] == [*SCENES, "average"]
    for method in ("most similar image", *(x.method for x in SEVEN_SCENES)):
        assert any(line.startswith(method) for line in medians.splitlines())


def test_the_average_is_of_the_scenes_metrics(evaluated):
    out, printed = evaluated
    scenes = json.loads((out / "metrics.json").read_text())["scenes"]
    assert list(scenes) == list(SCENES)
    mean = sum(scenes[s]["nearest"]["median_position_m"] for s in SCENES) / len(SCENES)
    medians = printed[printed.index("median errors by scene") :].splitlines()
    row = next(line for line in medians if line.startswith("most similar image"))
    assert float(row.split("  ")[-1].split(";")[0]) == pytest.approx(mean, abs=0.006)


def test_pose_files_have_the_names_of_the_public_ground_truth(evaluated):
    out, _ = evaluated
    config = json.loads((out / "public_evaluator.json").read_text())
    assert [scene["name"] for scene in config["scenes"]] == list(SCENES)
    for scene in config["scenes"]:
        truth = DUMMY_DATA / "sfm" / scene["pgt"].rpartition("/")[2]
        assert scene["pgt"] == f"pgt/sfm/7scenes/{scene['name']}_test.txt"
        estimates = {e["algo"]: e["estimated_poses"] for e in scene["estimates"]}
        found = read_evaluation_poses(estimates["most similar image"])
        assert set(found.names) <= set(read_evaluation_poses(truth).names)

import csv
import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxreloc.evaluation.evaluate import MethodResult
from jaxreloc.evaluation.metrics import PoseErrors
from jaxreloc.evaluation.results import write_evaluator_config, write_results
from jaxreloc.localization.clock import STAGES


def some_result(rng, key, n=8, num_failed=2) -> MethodResult:
    poses = np.tile(np.eye(4), (n, 1, 1))
    poses[:, :3, :3] = Rotation.random(n, rng=rng).as_matrix()
    poses[:, :3, 3] = rng.normal(size=(n, 3))
    success = np.arange(n) >= num_failed
    errors = (np.where(success, rng.uniform(0, high, n), np.inf) for high in (1, 9))
    return MethodResult(
        key=key,
        names=tuple(f"seq-01/frame-{i:06d}.color.png" for i in range(n)),
        world_from_query=poses,
        success=success,
        errors=PoseErrors(*errors),
        stage_ms={stage: rng.random(n) for stage in STAGES},
    )


def read_as_the_public_evaluator(path):
    """World-from-camera by name: eight fields a line, no comment and no empty line allowed."""
    poses = {}
    for line in path.read_text().split("\n")[:-1]:
        name, *values = line.split()
        qw, qx, qy, qz, *t = map(float, values)
        matrix = np.eye(4)
        matrix[:3, :3] = Rotation.from_quat([qx, qy, qz, qw]).as_matrix()
        matrix[:3, 3] = t
        poses[name] = np.linalg.inv(matrix)
    return poses


@pytest.fixture
def written(rng, tmp_path):
    results = {"chess": [some_result(rng, "network"), some_result(rng, "sift", num_failed=8)]}
    write_results(tmp_path, results, {"dataset": "seven_scenes"})
    return results["chess"], tmp_path


def test_pose_files_are_what_the_public_evaluator_reads(written):
    (network, _), folder = written
    poses = read_as_the_public_evaluator(folder / "chess/network.txt")
    assert list(poses) == list(network.names[2:])
    for i, name in enumerate(network.names[2:], start=2):
        np.testing.assert_allclose(poses[name], network.world_from_query[i], atol=1e-12)
    assert (folder / "chess/sift.txt").read_text() == ""  # all failed: no line, not an empty one


def test_errors_of_every_query_and_method(written):
    results, folder = written
    with open(folder / "chess/errors.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == list(results[0].names)
    for result in results:
        for quantity in ("position_m", "rotation_deg"):
            values = [float(row[f"{result.key}_{quantity}"]) for row in rows]
            np.testing.assert_array_equal(values, getattr(result.errors, quantity))


def test_error_curves_are_the_shares_below_each_threshold(written):
    results, folder = written
    with open(folder / "chess/error_curves.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for result in results:
        for quantity in ("position_m", "rotation_deg"):
            errors = getattr(result.errors, quantity)
            chosen = [r for r in rows if (r["method"], r["quantity"]) == (result.key, quantity)]
            assert len(chosen) > 50
            for row in chosen:
                below = np.mean(errors < float(row["threshold"]))
                assert float(row["share"]) == pytest.approx(below, abs=1e-5)
    last = [r for r in rows if r["method"] == "network" and r["quantity"] == "rotation_deg"][-1]
    assert (float(last["threshold"]), float(last["share"])) == (180, 0.75)


def test_metrics_have_no_infinity(written):
    _, folder = written
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["settings"] == {"dataset": "seven_scenes"}
    assert metrics["scenes"]["chess"]["network"]["num_failed"] == 2
    assert metrics["scenes"]["chess"]["sift"]["median_position_m"] is None


def test_evaluator_config_points_to_the_pose_files(written):
    _, folder = written
    path = folder / "config.json"
    write_evaluator_config(path, folder, ["chess"], {"network": "network"}, truth="sfm")
    config = json.loads(path.read_text())
    (scene,) = config["scenes"]
    assert scene["pgt"] == "pgt/sfm/7scenes/chess_test.txt"
    (estimate,) = scene["estimates"]
    assert estimate["estimated_poses"] == str(folder / "chess/network.txt")
    assert (config["image_width"], config["image_height"]) == (640, 480)

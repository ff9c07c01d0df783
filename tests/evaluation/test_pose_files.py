import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxreloc.evaluation import run
from jaxreloc.evaluation.metrics import summarize
from jaxreloc.evaluation.pose_files import read_pose_errors
from jaxreloc.formats.readers.pose_list import EvaluationPoses, write_evaluation_poses
from jaxreloc.formats.readers.seven_scenes import SCENES
from jaxreloc.usage import UsageError

# hloc's estimates of five frames of heads, from the public ones of the 7-Scenes pseudo ground truth
# evaluation (github.com/tsattler/visloc_pseudo_gt_limitations, estimates/dslam/7scenes).
HLOC_HEADS = """
seq-01/frame-000000.color.png 0.975794 0.127961 0.176923 -0.012218 0.066222 0.178443 -0.179865
seq-01/frame-000010.color.png 0.974727 0.140512 0.171784 -0.025566 0.089053 0.185249 -0.199451
seq-01/frame-000030.color.png 0.980235 0.159150 0.104331 -0.054088 0.255000 0.212569 -0.280799
seq-01/frame-000050.color.png 0.983146 0.162869 0.032274 -0.076525 0.431192 0.223158 -0.320766
seq-01/frame-000070.color.png 0.976353 0.111156 -0.100776 -0.155640 0.577277 0.145410 -0.218811
"""


def reference_errors(estimates: dict[str, list[float]], truth: dict[str, list[float]]):
    """Errors (m and deg) by SciPy, of `qw qx qy qz tx ty tz`, `cam_from_world`."""
    missing = np.array([name not in estimates for name in truth])
    rows = np.array([[truth[name], estimates.get(name, truth[name])] for name in truth])
    turns = Rotation.from_quat(rows[..., :4].reshape(-1, 4), scalar_first=True)
    centers = -turns.inv().apply(rows[..., 4:].reshape(-1, 3)).reshape(-1, 2, 3)
    position = np.linalg.norm(centers[:, 0] - centers[:, 1], axis=1)
    rotation = np.rad2deg((turns[0::2] * turns[1::2].inv()).magnitude())
    return np.where(missing, np.inf, position), np.where(missing, np.inf, rotation)


def parse(text: str) -> dict[str, list[float]]:
    rows = [line.split() for line in text.splitlines() if line.strip()]
    return {name: [float(value) for value in values[:7]] for name, *values in rows}


def test_public_estimates_against_the_original_ground_truth(shared_data, tmp_path):
    listed = (shared_data / "seven_scenes_poses/dslam/heads_test.txt").read_text()
    truth = {name: row for name, row in parse(listed).items() if name in parse(HLOC_HEADS)}
    assert len(truth) == 5
    (tmp_path / "hloc.txt").write_text(HLOC_HEADS)
    (tmp_path / "truth.txt").write_text(
        "".join(line + "\n" for line in listed.splitlines() if line.split()[0] in truth)
    )
    names, errors = read_pose_errors(tmp_path / "hloc.txt", tmp_path / "truth.txt")
    assert set(names) == set(truth)
    position, rotation = reference_errors(parse(HLOC_HEADS), truth)
    np.testing.assert_allclose(errors.position_m, position, atol=1e-6)
    np.testing.assert_allclose(errors.rotation_deg, rotation, atol=1e-3)
    # hloc is right to a centimetre or two; a convention misread would be off by decimetres.
    summary = summarize(errors)
    assert 0 < summary.median_position_m < 0.03 and 0 < summary.median_rotation_deg < 1.5


def test_one_ground_truth_as_estimates_of_the_other(shared_data):
    """All of 7-Scenes: the medians by two roads."""
    folder = shared_data / "seven_scenes_poses"
    for scene in SCENES:
        paths = [folder / truth / f"{scene}_test.txt" for truth in ("sfm", "dslam")]
        summary = summarize(read_pose_errors(*paths)[1])
        sfm, dslam = (parse(path.read_text()) for path in paths)
        position, rotation = reference_errors(sfm, dslam)
        assert summary.num_queries == len(dslam)
        assert summary.median_position_m == pytest.approx(np.median(position), abs=1e-6)
        assert summary.median_rotation_deg == pytest.approx(np.median(rotation), abs=1e-3)
        within = (position < 0.05) & (rotation < 5)
        assert summary.recalls[0] == pytest.approx(within.mean(), abs=2 / len(dslam))


@pytest.fixture
def files(tmp_path, rng):
    """Paths of estimates and truth: 6 queries, `q5` without an estimate, `q9` that is no query."""

    def poses(names):
        matrices = np.tile(np.eye(4), (len(names), 1, 1))
        matrices[:, :3, :3] = Rotation.random(len(names), rng=rng).as_matrix()
        matrices[:, :3, 3] = rng.normal(size=(len(names), 3))
        return EvaluationPoses(tuple(names), matrices, None)

    paths = tmp_path / "estimates.txt", tmp_path / "truth.txt"
    write_evaluation_poses(paths[0], poses(["q9", "q3", "q2", "q0", "q4", "q1"]))
    write_evaluation_poses(paths[1], poses([f"q{i}" for i in range(6)]))
    return paths


def test_a_query_without_an_estimate_failed_and_a_stranger_is_left_out(files, caplog):
    estimates, truth = files
    names, errors = read_pose_errors(estimates, truth)
    assert names == tuple(f"q{i}" for i in range(6))
    position, rotation = reference_errors(*(parse(path.read_text()) for path in files))
    np.testing.assert_allclose(errors.position_m, position, rtol=1e-5)
    np.testing.assert_allclose(errors.rotation_deg, rotation, rtol=1e-4)
    assert np.isinf(errors.position_m[5]) and np.isfinite(errors.position_m[:5]).all()
    assert "1 poses are not of queries" in caplog.text


def test_the_tables_rows_are_files_and_their_medians_are_averaged(files):
    estimates, truth = files
    table = run.evaluate_pose_files([estimates, truth], [truth, truth])
    rows = [line.split() for line in table.splitlines()]
    row = next(row for row in rows if row[0] == str(estimates))
    median = summarize(read_pose_errors(*files)[1]).median_position_m
    assert float(row[1]) == pytest.approx(median, abs=6e-4) and row[-1] == "1"
    assert f"average of the medians: {median / 2:.3f} m" in table


def test_mistakes(files, tmp_path):
    estimates, truth = files
    with pytest.raises(UsageError, match="--poses has 1 files and --truth 2"):
        run.evaluate_pose_files([estimates], [truth, truth])
    (tmp_path / "other.txt").write_text("elsewhere/0.png 1 0 0 0 0 0 0\n")
    with pytest.raises(UsageError, match="no name of .*truth.txt; here elsewhere/0.png, there q0"):
        read_pose_errors(tmp_path / "other.txt", truth)

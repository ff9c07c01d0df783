"""The fusions of the paper's protocol, of relative poses that are known."""

import numpy as np

from jaxreloc.evaluation import evaluate
from jaxreloc.evaluation.metrics import pose_errors
from jaxreloc.localization.localizer import Localizer
from jaxreloc.localization.map.encoding import encode_frames
from jaxreloc.localization.map.scene_map import SceneMap
from tests.localization.fakes import OracleNetwork, oracle_frames


def test_fusions_use_the_first_n_neighbours(rng, monkeypatch):
    """Exact relative poses: two directions that cross give the pose, one neighbour its own."""
    monkeypatch.setattr(evaluate, "BLOCK", 8)
    monkeypatch.setattr(evaluate, "MOST_NEIGHBORS", 3)
    network = OracleNetwork()
    scene_map = SceneMap.from_images(network, encode_frames(oracle_frames(rng, 30), network))
    queries = oracle_frames(rng, 20)
    errors = evaluate.evaluate_fusions(scene_map, queries, min_baseline=0.0)
    counts = range(1, 4)
    methods = "paper", "robust", "median"
    assert list(errors) == [f"{name}, N = {n}" for name in methods for n in counts]
    for n in counts:
        robust, paper = errors[f"robust, N = {n}"], errors[f"paper, N = {n}"]
        assert np.median(robust.position_m) < 1e-3 and np.median(robust.rotation_deg) < 0.1
        assert np.median(paper.rotation_deg) < 0.1
        median = errors[f"median, N = {n}"]
        assert np.median(median.position_m) < 1e-3 and np.median(median.rotation_deg) < 0.1
        assert n == 1 or np.median(paper.position_m) < 1e-3
    localizer = Localizer(scene_map, method="paper", num_neighbors=1, min_baseline=0.0)
    nearest = np.array(
        [
            localizer.retrieve(image, intrinsics).neighbors[0]
            for image, intrinsics in zip(queries.images, queries.intrinsics, strict=True)
        ]
    )
    copied = pose_errors(
        scene_map.world_from_db[nearest], queries.world_from_cam, np.ones(len(queries), bool)
    )
    np.testing.assert_allclose(errors["paper, N = 1"].position_m, copied.position_m, atol=1e-4)

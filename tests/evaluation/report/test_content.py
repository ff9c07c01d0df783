import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxreloc.evaluation.report.content import upright
from tests.evaluation.report import planted


def test_up_is_where_the_images_tops_are(rng):
    poses = planted.cameras(rng, 20, "a").world_from_cam
    turn = Rotation.random(rng=rng).as_matrix()  # the world's axes are arbitrary
    poses[:, :3] = turn @ poses[:, :3]
    rotation = upright(poses)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)
    np.testing.assert_allclose(rotation @ turn @ [0, 0, 1], [0, 0, 1], atol=1e-9)


def test_up_is_across_the_path_where_cameras_are_held_every_way(rng):
    poses = np.tile(np.eye(4), (40, 1, 1))
    poses[::2, :3, :3] = np.diag([1, -1, -1])  # tops up and down cancel out
    poses[:, :3, 3] = rng.normal(size=(40, 3)) * [3, 0.01, 2]
    assert abs(upright(poses)[2] @ [0, 1, 0]) > 0.999


def test_errors_and_summary_are_those_of_the_queries(rng):
    scene = planted.scene(rng, num_queries=9, num_failed=2)
    errors = scene.errors("network")
    found = scene.estimates["network"].success
    distance = np.linalg.norm(
        scene.estimates["network"].world_from_query[found, :3, 3]
        - scene.queries.world_from_cam[found, :3, 3],
        axis=1,
    )
    np.testing.assert_allclose(errors.position_m[found], distance, rtol=1e-4)
    assert np.isinf(errors.position_m[~found]).all()
    assert scene.summary("network").num_failed == 2
    unknown = planted.scene(rng, truth=False)
    assert unknown.errors("network") is None and unknown.summary("network") is None

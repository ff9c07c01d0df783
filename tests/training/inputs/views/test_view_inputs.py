"""Batches of pairs of turned views."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxreloc.data.pairing.pairs import Pairs
from jaxreloc.training.inputs.views.view_features import ViewFeatures
from jaxreloc.training.inputs.views.view_inputs import ViewLoader
from jaxreloc.usage import UsageError

FRAMES, VIEWS, DIM = 6, 4, 5


@pytest.fixture
def scenes(rng):
    """Features that say which scene, frame and view they are of."""
    features, poses = [], []
    for scene in range(2):
        number = np.arange(FRAMES * VIEWS).reshape(FRAMES, VIEWS, 1) + 100 * scene
        turns = Rotation.random(FRAMES * VIEWS, rng).as_matrix().reshape(FRAMES, VIEWS, 3, 3)
        turns[:, 0] = np.eye(3)
        pooled = np.repeat(number, DIM, 2).astype(np.float16)
        features.append(ViewFeatures(pooled, turns))
        pose = np.tile(np.eye(4), (FRAMES, 1, 1))
        pose[:, :3, :3] = Rotation.random(FRAMES, rng).as_matrix()
        pose[:, :3, 3] = rng.normal(size=(FRAMES, 3))
        poses.append(pose)
    scene, db, query = np.array([[0, 0, 1], [0, 3, 5], [1, 2, 2], [1, 0, 4], [0, 4, 1]]).T
    world_from_cam = np.stack(poses)
    db_from_query = np.linalg.inv(world_from_cam[scene, db]) @ world_from_cam[scene, query]
    return features, Pairs(scene, db, query, db_from_query), world_from_cam


def view_poses(scenes):
    """world_from_view of each view, by the number that is its feature."""
    features, _, world_from_cam = scenes
    found = {}
    for scene, own in enumerate(features):
        for frame in range(FRAMES):
            for view in range(VIEWS):
                pose = world_from_cam[scene, frame].copy()
                pose[:3, :3] = pose[:3, :3] @ own.cam_from_view[frame, view]
                found[int(own.pooled[frame, view, 0])] = pose
    return found


def test_labels_are_the_relative_poses_of_the_views(scenes):
    features, pairs, _ = scenes
    poses = view_poses(scenes)
    batches = ViewLoader(features, pairs, batch_size=32, train=True, seed=3).batches()
    batch = next(batches)
    for db, query, label in zip(
        batch["db_pooled"][:, 0], batch["query_pooled"][:, 0], batch["db_from_query"], strict=True
    ):
        expected = np.linalg.inv(poses[int(db)]) @ poses[int(query)]
        rotation = Rotation.from_quat(label[:4], scalar_first=True).as_matrix()
        np.testing.assert_allclose(rotation, expected[:3, :3], atol=1e-5)
        np.testing.assert_allclose(label[4:], expected[:3, 3], atol=1e-5)
        assert label[0] >= 0
    turned = np.asarray(batch["db_pooled"][:, 0], int) % VIEWS
    assert len(np.unique(turned)) == VIEWS and batch["mask"].all()


def test_evaluation_takes_each_pair_once_as_it_is(scenes):
    features, pairs, _ = scenes
    batches = list(ViewLoader(features, pairs, batch_size=3, train=False).batches())
    index = np.concatenate([x["pair_index"] for x in batches])
    np.testing.assert_array_equal(index, [0, 1, 2, 3, 4, -1])
    np.testing.assert_array_equal(np.concatenate([x["mask"] for x in batches]), index >= 0)
    db = np.concatenate([x["db_pooled"][:, 0] for x in batches])[:5]
    np.testing.assert_array_equal(db, 100 * pairs.scene + VIEWS * pairs.db)


def test_a_run_resumes_and_is_shared_out(scenes):
    features, pairs, _ = scenes
    whole = ViewLoader(features, pairs, batch_size=4, train=True, seed=1)
    steps = whole.batches()
    next(steps)
    second = next(steps)
    resumed = next(whole.batches(1))
    np.testing.assert_array_equal(resumed["db_from_query"], second["db_from_query"])
    shares = [
        ViewLoader(
            features, pairs, batch_size=4, train=True, seed=1, process_index=i, process_count=2
        )
        for i in range(2)
    ]
    for i, share in enumerate(shares):
        own = next(share.batches(1))["db_pooled"]
        np.testing.assert_array_equal(own, second["db_pooled"][i::2])


def test_what_does_not_fit_is_refused(scenes):
    features, pairs, _ = scenes
    with pytest.raises(UsageError, match="no pairs"):
        ViewLoader(features, pairs.select(np.array([], int)), batch_size=2, train=True)
    with pytest.raises(UsageError, match="batch_size=3 does not divide over 2"):
        ViewLoader(features, pairs, batch_size=3, train=True, process_count=2)

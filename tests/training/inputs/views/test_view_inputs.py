"""Batches of pairs of views."""

import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from configs.pairs import get_config
from jaxreloc.data.pairing.mined_pairs import Pairs
from jaxreloc.training.inputs.views.view_features import ViewFeatures
from jaxreloc.training.inputs.views.view_inputs import ViewLoader, load_view_pairs
from jaxreloc.usage import UsageError

FRAMES, VIEWS, DIM = 6, 4, 5


@pytest.fixture
def scenes(rng):
    """Features that say which scene, frame and view they are of."""
    features, poses = [], []
    for scene in range(2):
        number = np.arange(FRAMES * VIEWS).reshape(FRAMES, VIEWS, 1) + 100 * scene
        views = np.tile(np.eye(4), (FRAMES, VIEWS, 1, 1))
        turns = Rotation.random(FRAMES * (VIEWS - 1), rng).as_matrix()
        views[:, 1:, :3, :3] = turns.reshape(FRAMES, VIEWS - 1, 3, 3)
        views[:, 1:, :3, 3] = rng.normal(size=(FRAMES, VIEWS - 1, 3))
        features.append(ViewFeatures(np.repeat(number, DIM, 2).astype(np.float16), views))
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
                pose = world_from_cam[scene, frame] @ own.cam_from_view[frame, view]
                found[int(own.features[frame, view, 0])] = pose
    return found


def test_labels_are_the_relative_poses_of_the_views(scenes):
    features, pairs, _ = scenes
    poses = view_poses(scenes)
    batches = ViewLoader(features, pairs, batch_size=32, train=True, seed=3).batches()
    batch = next(batches)
    numbers = batch["db_features"][:, 0], batch["query_features"][:, 0]
    for db, query, label in zip(*numbers, batch["db_from_query"], strict=True):
        expected = np.linalg.inv(poses[int(db)]) @ poses[int(query)]
        rotation = Rotation.from_quat(label[:4], scalar_first=True).as_matrix()
        np.testing.assert_allclose(rotation, expected[:3, :3], atol=1e-5)
        np.testing.assert_allclose(label[4:], expected[:3, 3], atol=1e-5)
        assert label[0] >= 0
    turned = np.asarray(batch["db_features"][:, 0], int) % VIEWS
    assert len(np.unique(turned)) == VIEWS and batch["mask"].all()


def test_evaluation_takes_each_pair_once_as_it_is(scenes):
    features, pairs, _ = scenes
    batches = list(ViewLoader(features, pairs, batch_size=3, train=False).batches())
    index = np.concatenate([x["pair_index"] for x in batches])
    np.testing.assert_array_equal(index, [0, 1, 2, 3, 4, -1])
    np.testing.assert_array_equal(np.concatenate([x["mask"] for x in batches]), index >= 0)
    db = np.concatenate([x["db_features"][:, 0] for x in batches])[:5]
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
        own = next(share.batches(1))["db_features"]
        np.testing.assert_array_equal(own, second["db_features"][i::2])


def test_what_does_not_fit_is_refused(scenes):
    features, pairs, _ = scenes
    with pytest.raises(UsageError, match="no pairs"):
        ViewLoader(features, pairs.select(np.array([], int)), batch_size=2, train=True)
    with pytest.raises(UsageError, match="batch_size=3 does not divide over 2"):
        ViewLoader(features, pairs, batch_size=3, train=True, process_count=2)


def test_cells_keep_their_shape(scenes):
    """Of heads that see cells; what is swapped is the whole of both."""
    features, pairs, _ = scenes
    shape = FRAMES, VIEWS, 1, DIM, 1
    cells = [dataclasses.replace(x, features=x.features.reshape(shape)) for x in features]
    flat = next(ViewLoader(features, pairs, batch_size=8, train=True, seed=2).batches())
    batch = next(ViewLoader(cells, pairs, batch_size=8, train=True, seed=2).batches())
    for name in ("db_features", "query_features"):
        assert batch[name].shape == (8, 1, DIM, 1)
        np.testing.assert_array_equal(batch[name].reshape(8, DIM), flat[name])


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"data.views": None}, "config.task=head needs data.views; take .*configs/pairs.py:seven"),
        ({"data.image_size": None}, "needs data.image_size"),
        ({"model.head": "correlation"}, "with model.head=concat and not correlation"),
        ({"model.pretrained": None}, "with model.pretrained=default and not None"),
        ({"optimizer.frozen": ()}, "optimizer.frozen has to name it"),
        ({"data.scenes": ("attic",)}, "unknown scene of .* 'attic'; known: chess_room, .*stairs"),
        ({"data.dataset": "eight_rooms"}, "unknown dataset 'eight_rooms'; known: .*seven_rooms"),
    ],
)
def test_a_config_that_does_not_suit_is_refused(changes, message):
    config = get_config("seven").unlock()
    config.update_from_flattened_dict(changes)
    with pytest.raises(UsageError, match=message):
        load_view_pairs(config, lambda line: None)


def test_another_configs_task_is_refused_before_anything_is_read():
    config = get_config("quick").unlock()
    config.task = "head"
    config.data.dataset = "none"
    with pytest.raises(UsageError, match="needs data.views, data.turn_deg, .*data.image_size"):
        load_view_pairs(config, lambda line: None)


def test_pair_lists_are_said_not_to_be_used():
    config = get_config("seven").unlock()
    config.data.pair_list, config.data.dataset = "pairs.txt", "none"
    said = []
    with pytest.raises(UsageError, match="unknown dataset"):
        load_view_pairs(config, said.append)
    assert said == ["note: data.pair_list is not used; the task head draws pairs of its own"]

"""Image pairs with depth by the config, and loaders that take turns."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest

from configs import descriptor as descriptor_config
from jaxreloc.data import datasets
from jaxreloc.localization.networks.match_network import MatchNetwork
from jaxreloc.models import build_network, first_variables
from jaxreloc.models.matching.descriptors import DETAIL_STRIDE
from jaxreloc.models.weights import saved_network, variables
from jaxreloc.training import train_and_evaluate
from jaxreloc.training.inputs.depth_inputs import TurnLoader, load_depth_pairs
from jaxreloc.usage import UsageError
from tests.data import box_room


class Numbers:
    """A loader whose batches are (its name, step)."""

    def __init__(self, name, count=None):
        self.name, self.count = name, count

    def batches(self, start_step=0):
        steps = itertools.count(start_step) if self.count is None else range(self.count)
        return ((self.name, step) for step in steps)


def test_loaders_take_turns_from_any_step():
    turns = TurnLoader([Numbers("a"), Numbers("b"), Numbers("c")], train=True)
    whole = list(itertools.islice(turns.batches(), 12))
    assert whole[:4] == [("a", 0), ("b", 0), ("c", 0), ("a", 1)]
    for start in range(8):
        assert list(itertools.islice(turns.batches(start), 4)) == whole[start : start + 4]


def test_validation_goes_through_one_loader_after_the_other():
    turns = TurnLoader([Numbers("a", 2), Numbers("b", 3)], train=False)
    assert list(turns.batches()) == [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("b", 2)]


@pytest.fixture
def config(monkeypatch, rng):
    """The quick config on box rooms."""
    rooms = {}

    def load_frames(dataset, scene, split, **where):
        with_depth = where["data_path"] is None
        if split not in rooms:
            room = box_room.random_room(rng, 12, with_depth=with_depth)
            textures = rng.integers(1, 256, (12, box_room.HEIGHT, box_room.WIDTH, 3), np.uint8)
            rooms[split] = dataclasses.replace(room, images=list(textures))
        return rooms[split]

    monkeypatch.setattr(datasets, "scene_names", lambda dataset, split, **where: [f"{split}-a"])
    monkeypatch.setattr(datasets, "load_frames", load_frames)
    small = descriptor_config.get_config("quick").unlock()
    small.batch_size = 2
    small.data.num_pairs = small.data.num_validation_pairs = 6
    small.data.image_sizes = ((96, 128), (64, 96))
    return small


def test_batches_have_depth_where_the_pictures_are(config):
    train, validation = load_depth_pairs(config)
    assert len(train.scenes) == 1 and len(train.scenes[0]) == 24  # both splits
    sizes = [batch["db_image"].shape[1:3] for batch in itertools.islice(train.loader.batches(), 3)]
    assert sizes == [(96, 128), (64, 96), (96, 128)]
    frames = validation.scenes[0]
    for batch in validation.loader.batches():
        height, width = batch["query_image"].shape[1:3]
        for k, index in enumerate(batch["pair_index"]):
            pose = frames.world_from_cam[validation.pairs.query[index]]
            rows, columns = (
                np.arange(side // DETAIL_STRIDE) * DETAIL_STRIDE + (DETAIL_STRIDE - 1) / 2
                for side in (height, width)
            )
            matrix = box_room.INTRINSICS @ np.linalg.inv(batch["query_intrinsics"][k])
            x = matrix[0, 0] * columns + matrix[0, 2]
            y = matrix[1, 1] * rows + matrix[1, 2]
            clear = np.ix_(*(np.abs(np.abs(z - np.rint(z)) - 0.5) > 1e-3 for z in (y, x)))
            x, y = np.rint(x), np.rint(y)
            inside = ((y >= 0) & (y < box_room.HEIGHT))[:, None] & ((x >= 0) & (x < box_room.WIDTH))
            expected = box_room.distance(pose, *np.meshgrid(x, y)) * inside
            found = batch["query_depth"][k]
            np.testing.assert_allclose(found[clear], expected[clear], rtol=1e-4)


def test_frames_without_depth_are_refused(config):
    config.data.data_path = "photographs"
    with pytest.raises(UsageError, match="true matches need depth"):
        load_depth_pairs(config)


@pytest.mark.slow
def test_a_run_trains_the_description_alone_and_leaves_a_matcher(config, tmp_path):
    config.num_steps, config.validate_every, config.checkpoint_every = 4, 2, 2
    config.optimizer.warmup_steps = 1
    best = train_and_evaluate(config, tmp_path)
    assert best["step"] in (2, 4) and 0 <= best["coarse_accuracy"] <= 1
    assert np.isfinite(best["loss"])
    loaded = saved_network.read_network(tmp_path / "last")
    network = build_network(config.model)
    first = variables.flatten(first_variables(config.model, network, jax.random.key(config.seed)))
    for name, array in variables.flatten(loaded.variables).items():
        moved = not np.array_equal(array, first[name])
        assert moved == name.startswith("params/head/description/"), name
    images = np.random.default_rng(0).integers(1, 256, (1, 64, 96, 3), np.uint8)
    loaded.config["data"]["image_size"] = (64, 96)
    matcher = MatchNetwork(loaded)
    features = matcher.encode(images)
    matrix = np.float32([[[80, 0, 48], [0, 80, 32], [0, 0, 1]]])
    assert matcher.match(features, matrix, features, matrix).confidence.shape[0] == 1

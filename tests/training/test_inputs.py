"""Which pairs a run gets: names, fingerprints, seeds and shards."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxreloc.data import datasets
from jaxreloc.training import inputs
from jaxreloc.usage import UsageError
from tests.training import tiny


@pytest.fixture
def train(tiny_run):
    return inputs.load_pairs(tiny.config())[0]


def test_names_are_of_the_scene_and_its_frames(train):
    db, query = train.frame_names(5)
    frames = train.scenes[train.pairs.scene[5]]
    assert db == f"{frames.scene}/{frames.names[train.pairs.db[5]]}"
    assert query == f"{frames.scene}/{frames.names[train.pairs.query[5]]}"


def test_the_fingerprint_follows_frames_pairs_and_poses(train, tiny_run):
    again, _ = inputs.load_pairs(tiny.config())
    assert again.fingerprint() == train.fingerprint()
    moved = train.pairs.db_from_query.copy()
    moved[7, 0, 3] += 1e-6
    renamed = dataclasses.replace(train.scenes[1], scene="elsewhere")
    others = [
        dataclasses.replace(train, pairs=train.pairs.select(np.arange(39, -1, -1))),
        dataclasses.replace(train, pairs=dataclasses.replace(train.pairs, db_from_query=moved)),
        dataclasses.replace(train, scenes=[train.scenes[0], renamed]),
    ]
    assert len({train.fingerprint(), *(other.fingerprint() for other in others)}) == 4


def test_validation_has_its_own_pairs_of_the_same_frames(tiny_run):
    config = tiny.config()
    config.data.validation_split = "train"
    config.data.num_validation_pairs = config.data.num_pairs
    train, validation = inputs.load_pairs(config)
    assert [s.names for s in train.scenes] == [s.names for s in validation.scenes]

    def edges(pairs):
        return {(s, *sorted((a, b))) for s, a, b in zip(pairs.scene, pairs.db, pairs.query)}

    assert edges(train.pairs) != edges(validation.pairs)


def test_options_of_the_config_reach_the_data(tiny_run, monkeypatch):
    asked = []
    load = datasets.load_scenes

    def noted(dataset, split, **options):
        asked.append((dataset, split, options))
        return load(dataset, split)

    monkeypatch.setattr(datasets, "load_scenes", noted)
    config = tiny.config()
    config.data.data_path = "photographs"
    inputs.load_pairs(config)
    options = {"data_dir": None, "data_path": "photographs"}
    assert sorted(asked, key=str) == [
        ("synthetic_rooms", split, options) for split in ("train", "validation")
    ]
    config.data.pair_target = "far"
    with pytest.raises(UsageError, match="data.pair_target 'far'; known: .*paper"):
        inputs.load_pairs(config)


def test_a_batch_is_split_over_devices_in_order(monkeypatch):
    monkeypatch.setattr(jax, "local_device_count", lambda: 4)
    shards = inputs.shard({"x": np.arange(24).reshape(8, 3), "mask": np.ones(8, bool)})
    assert shards["mask"].shape == (4, 2)
    np.testing.assert_array_equal(shards["x"][1], [[6, 7, 8], [9, 10, 11]])

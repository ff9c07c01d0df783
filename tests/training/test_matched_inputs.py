"""Matched pairs by the config: made once, recorded, joined by weight; and a whole run on them."""

import json

import numpy as np
import pytest

from configs import correlation as correlation_config
from jaxreloc.data import datasets
from jaxreloc.localization.match_network import MatchNetwork
from jaxreloc.models import saved_network
from jaxreloc.training import matched_inputs, train_and_evaluate
from jaxreloc.usage import UsageError
from tests.training.planted_matches import NumberMatcher, matched_pairs, room_frames


@pytest.fixture
def read(monkeypatch):
    """Two small scenes a split, matched by numbers; the list of those that were read."""
    scenes = []

    def load_frames(dataset, scene, split, **where):
        scenes.append((dataset, scene, split))
        return room_frames(np.random.default_rng(len(split)), scene=scene)

    def scene_names(dataset, split, **where):
        return [f"{split}-{k}" for k in "ab"]

    monkeypatch.setattr(datasets, "scene_names", scene_names)
    monkeypatch.setattr(datasets, "load_frames", load_frames)
    monkeypatch.setattr(
        matched_inputs, "matchers", lambda settings: list(map(NumberMatcher, settings.image_sizes))
    )
    return scenes


def config(tmp_path):
    small = correlation_config.get_config("quick").unlock()
    small.batch_size = 8
    small.data.matches_dir = str(tmp_path / "matches")
    small.data.train_pairs_per_scene = small.data.validation_pairs_per_scene = 12
    return small


def load(small):
    return matched_inputs.load_matched_pairs(small, lambda line: None)


def test_pairs_are_made_once_and_then_read_without_the_dataset(read, tmp_path):
    train, validation = load(config(tmp_path))
    assert train.scenes == ["train-a", "train-b"]
    assert validation.scenes == ["validation-a", "validation-b"]
    assert {split for _, _, split in read} == {
        "train", "train_query", "validation", "validation_query"
    }
    read.clear()
    again, _ = load(config(tmp_path))
    assert not read
    assert again.fingerprint() == train.fingerprint()
    assert train.fingerprint() != validation.fingerprint()


def test_other_settings_are_refused(read, tmp_path):
    load(config(tmp_path))
    other = config(tmp_path)
    other.data.unrelated_share = 0.5
    with pytest.raises(UsageError, match="made with .*unrelated_share.* another data.matches_dir"):
        load(other)


def test_sources_are_drawn_by_weight(read, tmp_path):
    small = config(tmp_path)
    (rooms,) = small.data.sources
    other = rooms.copy_and_resolve_references()
    other.dataset, other.weight = "seven_scenes", 3.0
    small.data.sources = (rooms, other)
    train, _ = load(small)
    assert len(train.scenes) == 4
    half = len(train.pairs) // 2
    drawn = [next(train.loader.batches(step))["pair_index"] >= half for step in range(200)]
    assert np.mean(drawn) == pytest.approx(0.75, abs=0.05)


def test_frames_are_named_by_scene_and_number(read, tmp_path):
    train, _ = load(config(tmp_path))
    own = int(np.flatnonzero(train.pairs.names == "train-a")[0])
    db, query = train.pairs.frames[own]
    assert train.frame_names(own) == (f"train-a/{db}", f"train-a/{query}")
    foreign = int(np.flatnonzero(train.pairs.names == "train-a/train-b")[0])
    db, query = train.pairs.frames[foreign]
    assert train.frame_names(foreign) == (f"train-a/{db}", f"train-b/{query}")


@pytest.mark.slow
def test_a_run_learns_and_leaves_a_matcher(tmp_path, rng):
    """On planted matches, which tell their poses exactly."""
    small = config(tmp_path)
    small.batch_size, small.num_steps = 16, 60
    small.data.image_size = (64, 96)
    small.validate_every = small.checkpoint_every = 30
    small.optimizer.warmup_steps = 5
    settings = matched_inputs.MatchMaking(
        image_sizes=((192, 256),), num_pairs=12, unrelated_share=0.2, seed=0
    )
    for split in ("train", "validation"):
        folder = matched_inputs.matches_folder(small.data.matches_dir, "synthetic_rooms", [split])
        pairs = matched_pairs(rng, count=400, scene=split)
        matched_inputs.matched_pairs.save(folder / f"{split}.matches.npz", pairs)
        matched_inputs.write_record(folder, settings, [split])
    best = train_and_evaluate(small, tmp_path / "run")
    assert best["overlap_auc"] > 0.95
    loaded = saved_network.load_network(tmp_path / "run")
    assert MatchNetwork(loaded).canvas == (64, 96)
    saved = json.loads((tmp_path / "run" / "config.json").read_text())
    assert saved["estimator"] == loaded.config["estimator"] == "refined"

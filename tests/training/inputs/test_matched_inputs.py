"""Matched pairs by the config: made once, recorded, joined by weight; and a whole run on them."""

import json

import numpy as np
import pytest
import safetensors.numpy
from scipy.spatial.transform import Rotation

from configs import correlation as correlation_config
from jaxreloc.data import datasets
from jaxreloc.localization.networks.match_network import MatchNetwork
from jaxreloc.models.weights import saved_network
from jaxreloc.training import train_and_evaluate
from jaxreloc.training.inputs import matched_inputs
from jaxreloc.training.inputs.match_making import MatchMaking
from jaxreloc.usage import UsageError
from tests.formats.scenes import make_csv
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
        matched_inputs,
        "matcher",
        lambda model, canvas: NumberMatcher(canvas),
    )
    return scenes


def config(tmp_path):
    small = correlation_config.get_config("quick").unlock()
    small.batch_size = 8
    small.model.description, small.model.pretrained_description = "imagenet", None
    small.optimizer.frozen = ("backbone",)  # there is no description to freeze
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


def test_an_interrupted_making_is_not_gone_on_with_by_other_settings(read, tmp_path, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(NumberMatcher, "match", interrupted)
        with pytest.raises(KeyboardInterrupt):
            load(config(tmp_path))
    other = config(tmp_path)
    other.data.train_pairs_per_scene = 9
    with pytest.raises(UsageError, match="made with .*num_pairs.* another data.matches_dir"):
        load(other)
    train, _ = load(config(tmp_path))
    assert train.scenes == ["train-a", "train-b"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "1" + "0" * 5000, "[" * 3000, '{"settings": 1, "scenes": ["../a"]}']
)
def test_a_damaged_record_is_one_line(tmp_path, text):
    (tmp_path / matched_inputs.RECORD).write_text(text)
    with pytest.raises(UsageError, match=matched_inputs.RECORD):
        matched_inputs.read_record(tmp_path, MatchMaking(((24, 32),), 5, 0.2, "imagenet", 0))


def test_sources_are_drawn_by_weight(rng, tmp_path):
    """From what lies ready, however many pairs each has; a weight is 1 if it is not given."""
    small = config(tmp_path)
    (rooms,) = small.data.sources
    other = rooms.copy_and_resolve_references().unlock()
    other.dataset = "seven_scenes/depth"
    del other.weight
    rooms.weight = 3.0
    small.data.sources = (rooms, other)
    for role, counts in {"train": (10, 40), "validation": (5, 6)}.items():
        settings = matched_inputs.MatchMaking(
            image_sizes=((192, 256),), num_pairs=12, unrelated_share=0.2, seed=0
        )
        for source, count in zip(small.data.sources, counts, strict=True):
            folder = matched_inputs.matches_folder(
                small.data.matches_dir, source.dataset, source[f"{role}_splits"]
            )
            pairs = matched_pairs(rng, count, scene=f"{source.dataset[:5]}-{role}")
            matched_inputs.matched_pairs.save(folder / "part.matches.npz", pairs)
            matched_inputs.write_record(folder, settings, ["part"])
    train, validation = load(small)
    drawn = np.concatenate([next(train.loader.batches(i))["pair_index"] for i in range(1000)])
    is_rooms = train.pairs.names[drawn] == "synth-train"
    assert np.mean(is_rooms) == pytest.approx(0.75, abs=0.03)
    # Within a source, all alike; five standard deviations of the rarest count.
    for mine, count in ((is_rooms, 10), (~is_rooms, 40)):
        share = np.unique(drawn[mine], return_counts=True)[1] / np.sum(mine)
        assert len(share) == count
        np.testing.assert_allclose(share, 1 / count, atol=5 * np.sqrt(1 / count / np.sum(mine)))
    once = np.concatenate([batch["pair_index"] for batch in validation.loader.batches()])
    np.testing.assert_array_equal(once[once >= 0], np.arange(11))
    np.testing.assert_array_equal(
        validation.pairs.names, ["synth-validation"] * 5 + ["seven-validation"] * 6
    )


def on_an_arc(rng) -> np.ndarray:
    """Cameras 4 deg apart that look at one point 2 m away, [24, 4, 4]."""
    turns = Rotation.from_rotvec(
        (4 * np.arange(24) + rng.normal(0, 0.3, 24))[:, None] * [0, 1, 0], degrees=True
    )
    poses = np.tile(np.eye(4), (24, 1, 1))
    poses[:, :3, :3] = turns.as_matrix()
    poses[:, :3, 3] = turns.apply([0, 0, -2.0])
    return poses


def test_a_bad_frame_ends_the_matching_or_is_left_out(tmp_path, rng, monkeypatch):
    monkeypatch.setattr(
        matched_inputs,
        "matcher",
        lambda model, canvas: NumberMatcher(canvas),
    )
    make_csv(tmp_path, on_an_arc(rng))
    (tmp_path / "images/3.png").unlink()
    small = config(tmp_path)
    small.data.data_path = str(tmp_path)
    (source,) = small.data.sources
    source.update(dataset="posed_images", train_splits=("database",), validation_splits=("query",))
    with pytest.raises(UsageError, match="images/3.png.*--config.data.skip_bad_frames=True"):
        load(small)
    small.data.skip_bad_frames = True
    train, _ = load(small)
    assert 10 < train.pairs.frames.max() < 23 - 23 // 5


def test_frames_are_named_by_scene_and_number(read, tmp_path):
    train, _ = load(config(tmp_path))
    own = int(np.flatnonzero(train.pairs.names == "train-a")[0])
    db, query = train.pairs.frames[own]
    assert train.frame_names(own) == (f"train-a/{db}", f"train-a/{query}")
    foreign = int(np.flatnonzero(train.pairs.names == "train-a/train-b")[0])
    db, query = train.pairs.frames[foreign]
    assert train.frame_names(foreign) == (f"train-a/{db}", f"train-b/{query}")


def planted_run(tmp_path, rng):
    """A config whose matches are planted, and tell their poses exactly."""
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
    return small


@pytest.mark.slow
def test_a_run_learns_and_leaves_a_matcher(tmp_path, rng):
    small = planted_run(tmp_path, rng)
    best = train_and_evaluate(small, tmp_path / "run")
    assert best["overlap_auc"] > 0.95
    loaded = saved_network.read_network(tmp_path / "run")
    assert MatchNetwork(loaded).canvas == (64, 96)
    saved = json.loads((tmp_path / "run" / "config.json").read_text())
    assert saved["estimator"] == loaded.config["estimator"] == "refined"


@pytest.mark.slow
def test_a_stopped_run_ends_as_if_it_had_not_been(tmp_path, rng, stop_at, capsys):
    small = planted_run(tmp_path, rng)
    small.num_steps, small.validate_every, small.checkpoint_every = 10, 4, 2
    small.optimizer.warmup_steps = 2
    best = train_and_evaluate(small, tmp_path / "straight")
    with stop_at(5):  # between two checkpoints and two validations
        train_and_evaluate(small, tmp_path / "stopped")
    assert "stopped by SIGTERM at step 5" in capsys.readouterr().out
    assert train_and_evaluate(small, tmp_path / "stopped") == best
    assert "resuming from" in capsys.readouterr().out
    for folder in ("last", "best"):
        straight, stopped = (
            safetensors.numpy.load_file(tmp_path / run / folder / saved_network.FILE_NAME)
            for run in ("straight", "stopped")
        )
        assert straight.keys() == stopped.keys()
        for name in straight:
            np.testing.assert_array_equal(stopped[name], straight[name], err_msg=name)

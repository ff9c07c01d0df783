"""Which pairs a run gets: names, fingerprints, seeds and shards."""

import dataclasses
import sys

import cv2
import jax
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxreloc.data import datasets
from jaxreloc.data.pairing.mined_pairs import frame_poses
from jaxreloc.formats.pair_lists import read_pair_list
from jaxreloc.formats.readers.seven_scenes import SCENES
from jaxreloc.training.inputs import pair_inputs
from jaxreloc.usage import UsageError
from tests.formats.scenes import make_csv
from tests.training import tiny


@pytest.fixture
def train(tiny_run):
    return pair_inputs.load_pairs(tiny.config())[0]


def test_names_are_of_the_scene_and_its_frames(train):
    db, query = train.frame_names(5)
    frames = train.scenes[train.pairs.scene[5]]
    assert db == f"{frames.scene}/{frames.names[train.pairs.db[5]]}"
    assert query == f"{frames.scene}/{frames.names[train.pairs.query[5]]}"


def test_the_fingerprint_follows_frames_pairs_and_poses(train, tiny_run):
    again, _ = pair_inputs.load_pairs(tiny.config())
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
    train, validation = pair_inputs.load_pairs(config)
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
    config.data.skip_bad_frames = True
    config.data.scenes = ("hall", "attic")
    pair_inputs.load_pairs(config)
    options = {
        "data_dir": None,
        "data_path": "photographs",
        "scenes": ("hall", "attic"),
        "skip_bad_frames": True,
    }
    assert sorted(asked, key=str) == [
        ("synthetic_rooms", split, options) for split in ("train", "validation")
    ]
    config.data.pair_target = "far"
    with pytest.raises(UsageError, match="data.pair_target 'far'; known: .*paper"):
        pair_inputs.load_pairs(config)


def test_a_bad_frame_ends_the_run_or_is_left_out(tmp_path, rng):
    make_csv(tmp_path, tiny.frames(rng).world_from_cam)
    (tmp_path / "images/3.png").unlink()
    config = tiny.config()
    config.data.dataset, config.data.data_path = "posed_images", str(tmp_path)
    config.data.train_split = config.data.validation_split = "database"
    config.data.short_side = config.data.crop = 24
    with pytest.raises(UsageError, match="images/3.png.*--config.data.skip_bad_frames=True"):
        pair_inputs.load_pairs(config)
    config.data.skip_bad_frames = True
    for pairs in pair_inputs.load_pairs(config):
        (frames,) = pairs.scenes
        assert len(frames) == 23 - 23 // 5 and "images/3.png" not in frames.names


def write_list(path, pairs, rng):
    """Some of `pairs` as the authors list them, with labels of their own; the rows that are in."""
    rows = rng.choice(len(pairs.pairs), 9, replace=False)
    lines = []
    for row in rows:
        db, query = (name.partition("/")[2] for name in pairs.frame_names(row))
        scene = SCENES.index(pairs.scenes[pairs.pairs.scene[row]].scene)
        q_wxyz = Rotation.random(rng=rng).as_quat(scalar_first=True)
        values = " ".join(repr(float(v)) for v in (*rng.normal(size=3), *q_wxyz))
        lines.append(f"/{db} /{query} {scene} {values}")
    path.write_text("\n".join(lines))
    return rows


@pytest.mark.parametrize("translation_frame", ["world", "camera"])
def test_pairs_of_a_list_are_taken_with_its_labels(tmp_path, rng, monkeypatch, translation_frame):
    scenes = [tiny.frames(rng, scene=scene) for scene in ("fire", "stairs")]
    monkeypatch.setattr(datasets, "load_scenes", lambda *args, **options: scenes)
    config = tiny.config()
    mined, _ = pair_inputs.load_pairs(config)
    rows = write_list(tmp_path / "valid.txt", mined, rng)
    config.data.validation_pair_list = str(tmp_path / "valid.txt")
    config.data.translation_frame = translation_frame
    config.batch_size = 9
    train, validation = pair_inputs.load_pairs(config)
    assert train.fingerprint() == mined.fingerprint()
    assert [validation.frame_names(k) for k in range(9)] == [mined.frame_names(r) for r in rows]
    (batch,) = validation.loader.batches()
    listed = read_pair_list(tmp_path / "valid.txt")
    t = listed.t_world
    if translation_frame == "camera":
        db = frame_poses(scenes, validation.pairs.scene, validation.pairs.db)
        t = np.einsum("nji,nj->ni", db[:, :3, :3], t)
    np.testing.assert_allclose(batch["db_from_query"][:, 4:], t, atol=1e-5)
    rotation = Rotation.from_quat(batch["db_from_query"][:, :4], scalar_first=True).as_matrix()
    np.testing.assert_allclose(rotation, listed.rotation, atol=1e-5)


def test_a_list_of_frames_that_are_not_there_is_refused_or_cut(tmp_path, rng, monkeypatch):
    scenes = [tiny.frames(rng, scene=scene) for scene in ("fire", "stairs")]
    monkeypatch.setattr(datasets, "load_scenes", lambda *args, **options: scenes)
    config = tiny.config()
    rows = write_list(tmp_path / "train.txt", pair_inputs.load_pairs(config)[0], rng)
    with open(tmp_path / "train.txt", "a") as file:
        file.write("\n/000.png /001.png 0 0 0 0 1 0 0 0\n")
    config.data.pair_list = str(tmp_path / "train.txt")
    with pytest.raises(UsageError, match="chess: 000.png or 001.png is listed as a pair but"):
        pair_inputs.load_pairs(config)
    config.data.skip_bad_frames = True
    assert len(pair_inputs.load_pairs(config)[0].pairs) == len(rows)


def test_a_batch_is_split_over_devices_in_order(monkeypatch):
    monkeypatch.setattr(jax, "local_device_count", lambda: 4)
    shards = pair_inputs.shard({"x": np.arange(24).reshape(8, 3), "mask": np.ones(8, bool)})
    assert shards["mask"].shape == (4, 2)
    np.testing.assert_array_equal(shards["x"][1], [[6, 7, 8], [9, 10, 11]])


def test_whole_frames_take_the_place_of_crops(tiny_run):
    """Frames of 32 x 32 pixels fill the middle of 48 x 24."""
    config = tiny.config()
    config.data.image_size = (24, 48)
    train, validation = pair_inputs.load_pairs(config)
    focal = 0.75 * 16 / np.tan(np.radians(30))
    intrinsics = [[focal, 0, 0.75 * 16 - 0.5 + 12], [0, focal, 0.75 * 16 - 0.5], [0, 0, 1]]
    for pairs in (train, validation):
        batch = next(pairs.loader.batches())
        for side in ("db", "query"):
            assert batch[f"{side}_image"].shape == (8, 24, 48, 3)
            found = batch[f"{side}_intrinsics"]
            np.testing.assert_allclose(found, np.tile(intrinsics, (8, 1, 1)), rtol=1e-6)
    for side in ("db", "query"):  # in validation, whose colours stay
        for image, index in zip(batch[f"{side}_image"], batch["pair_index"], strict=True):
            frame = getattr(validation.pairs, side)[index]
            whole = validation.scenes[validation.pairs.scene[index]].images[frame]
            inner = cv2.resize(whole, (24, 24), interpolation=cv2.INTER_AREA)
            expected = np.pad(inner, ((0, 0), (12, 12), (0, 0)))
            np.testing.assert_array_equal(image, expected)


def test_without_grain_batches_name_the_extra(train, monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(UsageError, match=r"pip install 'jaxreloc\[train\]'"):
        next(train.loader.batches())

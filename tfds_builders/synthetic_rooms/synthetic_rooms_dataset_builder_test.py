import dataclasses
import multiprocessing
import tempfile

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from jaxreloc.data.datasets import load_frames, scene_names
from jaxreloc.data.pairing.overlap import pair_overlap
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.formats.readers.seven_scenes import ROOMS
from jaxreloc.usage import UsageError
from tfds_builders.rooms.generation import render_room
from tfds_builders.rooms.settings import NAMED, PROCEDURAL
from tfds_builders.synthetic_rooms import synthetic_rooms_dataset_builder

Builder = synthetic_rooms_dataset_builder.Builder
TINY = synthetic_rooms_dataset_builder.SyntheticRoomsConfig(
    name="procedural",
    train_rooms=2,
    validation_rooms=1,
    test_rooms=1,
    settings=dataclasses.replace(
        PROCEDURAL, width=64, height=48, database_paths=2, frames_per_path=3, seed=7
    ),
)
SPLITS = {
    "train": 12,
    "train_query": 6,
    "validation": 6,
    "validation_query": 3,
    "test": 6,
    "test_query": 3,
}


class TinyBuilder(Builder):
    BUILDER_CONFIGS = [TINY]


class SyntheticRoomsTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = TinyBuilder
    SPLITS = SPLITS
    SKIP_CHECKSUMS = True
    EXAMPLE_DIR = tempfile.gettempdir()  # nothing is downloaded


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A build of TINY in the place of the default config."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Builder, "BUILDER_CONFIGS", [TINY])
        builder = Builder(data_dir=tmp_path_factory.mktemp("data"))
        builder.download_and_prepare()
    return builder


def test_splits_have_their_rooms_and_the_poses_of_the_renderer(built):
    assert {name: split.num_examples for name, split in built.info.splits.items()} == SPLITS
    for split, scenes in (("train", {b"train-000", b"train-001"}), ("test_query", {b"test-000"})):
        examples = built.as_data_source(split)
        assert {example["scene"] for example in examples} == scenes
    room = render_room(TINY.settings, "train", 1)
    examples = {e["image_id"].decode(): e for e in built.as_data_source("train_query")}
    for i, name in enumerate(room.query.names):
        example = examples[f"train-001/{name}"]
        np.testing.assert_array_equal(example["image"], room.query.images[i])
        np.testing.assert_allclose(example["depth"], room.query.depths[i], atol=5.1e-4)
        np.testing.assert_allclose(
            example["world_from_cam"], room.query.world_from_cam[i], atol=1e-6
        )
        np.testing.assert_allclose(example["intrinsics"], room.query.intrinsics[i], rtol=1e-6)


def test_tf_data_and_random_access_give_the_same(built):
    tensors = {e["image_id"]: e for e in tfds.as_numpy(built.as_dataset("validation"))}
    examples = built.as_data_source("validation")
    assert len(tensors) == len(examples) == SPLITS["validation"]
    for example in examples:
        for name, value in tensors[example["image_id"]].items():
            np.testing.assert_array_equal(value, example[name])


def test_a_build_that_fails_leaves_nothing_that_loads(tmp_path):
    settings = dataclasses.replace(TINY.settings, library=str(tmp_path / "absent"))
    broken = dataclasses.replace(TINY, name="broken", settings=settings)
    with pytest.raises(FileNotFoundError, match="absent"):
        Builder(data_dir=tmp_path, config=broken).download_and_prepare()
    assert not Builder(data_dir=tmp_path, config=broken).is_prepared()


def test_an_interrupted_build_leaves_no_worker_and_no_scratch_files(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    others = set(multiprocessing.active_children())

    def interrupt(path):
        assert path.is_relative_to(tmp_path / "scratch")
        assert set(multiprocessing.active_children()) > others
        raise KeyboardInterrupt

    monkeypatch.setattr(synthetic_rooms_dataset_builder, "read_examples", interrupt)
    with pytest.raises(KeyboardInterrupt):
        config = dataclasses.replace(TINY, name="interrupted")
        Builder(data_dir=tmp_path / "data", config=config).download_and_prepare()
    assert set(multiprocessing.active_children()) <= others
    assert list((tmp_path / "scratch").glob("synthetic_rooms-*")) == []


def test_furnished_without_its_sources_names_them(tmp_path):
    builder = Builder(data_dir=tmp_path / "data", config="furnished")
    absent = tfds.download.DownloadConfig(manual_dir=tmp_path / "absent")
    with pytest.raises(UsageError, match="absent.*furniture, textures and photographs"):
        builder.download_and_prepare(download_config=absent)
    (tmp_path / "manual" / "textures").mkdir(parents=True)
    picture = np.full((300, 300, 3), 90, np.uint8)
    cv2.imwrite(str(tmp_path / "manual" / "textures" / "a.png"), picture)
    partial = tfds.download.DownloadConfig(manual_dir=tmp_path / "manual")
    with pytest.raises(UsageError, match="manual/furniture .*manual/photographs .*README"):
        builder.download_and_prepare(download_config=partial)


def test_configs_are_the_documented_ones():
    names = ["procedural", "furnished", "furnished_large", "furnished_hard"]
    names += ["seven_rooms", "seven_rooms_small"]
    assert list(Builder.builder_configs) == names
    assert Builder.builder_configs["furnished"].settings.focal_lengths == (0.6, 1.6)
    seven = Builder.builder_configs["seven_rooms"]
    assert seven.train_rooms == len(ROOMS) == 7 and not seven.furnished
    settings = seven.settings
    assert settings.database_paths * settings.frames_per_path == 1000
    assert settings.query_paths * settings.frames_per_path == 500
    small = Builder.builder_configs["seven_rooms_small"].settings
    assert small == dataclasses.replace(settings, known_paths=True, frames_per_path=13)


def test_datasets_reads_scenes_of_a_build(built, monkeypatch):
    monkeypatch.setattr(Builder, "BUILDER_CONFIGS", [TINY])
    where = {"data_dir": built.data_path.parents[2]}
    assert scene_names("synthetic_rooms", split="query", **where) == ["test-000"]
    query = load_frames("synthetic_rooms", "test-000", "query", **where)
    database = load_frames("synthetic_rooms", "test-000", "database", **where)
    assert (len(query), len(database)) == (3, 6)
    assert set(query.sequences) == {"path-2"} and set(database.sequences) == {"path-0", "path-1"}
    assert query.depths[0].shape == query.images[0].shape[:2] == (48, 64)


def test_named_rooms_are_split_as_seven_scenes_is(tmp_path, monkeypatch):
    """Each test picture sees half of what some training picture sees."""
    settings = dataclasses.replace(
        NAMED,
        width=64,
        height=48,
        database_paths=2,
        query_paths=1,
        frames_per_path=3,
        names=ROOMS[:1],
    )
    config = dataclasses.replace(
        Builder.builder_configs["seven_rooms"], settings=settings, train_rooms=1
    )
    monkeypatch.setattr(Builder, "BUILDER_CONFIGS", [config])
    Builder(data_dir=tmp_path).download_and_prepare()
    database, query = (
        load_frames("seven_rooms", "chess_room", split, data_dir=tmp_path)
        for split in ("database", "query")
    )
    splits = tfds.builder("synthetic_rooms/seven_rooms", data_dir=tmp_path).info.splits
    assert {name: split.num_examples for name, split in splits.items()} == {"train": 6, "test": 3}
    assert set(database.sequences) == {"path-0", "path-1"} and set(query.sequences) == {"path-2"}
    np.testing.assert_allclose(query.intrinsics[:, 0, 0], 0.82 * 64)
    together = PosedFrames(
        scene="both",
        names=(*database.names, *query.names),
        world_from_cam=np.concatenate([database.world_from_cam, query.world_from_cam]),
        intrinsics=np.concatenate([database.intrinsics, query.intrinsics]),
        image_sizes=np.concatenate([database.image_sizes, query.image_sizes]),
        images=[*database.images, *query.images],
        depths=[*database.depths, *query.depths],
    )
    first, second = np.divmod(np.arange(18), 3)
    shared = pair_overlap(together, first, 6 + second).reshape(6, 3)
    assert shared.max(axis=0).min() > 0.2  # of both views; of the query's alone it is half

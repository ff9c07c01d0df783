import numpy as np
import pytest
import tensorflow_datasets as tfds

from jaxreloc.data import datasets
from jaxreloc.data.datasets import load_frames, load_scenes, scene_names
from jaxreloc.formats.query_split import split_frames
from jaxreloc.formats.readers.seven_scenes import SCENES
from jaxreloc.usage import UsageError
from tests.data.conftest import gray
from tests.formats.scenes import make_csv, make_seven_scenes, random_poses, truncate


def test_posed_images_are_read_as_they_are_and_split_by_name(tmp_path, rng):
    poses = random_poses(rng, 11)
    make_csv(tmp_path, poses)
    database, query = (
        load_frames("posed_images", "kitchen", split, data_path=tmp_path)
        for split in ("database", "query")
    )
    assert database.scene == query.scene == "kitchen"
    in_order = sorted(f"images/{i}.png" for i in range(11))
    assert list(query.names) == in_order[4::5]
    assert sorted(database.names + query.names) == in_order
    for frames in (database, query):
        for name, pose in zip(frames.names, frames.world_from_cam):
            number = int(name.removeprefix("images/").removesuffix(".png"))
            np.testing.assert_allclose(pose, poses[number], atol=1e-12)


def test_every_kth_frame_is_a_query(tmp_path, rng):
    make_csv(tmp_path, random_poses(rng, 7))
    frames = load_frames("posed_images", "a", "all", data_path=tmp_path)
    assert gray(frames) == [0, 10, 20, 30, 40, 50, 60]
    assert gray(split_frames(frames, "query", query_every=3)) == [20, 50]
    assert gray(split_frames(frames, "database", query_every=3)) == [0, 10, 30, 40, 60]
    for query_every in (1, 8):
        with pytest.raises(UsageError, match=f"every {query_every}-th of 7 frames"):
            split_frames(frames, "query", query_every=query_every)


def test_bad_frames_of_a_users_folder_raise_or_are_skipped(tmp_path, rng):
    make_csv(tmp_path, random_poses(rng, 6))
    truncate(tmp_path / "images/1.png")
    arguments = {"data_path": tmp_path, "skip_bad_frames": True}
    assert len(load_frames("posed_images", "a", "all", **arguments)) == 5
    (loaded,) = load_scenes("posed_images", "all", **arguments)
    assert len(loaded) == 5
    with pytest.raises(UsageError, match="images/1.png: not a readable picture"):
        list(load_frames("posed_images", "a", "all", data_path=tmp_path).images)


def test_a_build_of_all_scenes_serves_each(seven_scenes_data_dir):
    frames = load_frames("seven_scenes/sfm", "stairs", "database", data_dir=seven_scenes_data_dir)
    assert frames.scene == "stairs" and gray(frames) == [130, 131, 132]
    np.testing.assert_allclose(frames.intrinsics[0, 0, 0], 526.22 / 20, rtol=1e-6)


def test_the_build_and_the_unpacked_files_are_the_same_frames(tmp_path, rng):
    make_seven_scenes(tmp_path / "chess", rng)
    builder = tfds.builder("seven_scenes/chess", data_dir=tmp_path / "data")
    config = tfds.download.DownloadConfig(manual_dir=tmp_path)
    builder.download_and_prepare(download_config=config)
    for data_path in (tmp_path, tmp_path / "chess"):
        for split in ("database", "query"):
            files = load_frames("seven_scenes", "chess", split, data_path=data_path)
            built = load_frames("seven_scenes", "chess", split, data_dir=tmp_path / "data")
            assert files.names == built.names and files.sequences == built.sequences
            np.testing.assert_allclose(files.world_from_cam, built.world_from_cam, atol=1e-6)
            assert gray(files) == gray(built)


def test_an_unpacked_scene_is_not_taken_for_another(tmp_path, rng):
    make_seven_scenes(tmp_path / "chess", rng)
    assert scene_names("seven_scenes", data_path=tmp_path / "chess") == ["chess"]
    assert scene_names("seven_scenes", data_path=tmp_path) == list(SCENES)
    with pytest.raises(UsageError, match="chess: is the scene chess, not fire; give --scene=chess"):
        load_frames("seven_scenes", "fire", "query", data_path=tmp_path / "chess")
    with pytest.raises(UsageError, match="unknown scene of seven_scenes 'ches'; known: chess"):
        load_frames("seven_scenes", "ches", "query", data_path=tmp_path / "chess")
    (tmp_path / "chess").rename(tmp_path / "copy")
    frames = load_frames("seven_scenes", "chess", "query", data_path=tmp_path / "copy")
    assert frames.scene == "chess"


def test_scenes_are_listed_and_loaded(seven_scenes_data_dir):
    assert scene_names("seven_scenes") == list(SCENES)
    loaded = load_scenes(
        "seven_scenes", "database", data_dir=seven_scenes_data_dir, scenes=["fire", "chess"]
    )
    assert [frames.scene for frames in loaded] == ["fire", "chess"]
    assert scene_names("posed_images", data_path="/photos/kitchen") == ["kitchen"]


def test_a_wrong_scene_is_said_before_a_right_one_is_built(monkeypatch):
    monkeypatch.setattr(datasets, "load_frames", lambda *_, **__: pytest.fail("read"))
    with pytest.raises(UsageError, match="scene of seven_rooms 'attic'; known: chess_room"):
        datasets.load_scenes("seven_rooms", "database", scenes=("chess_room", "attic"))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("eight_scenes", "chess", "query"), "unknown dataset 'eight_scenes'; known: posed_images"),
        (("seven_scenes", "kitchen", "query"), "unknown scene of seven_scenes 'kitchen'; known"),
        (("seven_scenes", "chess", "validation"), "unknown split of seven_scenes 'validation'"),
        (("seven_scenes/rgb", "chess", "query"), "unknown variant 'rgb' of seven_scenes; known: "),
        (("seven_rooms", "attic", "query"), "'attic'; known: chess_room, .*stairs_room"),
        (("seven_rooms/sfm", "a", "query"), "unknown variant 'sfm' of seven_rooms; known: small"),
        (("posed_images", "a", "query"), "posed_images needs --data_path=FOLDER"),
    ],
)
def test_unknown_names_are_refused_with_the_known_ones(seven_scenes_data_dir, arguments, message):
    with pytest.raises(UsageError, match=message):
        load_frames(*arguments, data_dir=seven_scenes_data_dir)


def test_what_is_not_on_the_machine_is_refused_with_the_way_to_get_it(tmp_path, rng):
    with pytest.raises(UsageError, match=f"seven_scenes/stairs/1.0.0 is not in {tmp_path}.*README"):
        load_frames("seven_scenes", "stairs", "query", data_dir=tmp_path)
    with pytest.raises(UsageError, match="university.* is not in .*29 GB"):
        load_frames("university", "office", "query", data_dir=tmp_path)
    make_csv(tmp_path, random_poses(rng, 5))
    with pytest.raises(UsageError, match="unknown split 'train'; known: all, database, query"):
        load_frames("posed_images", "a", "train", data_path=tmp_path)


def test_synthetic_rooms_splits_follow_the_room():
    split = datasets._synthetic_rooms_split
    assert split("test-000", "query") == "test_query" and split("test-000", "database") == "test"
    assert split("train-012", "query") == "train_query"
    assert split(None, "query") == "test_query" and split(None, "train") == "train"


def test_a_build_shows_no_bars_of_tfds(monkeypatch):
    """Which flood a log; while it lasts, and then they are as before."""
    bars = tfds.core.utils.tqdm_utils

    class Building:
        built = False

        def is_prepared(self):
            return self.built

        def download_and_prepare(self):
            self.built = isinstance(bars.tqdm([]), bars.EmptyTqdm)

    builder = Building()
    monkeypatch.setattr(datasets._TfdsDataset, "_builder", lambda *arguments: builder)
    monkeypatch.setattr("jaxreloc.data.tfds_frames.SplitFrames", lambda builder, split: split)
    dataset = datasets._TFDS_DATASETS["synthetic_rooms"]
    assert dataset.open("train-000", None, "query", None) == "train_query"
    assert builder.built and not isinstance(bars.tqdm([]), bars.EmptyTqdm)

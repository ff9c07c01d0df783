import multiprocessing
import pathlib
import pickle

import numpy as np
import pytest
import tensorflow_datasets as tfds

from jaxreloc.data import datasets
from jaxreloc.data.datasets import load_frames, load_scenes, scene_names, split_frames
from jaxreloc.formats.seven_scenes import SCENES
from jaxreloc.usage import UsageError
from tests.formats.scenes import make_csv, make_seven_scenes, random_poses, truncate

DUMMY_DATA = pathlib.Path(__file__).parents[2] / "tfds_builders/seven_scenes/dummy_data"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A TFDS folder with two scenes of the dummy 7-Scenes prepared."""
    import tfds_builders  # noqa: F401

    folder = tmp_path_factory.mktemp("data")
    config = tfds.download.DownloadConfig(manual_dir=DUMMY_DATA)
    for name in ("chess_depth", "chess", "fire"):
        builder = tfds.builder(f"seven_scenes/{name}", data_dir=folder)
        builder.download_and_prepare(download_config=config)
    return folder


def gray(frames):
    return [int(image[5, 5, 0]) for image in frames.images]


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
    with pytest.raises(UsageError, match="images/1.png: not a readable picture"):
        list(load_frames("posed_images", "a", "all", data_path=tmp_path).images)


def test_seven_scenes_from_its_build(data_dir):
    database = load_frames("seven_scenes", "fire", "database", data_dir=data_dir)
    query = load_frames("seven_scenes", "fire", "query", data_dir=data_dir)
    assert database.names == tuple(f"seq-02/frame-00000{i}.color.png" for i in range(3))
    assert query.sequences == ("seq-01",) * 3 and query.depths is None
    assert gray(database) == [40, 41, 42] and gray(query) == [30, 31, 32]
    np.testing.assert_array_equal(database.image_sizes, [[32, 24]] * 3)
    np.testing.assert_allclose(database.intrinsics[0], [[26.25, 0, 15.5], [0, 26.25, 11.5], [0, 0, 1]])
    assert database.world_from_cam.dtype == np.float64
    R = database.world_from_cam[:, :3, :3]
    np.testing.assert_allclose(R @ R.transpose(0, 2, 1), np.tile(np.eye(3), (3, 1, 1)), atol=1e-12)


def test_a_variant_has_depth(data_dir):
    frames = load_frames("seven_scenes/depth", "chess", "query", data_dir=data_dir)
    np.testing.assert_allclose(frames.depths[1][5, 5], 2.001, rtol=1e-6)
    assert frames.depths[1][0, 0] == 0 == frames.depths[1][0, 1]
    np.testing.assert_allclose(frames.depth_intrinsics[2][0, 0], 29.25)


def test_the_build_and_the_unpacked_files_are_the_same_frames(tmp_path, rng, data_dir):
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


def test_frames_are_read_in_worker_processes(data_dir):
    frames = load_frames("seven_scenes/depth", "chess", "query", data_dir=data_dir).select([2, 0])
    assert gray(pickle.loads(pickle.dumps(frames))) == gray(frames)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(gray, (frames,)) == gray(frames) == [22, 20]
        assert pool.apply(depth_of_first, (frames,)) == frames.depths[0].sum()


def depth_of_first(frames):
    return frames.depths[0].sum()


def test_poses_are_gathered_once(data_dir, monkeypatch):
    first = load_frames("seven_scenes", "chess", "query", data_dir=data_dir)
    monkeypatch.setattr("jaxreloc.data.tfds_frames._build_index", None)
    again = load_frames("seven_scenes", "chess", "query", data_dir=data_dir)
    np.testing.assert_array_equal(first.world_from_cam, again.world_from_cam)
    assert first.names == again.names and gray(first) == gray(again)


def test_a_damaged_index_is_made_anew(data_dir):
    expected = load_frames("seven_scenes", "fire", "query", data_dir=data_dir)
    (path,) = data_dir.glob("seven_scenes/fire/*/frame_index-test.npz")
    truncate(path)
    again = load_frames("seven_scenes", "fire", "query", data_dir=data_dir)
    np.testing.assert_array_equal(again.world_from_cam, expected.world_from_cam)
    with np.load(path) as index:
        assert len(index["scene"]) == 3


def test_scenes_are_listed_and_loaded(data_dir):
    assert scene_names("seven_scenes") == list(SCENES)
    loaded = load_scenes("seven_scenes", "database", data_dir=data_dir, scenes=["fire", "chess"])
    assert [frames.scene for frames in loaded] == ["fire", "chess"]
    assert scene_names("posed_images", data_path="/photos/kitchen") == ["kitchen"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("eight_scenes", "chess", "query"), "unknown dataset 'eight_scenes'; known: posed_images"),
        (("seven_scenes", "kitchen", "query"), "unknown scene of seven_scenes 'kitchen'; known: ch"),
        (("seven_scenes", "chess", "validation"), "unknown split of seven_scenes 'validation'"),
        (("seven_scenes/rgb", "chess", "query"), "unknown variant 'rgb' of seven_scenes; known: "),
        (("posed_images", "a", "query"), "posed_images needs --data_path=FOLDER"),
    ],
)
def test_unknown_names_are_refused_with_the_known_ones(data_dir, arguments, message):
    with pytest.raises(UsageError, match=message):
        load_frames(*arguments, data_dir=data_dir)


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

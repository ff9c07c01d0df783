import multiprocessing
import pickle

import numpy as np
import pytest
import tensorflow_datasets as tfds

from jaxreloc.data.datasets import load_frames
from jaxreloc.data.tfds_frames import SplitFrames
from jaxreloc.usage import UsageError
from tests.data.conftest import gray
from tests.formats.scenes import truncate


def test_seven_scenes_from_its_build(seven_scenes_data_dir):
    database = load_frames("seven_scenes", "fire", "database", data_dir=seven_scenes_data_dir)
    query = load_frames("seven_scenes", "fire", "query", data_dir=seven_scenes_data_dir)
    assert database.names == tuple(f"seq-02/frame-00000{i}.color.png" for i in range(3))
    assert query.sequences == ("seq-01",) * 3 and query.depths is None
    assert gray(database) == [40, 41, 42] and gray(query) == [30, 31, 32]
    np.testing.assert_array_equal(database.image_sizes, [[32, 24]] * 3)
    K = [[26.25, 0, 15.5], [0, 26.25, 11.5], [0, 0, 1]]
    np.testing.assert_allclose(database.intrinsics[0], K)
    assert database.world_from_cam.dtype == np.float64
    R = database.world_from_cam[:, :3, :3]
    np.testing.assert_allclose(R @ R.transpose(0, 2, 1), np.tile(np.eye(3), (3, 1, 1)), atol=1e-12)


def test_a_variant_has_depth(seven_scenes_data_dir):
    frames = load_frames("seven_scenes/depth", "chess", "query", data_dir=seven_scenes_data_dir)
    np.testing.assert_allclose(frames.depths[1][5, 5], 2.001, rtol=1e-6)
    assert frames.depths[1][0, 0] == 0 == frames.depths[1][0, 1]
    np.testing.assert_allclose(frames.depth_intrinsics[2][0, 0], 29.25)


def test_frames_are_read_in_worker_processes(seven_scenes_data_dir):
    frames = load_frames("seven_scenes/depth", "chess", "query", data_dir=seven_scenes_data_dir)
    frames = frames.select([2, 0])
    assert gray(pickle.loads(pickle.dumps(frames))) == gray(frames)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(gray, (frames,)) == gray(frames) == [22, 20]
        assert pool.apply(depth_of_first, (frames,)) == frames.depths[0].sum()


def depth_of_first(frames):
    return frames.depths[0].sum()


def test_poses_are_gathered_once(seven_scenes_data_dir, monkeypatch):
    first = load_frames("seven_scenes", "chess", "query", data_dir=seven_scenes_data_dir)
    monkeypatch.setattr("jaxreloc.data.tfds_frames._build_index", None)
    again = load_frames("seven_scenes", "chess", "query", data_dir=seven_scenes_data_dir)
    np.testing.assert_array_equal(first.world_from_cam, again.world_from_cam)
    assert first.names == again.names and gray(first) == gray(again)


def test_a_damaged_index_is_made_anew(seven_scenes_data_dir):
    expected = load_frames("seven_scenes", "fire", "query", data_dir=seven_scenes_data_dir)
    (path,) = seven_scenes_data_dir.glob("seven_scenes/fire/*/frame_index-test.npz")
    truncate(path)
    again = load_frames("seven_scenes", "fire", "query", data_dir=seven_scenes_data_dir)
    np.testing.assert_array_equal(again.world_from_cam, expected.world_from_cam)
    with np.load(path) as index:
        assert len(index["scene"]) == 3


def test_scenes_of_a_split_are_known(seven_scenes_data_dir):
    builder = tfds.builder("seven_scenes/fire", data_dir=seven_scenes_data_dir)
    split = SplitFrames(builder, "train")
    assert split.scene_names() == ["fire"]
    with pytest.raises(UsageError, match="scene of seven_scenes in train 'chess'; known: fire"):
        split.frames("chess")
    with pytest.raises(UsageError, match="split of seven_scenes 'query'; known: test, train"):
        SplitFrames(builder, "query")

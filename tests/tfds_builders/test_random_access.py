import pathlib

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from tfds_builders.frame_features import frame_features
from tfds_builders.random_access import RandomAccessBuilder

NUM_FRAMES = 12


class RandomAccessToy(RandomAccessBuilder):
    """Frames that tell their number in every feature."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=frame_features(depth=True))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i in range(NUM_FRAMES):
            _, image = cv2.imencode(".png", np.full((3, 4, 3), i, np.uint8))
            yield i, {
                "image": image.tobytes(),
                "world_from_cam": np.eye(4, dtype=np.float32) * i,
                "intrinsics": np.eye(3, dtype=np.float32) * i,
                "scene": "toy",
                "sequence": f"seq-{i}",
                "frame": i,
                "image_id": f"toy/{i}",
                "depth": np.full((3, 4), i / 10, np.float32),
                "depth_intrinsics": np.eye(3, dtype=np.float32) * i,
            }


@pytest.fixture(scope="module", params=["array_record", "tfrecord"])
def file_format(request):
    return request.param


@pytest.fixture(scope="module")
def toy(tmp_path_factory, file_format):
    builder = RandomAccessToy(
        data_dir=tmp_path_factory.mktemp(file_format),
        file_format=None if file_format == "array_record" else file_format,
    )
    builder.download_and_prepare()
    return RandomAccessToy(data_dir=builder._data_dir_root)


def numbers(dataset):
    return [int(example["frame"]) for example in dataset.as_numpy_iterator()]


def test_the_format_of_a_build_is_kept(toy, file_format):
    assert toy.info.file_format.value == file_format


def test_tf_data_yields_every_frame_whole(toy):
    dataset = toy.as_dataset(split="train")
    assert len(dataset) == NUM_FRAMES
    seen = set()
    for example in dataset.as_numpy_iterator():
        i = int(example["frame"])
        seen.add(i)
        assert (example["image"] == i).all() and example["image"].shape == (3, 4, 3)
        np.testing.assert_allclose(example["depth"], np.full((3, 4), i / 10), atol=1e-6)
        np.testing.assert_array_equal(example["world_from_cam"], np.eye(4) * i)
        assert example["image_id"] == f"toy/{i}".encode()
    assert seen == set(range(NUM_FRAMES))


def test_parts_of_a_split_are_disjoint(toy):
    first = numbers(toy.as_dataset(split="train[:25%]"))
    rest = numbers(toy.as_dataset(split="train[25%:]"))
    assert len(first) == 3 and sorted(first + rest) == list(range(NUM_FRAMES))


def test_partial_and_skipped_decoding(toy):
    partial = tfds.decode.PartialDecoding(
        {"image": True, "frame": True}, decoders={"image": tfds.decode.SkipDecoding()}
    )
    for example in toy.as_dataset(split="train", decoders=partial).as_numpy_iterator():
        assert set(example) == {"image", "frame"}
        image = cv2.imdecode(np.frombuffer(example["image"], np.uint8), cv2.IMREAD_COLOR)
        assert (image == example["frame"]).all()


def test_batches_of_tf_data(toy):
    (batch,) = toy.as_dataset(split="train", batch_size=NUM_FRAMES).as_numpy_iterator()
    assert batch["image"].shape == (NUM_FRAMES, 3, 4, 3)


@pytest.mark.parametrize("file_format", ["array_record"], indirect=True)
class TestArrayRecord:
    def test_random_access(self, toy):
        source = toy.as_data_source("train")
        assert sorted(int(example["frame"]) for example in source) == list(range(NUM_FRAMES))
        assert source[5]["frame"] == numbers(toy.as_dataset(split="train"))[5]

    def test_shuffling_is_of_records_and_from_the_seed(self, toy):
        orders = [
            numbers(
                toy.as_dataset(
                    split="train",
                    shuffle_files=True,
                    read_config=tfds.ReadConfig(shuffle_seed=seed),
                )
            )
            for seed in (1, 1, 2)
        ]
        assert orders[0] == orders[1] != orders[2]
        assert sorted(orders[0]) == sorted(orders[2]) == list(range(NUM_FRAMES))

    def test_input_pipelines_share_the_records(self, toy):
        import tensorflow as tf

        parts = [
            numbers(
                toy.as_dataset(
                    split="train",
                    read_config=tfds.ReadConfig(
                        input_context=tf.distribute.InputContext(2, index, 2)
                    ),
                )
            )
            for index in range(2)
        ]
        assert [len(part) for part in parts] == [6, 6]
        assert sorted(parts[0] + parts[1]) == list(range(NUM_FRAMES))

    def test_ids_of_tfds_are_refused(self, toy):
        with pytest.raises(ValueError, match="use the feature image_id"):
            toy.as_dataset(split="train", read_config=tfds.ReadConfig(add_tfds_id=True))


def test_what_a_killed_build_left_is_removed(tmp_path):
    builder = RandomAccessToy(data_dir=tmp_path)
    left = pathlib.Path(builder.data_path).parent / "incomplete.AAAAAA_1.0.0"
    (left / "a").mkdir(parents=True)
    builder.download_and_prepare()
    assert not left.exists() and builder.data_path.exists()


def test_a_build_that_another_process_has_done_meanwhile_is_read(tmp_path):
    late = RandomAccessToy(data_dir=tmp_path)
    RandomAccessToy(data_dir=tmp_path).download_and_prepare()
    late.download_and_prepare()
    assert len(late.as_data_source("train")) == late.info.splits["train"].num_examples > 0

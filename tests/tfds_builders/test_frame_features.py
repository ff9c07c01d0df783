import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from tfds_builders.frame_features import DepthImage, frame_features


def test_depth_in_metres_is_kept_to_the_millimetre_in_both_ways_of_reading(rng):
    depth = rng.uniform(0, 60, (5, 7)).astype(np.float32)
    depth[0, 0] = np.nan
    encoded = DepthImage().encode_example(depth)
    for decoded in (
        DepthImage().decode_example_np(encoded),
        DepthImage().decode_example(encoded).numpy(),
    ):
        assert decoded.dtype == np.float32
        np.testing.assert_allclose(decoded, np.nan_to_num(depth), atol=5.1e-4)
        assert decoded[0, 0] == 0


def test_a_files_bytes_are_kept_and_65535_means_none():
    _, encoded = cv2.imencode(".png", np.array([[0, 1500, 65534, 65535]], np.uint16))
    encoded = encoded.tobytes()
    assert DepthImage().encode_example(encoded) == encoded
    expected = np.array([[0, 1.5, 65.534, 0]], np.float32)
    np.testing.assert_allclose(DepthImage().decode_example_np(encoded), expected, rtol=1e-6)
    np.testing.assert_allclose(DepthImage().decode_example(encoded).numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize(
    "depth", [np.full((2, 2), 65.6), np.full((2, 2), -1.0), np.ones((2, 2, 1))]
)
def test_depth_that_does_not_fit_is_refused(depth):
    with pytest.raises(ValueError, match="depth must be"):
        DepthImage().encode_example(depth)


def test_features_can_be_read_back_from_their_description(tmp_path):
    frame_features(depth=True).save_config(tmp_path)
    read = tfds.features.FeaturesDict.from_config(tmp_path)
    assert type(read["depth"]) is DepthImage and set(read) == set(frame_features(depth=True))


def test_depth_is_there_only_if_asked_for():
    assert {"depth", "depth_intrinsics"} == set(frame_features(depth=True)) - set(frame_features())

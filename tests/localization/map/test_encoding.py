import dataclasses

import cv2
import numpy as np
import pytest

from jaxreloc.localization.map.encoding import encode_frames
from tests.localization.fakes import OracleNetwork, oracle_frames, pose_in_picture


@pytest.mark.parametrize("batch_size", [1, 5, 7, 64])
def test_every_image_is_encoded_once_whatever_the_batch_size(rng, batch_size):
    frames = oracle_frames(rng, 21)
    encoded = encode_frames(frames, OracleNetwork(), batch_size=batch_size)
    truth = pose_in_picture(np.stack(frames.images))
    assert encoded.names == frames.names
    np.testing.assert_array_equal(encoded.features[0], truth)
    lengths = np.linalg.norm(encoded.descriptors.astype(np.float32), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-3)
    assert len(encoded.pictures) == 21


def test_pictures_are_small_where_nothing_matches_them(rng):
    """A picture that brightens from left to right does so at two fifths of the size."""
    frames = oracle_frames(rng, 1)
    brightness = np.arange(400) * 0.6
    picture = np.tile(np.rint(brightness).astype(np.uint8)[None, :, None], (300, 1, 3))
    frames = dataclasses.replace(frames, images=[picture])

    class Network(OracleNetwork):
        def prepare(self, image, intrinsics):
            return image[:1, :28], intrinsics

    encoded = encode_frames(frames, Network())
    thumbnail = cv2.imdecode(np.frombuffer(encoded.pictures[0], np.uint8), cv2.IMREAD_COLOR)
    assert thumbnail.shape == (120, 160, 3)
    expected = 0.6 * ((np.arange(160) + 0.5) * 2.5 - 0.5)
    np.testing.assert_allclose(thumbnail, np.tile(expected[None, :, None], (120, 1, 3)), atol=4)

import numpy as np
import pytest

from jaxreloc.images import DepthFiles, cell_centres, decode_depth, sample_depth
from jaxreloc.usage import UsageError
from tests.images.test_decoding import encode


def test_depth_is_metres_with_zero_for_none(tmp_path):
    raw = np.array([[0, 1, 1000], [2500, 65534, 65535]], np.uint16)
    encoded = encode(".png", raw)
    expected = np.array([[0, 0.001, 1], [2.5, 65.534, 0]], np.float32)
    np.testing.assert_allclose(decode_depth(encoded, "a"), expected, rtol=1e-6)
    (tmp_path / "a.png").write_bytes(encoded)
    fifths = DepthFiles((tmp_path / "a.png",), per_metre=5000.0)[0]
    np.testing.assert_allclose(fifths, expected / 5, rtol=1e-6)
    assert fifths.dtype == np.float32


def test_a_colour_picture_is_no_depth(rng):
    with pytest.raises(UsageError, match="^a.png: not a 16-bit depth"):
        decode_depth(encode(".png", rng.integers(0, 256, (12, 20, 3), np.uint8)), "a.png")


def test_depth_is_sampled_where_a_cropped_image_shows_it(rng):
    """Cell (row, column) of a crop lies on the depth map's pixel of the same ray."""
    depth = rng.uniform(1, 5, (40, 60)).astype(np.float32)
    of_depth = np.array([[50.0, 0, 29.5], [0, 50, 19.5], [0, 0, 1]])
    left, top, stride = 7.2, -4.3, 4  # the crop begins above the map
    of_crop = of_depth - np.array([[0, 0, left], [0, 0, top], [0, 0, 0]])
    sampled = sample_depth(depth, of_depth, of_crop, cell_centres((16, 20), stride))
    assert sampled.shape == (4, 5) and sampled.dtype == np.float32
    for row in range(4):
        for column in range(5):
            y, x = (np.rint(stride * i + 1.5 + o) for i, o in ((row, top), (column, left)))
            expected = depth[int(y), int(x)] if y >= 0 else 0
            assert sampled[row, column] == expected

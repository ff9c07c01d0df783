import numpy as np
import pytest

from jaxreloc.formats.common.intrinsics_file import read_intrinsics
from jaxreloc.images import PictureHeader
from jaxreloc.usage import UsageError


@pytest.mark.parametrize("text", ["30 31 15 11\n", "# K\n30 0 15\n0 31 11\n0 0 1\n"])
def test_four_numbers_or_a_matrix(tmp_path, text):
    (tmp_path / "intrinsics.txt").write_text(text)
    camera = read_intrinsics(tmp_path / "intrinsics.txt", PictureHeader((32, 24)))
    np.testing.assert_array_equal(camera.intrinsics, [[30, 0, 15], [0, 31, 11], [0, 0, 1]])
    assert (camera.width, camera.height) == (32, 24) and camera.is_pinhole


@pytest.mark.parametrize(
    "text, message",
    [
        ("1 2 3", "3 numbers; write 'fx fy cx cy' or a 3x3 matrix"),
        ("30 1 15 0 30 11 0 0 1", "not .*; write 'fx fy cx cy'"),
        ("30 nan 15 11", "1: K has NaN"),
        ("0 30 15 11", "fx fy cx cy = 0 30 15 11 are not of a 32 x 24 image"),
    ],
)
def test_what_is_no_camera_is_refused(tmp_path, text, message):
    (tmp_path / "intrinsics.txt").write_text(text)
    with pytest.raises(UsageError, match=f"intrinsics.txt:{message}|intrinsics.txt: {message}"):
        read_intrinsics(tmp_path / "intrinsics.txt", PictureHeader((32, 24)))

"""Areas worked by hand, overlaps of planted walls, and lists of pairs."""

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from benchmarks.wide import wide_baseline, wide_pairs
from jaxreloc.data.pairing.overlap import depth_overlap
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.usage import UsageError

K = np.array([[96.0, 0, 47.5], [0, 96, 35.5], [0, 0, 1]])
SIZE = (96, 72)


def pose(rotation, centre) -> np.ndarray:
    found = np.eye(4)
    found[:3, :3], found[:3, 3] = rotation, centre
    return found


@pytest.mark.parametrize(
    "errors, threshold, expected",
    [
        ([np.inf, np.inf], 10, 0.0),
        ([0.0], 10, 1.0),
        # From (0, 0) to (4, 1/2) and on to (10, 1/2): 1 + 3 of 10.
        ([4.0, 20.0], 10, 0.4),
        # To (2, 1/2), to (6, 1), on to (10, 1): .5 + 3 + 4 of 10.
        ([6.0, 2.0], 10, 0.75),
    ],
)
def test_areas_worked_by_hand(errors, threshold, expected):
    assert wide_baseline.auc(np.array(errors), threshold) == pytest.approx(expected)


def test_the_error_is_the_larger_angle(rng):
    turn, direction = Rotation.random(rng=rng).as_matrix(), rng.normal(size=3)
    true = pose(turn, direction)
    axis = np.cross(direction, rng.normal(size=3))
    axis /= np.linalg.norm(axis)
    for about_deg, aside_deg in ((7.0, 3.0), (2.0, 11.0), (179.0, 0.0)):
        about = Rotation.from_rotvec(np.radians(about_deg) * axis).as_matrix()
        aside = Rotation.from_rotvec(np.radians(aside_deg) * axis).as_matrix()
        found = pose(about @ turn, 5.0 * aside @ direction)
        error = wide_baseline.pose_error_deg(found, true)
        assert error == pytest.approx(max(about_deg, aside_deg), abs=1e-4)
    assert wide_baseline.pose_error_deg(None, true) == np.inf


def test_overlap_is_what_both_see_of_a_wall():
    """The wall z = 4 fills both pictures; the second is moved by a part of what the first sees."""
    width_m = 4 * SIZE[0] / K[0, 0]
    shares = np.array([0.0, 0.25, 0.5, 1.5])
    poses = np.stack([pose(np.eye(3), [share * width_m, 0, 0]) for share in shares])
    frames = planted(poses, np.full(SIZE[::-1], 4.0, np.float32))
    first, second = np.triu_indices(4, 1)
    expected = np.clip(1 - np.abs(shares[first] - shares[second]), 0, 1)
    np.testing.assert_allclose(depth_overlap(frames, first, second), expected, atol=1 / 8)
    nearer = [*frames.depths[:3], np.full(SIZE[::-1], 1.0, np.float32)]
    hidden = depth_overlap(
        PosedFrames(**{**vars(frames), "depths": nearer, "world_from_cam": poses[[0, 0, 0, 0]]}),
        np.full(3, 3),
        np.arange(3),
    )
    np.testing.assert_allclose(hidden, 0)


def planted(poses, depth) -> PosedFrames:
    n = len(poses)
    return PosedFrames(
        scene="wall",
        names=tuple(f"{i}.png" for i in range(n)),
        world_from_cam=poses,
        intrinsics=np.tile(K, (n, 1, 1)),
        image_sizes=np.tile(SIZE, (n, 1)),
        images=[np.zeros((*SIZE[::-1], 3), np.uint8)] * n,
        depths=[depth] * n,
    )


def test_a_list_of_pairs_is_read_as_superglue_has_it(tmp_path, rng):
    images = rng.integers(0, 256, (2, *SIZE[::-1], 3), np.uint8)
    for i in range(2):
        assert cv2.imwrite(str(tmp_path / f"{i}.png"), images[i, ..., ::-1])
    second_from_first = pose(Rotation.random(rng=rng).as_matrix(), rng.normal(size=3))
    numbers = [0, 0, *K.ravel(), *(2 * K).ravel(), *second_from_first.ravel()]
    good = " ".join(["0.png", "1.png", *map(repr, map(float, numbers))])
    path = tmp_path / "pairs.txt"
    path.write_text(good + "\n")
    (pair,) = wide_pairs.pairs_of_list(path, tmp_path)
    np.testing.assert_array_equal(pair.second, images[1])
    np.testing.assert_array_equal(pair.second_intrinsics, 2 * K)
    np.testing.assert_allclose(pair.first_from_second @ second_from_first, np.eye(4), atol=1e-9)
    for wrong, message in [
        (good.rsplit(" ", 1)[0], "37 fields"),
        (good.replace("1.png 0.0", "1.png 1.0"), "turn them first"),
        (good.replace("96.0", "x", 1), "give numbers"),
        (good.replace("96.0", "nan", 1), "38 fields"),
    ]:
        path.write_text(f"{good}\n{wrong}\n")
        with pytest.raises(UsageError, match=f"pairs.txt:2: .*{message}"):
            wide_pairs.pairs_of_list(path, tmp_path)

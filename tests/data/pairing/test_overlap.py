import dataclasses

import numpy as np
import pytest

from jaxreloc.data.pairing import overlap
from jaxreloc.usage import UsageError
from tests.data import box_room

FRAMES = 24


@pytest.fixture
def room(rng):
    return box_room.random_room(rng, FRAMES, with_depth=True)


@pytest.fixture
def pairs():
    return np.triu_indices(FRAMES, 1)


def truth(room, first, second):
    poses = room.world_from_cam
    return np.array([box_room.true_overlap(poses[i], poses[j]) for i, j in zip(first, second)])


def test_depth_overlap_is_the_share_of_surface_in_common(room, pairs):
    """Against every pixel of both images, with surfaces and occlusion by ray casting."""
    error = np.abs(overlap.depth_overlap(room, *pairs) - truth(room, *pairs))
    assert error.mean() < 0.01
    # A pair that sees a wall or the ball's rim at a grazing angle.
    assert np.quantile(error, 0.95) < 0.1 and error.max() < 0.6


def test_pairs_may_be_given_in_either_order(room, pairs):
    first, second = pairs
    for frames in (room, dataclasses.replace(room, depths=None)):
        there = overlap.pair_overlap(frames, first, second)
        np.testing.assert_array_equal(there, overlap.pair_overlap(frames, second, first))


def test_frustum_overlap_ranks_pairs_as_the_truth_does(rng, pairs):
    """Blind to the walls, it still tells who can see the same surface from who cannot."""
    room = box_room.random_room(rng, FRAMES, with_depth=False)
    guessed, true = overlap.pair_overlap(room, *pairs), truth(room, *pairs)
    assert np.corrcoef(guessed, true)[0, 1] > 0.5
    assert guessed[true > 0.2].mean() > 5 * guessed[true == 0].mean()


def test_frame_overlaps_itself_fully(room):
    index = np.arange(FRAMES)
    np.testing.assert_array_equal(overlap.depth_overlap(room, index, index), 1)
    np.testing.assert_array_equal(overlap.frustum_overlap(room, index, index, 2.0), 1)


def test_cameras_facing_each_other_share_no_surface():
    apart = box_room.random_room(np.random.default_rng(0), 2, with_depth=False)
    poses = np.tile(np.eye(4), (2, 1, 1))
    poses[1, :3, :3] = np.diag([-1, 1, -1])  # looks back along z
    poses[1, :3, 3] = [0, 0, 3]
    facing = dataclasses.replace(apart, world_from_cam=poses)
    assert overlap.frustum_overlap(facing, np.array([0]), np.array([1]), 1.5) == 0


@pytest.fixture
def before_a_wall():
    """Two cameras that look straight at a wall 2 m away, shifted by half an image width."""
    room = box_room.random_room(np.random.default_rng(0), 2, with_depth=True)
    poses = np.tile(np.eye(4), (2, 1, 1))
    poses[1, 0, 3] = 2 * 0.5 * box_room.WIDTH / box_room.FOCAL
    wall = [np.full((box_room.HEIGHT, box_room.WIDTH), 2, np.float32) for _ in range(2)]
    return dataclasses.replace(room, world_from_cam=poses, depths=wall)


def wall_overlap(frames):
    return overlap.depth_overlap(frames, np.array([0]), np.array([1])).item()


def test_wall_by_hand(before_a_wall):
    assert wall_overlap(before_a_wall) == 0.5


def test_points_without_depth_do_not_count(before_a_wall):
    """The first camera's right half is the second's left half."""
    half = box_room.WIDTH // 2
    first, second = (depth.copy() for depth in before_a_wall.depths)
    first[:, :half] = 0
    assert wall_overlap(dataclasses.replace(before_a_wall, depths=[first, second])) == 0.5
    second[:, half:] = 0
    assert wall_overlap(dataclasses.replace(before_a_wall, depths=[first, second])) == 1
    first[:, half:] = 0
    assert wall_overlap(dataclasses.replace(before_a_wall, depths=[first, second])) == 0


def test_surface_at_another_distance_is_another_surface(before_a_wall):
    first, second = (depth.copy() for depth in before_a_wall.depths)
    second[:] = 1.5
    assert wall_overlap(dataclasses.replace(before_a_wall, depths=[first, second])) == 0


def test_depth_map_may_have_any_resolution_and_its_own_intrinsics(room, pairs):
    coarse = dataclasses.replace(room, depths=[depth[1::3, 1::3] for depth in room.depths])
    expected = overlap.depth_overlap(coarse, *pairs)
    assert np.abs(expected - truth(room, *pairs)).mean() < 0.02
    own = room.intrinsics.copy()
    own[:, :2] /= 3
    own[:, :2, 2] -= 1 / 3  # (c + 0.5) / 3 - 0.5
    zoomed = room.intrinsics * np.array([2.0, 2.0, 1.0])[None, :, None]
    unregistered = dataclasses.replace(coarse, intrinsics=zoomed, depth_intrinsics=own)
    np.testing.assert_allclose(overlap.depth_overlap(unregistered, *pairs), expected, atol=0.02)


def test_scene_depth_of_cameras_around_a_point(rng):
    """Cameras on a sphere of radius 2 that all look at its centre."""
    room = box_room.random_room(rng, 50, with_depth=False)
    poses = room.world_from_cam.copy()
    poses[:, :3, 3] = -2 * poses[:, :3, 2]
    around = dataclasses.replace(room, world_from_cam=poses)
    assert overlap.scene_depth(around) == pytest.approx(2, abs=1e-6)


def test_scene_depth_of_parallel_cameras_is_their_distance(rng):
    room = box_room.random_room(rng, 2, with_depth=False)
    poses = np.tile(np.eye(4), (2, 1, 1))
    poses[1, 0, 3] = 0.7
    parallel = dataclasses.replace(room, world_from_cam=poses)
    # Half the random pairs are of a camera with itself, so the median is one of the two.
    assert overlap.scene_depth(parallel) in (pytest.approx(0.7), pytest.approx(1.0))


def test_unreadable_depth_map_is_named(room, pairs):
    class Depths(list):
        def __getitem__(self, i):
            if i == 3:
                raise UsageError("frame-3.depth.png: not a 16-bit depth picture")
            return super().__getitem__(i)

    broken = dataclasses.replace(room, depths=Depths(room.depths))
    with pytest.raises(UsageError, match="frame-3.depth.png"):
        overlap.depth_overlap(broken, *pairs)

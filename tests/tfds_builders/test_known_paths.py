"""The paths of named rooms that are kept, in rooms free of obstacles."""

import dataclasses

import numpy as np
import pytest

from tfds_builders.rooms.generation import render_room
from tfds_builders.rooms.paths.known_paths import known_paths
from tfds_builders.rooms.settings import NAMED, NAMED_SMALL


@pytest.mark.parametrize("scene", NAMED.names)
def test_paths_are_rigid_smooth_and_of_the_number_that_is_rendered(scene):
    poses = known_paths(scene)
    assert poses.shape == (
        NAMED_SMALL.database_paths + NAMED_SMALL.query_paths,
        NAMED_SMALL.frames_per_path,
        4,
        4,
    )
    rotation = poses[..., :3, :3]
    identity = np.broadcast_to(np.eye(3), rotation.shape)
    np.testing.assert_allclose(rotation @ np.swapaxes(rotation, -1, -2), identity, atol=1e-6)
    steps = np.linalg.norm(np.diff(poses[..., :3, 3], axis=1), axis=-1)
    assert steps.max() < 1.0 and len(np.unique(poses[..., 0, 3])) > 100


def test_a_small_room_is_rendered_along_them():
    """Nothing is nearer to a camera than the search allows."""
    tiny = dataclasses.replace(NAMED_SMALL, width=32, height=24)
    room = render_room(tiny, "train", 3)
    poses = known_paths(NAMED.names[3])
    both = np.concatenate([room.database.world_from_cam, room.query.world_from_cam])
    np.testing.assert_array_equal(both, poses.reshape(-1, 4, 4))
    assert (len(room.database), len(room.query)) == (104, 52)
    assert room.query.sequences[0] == "path-8"
    for depth in room.database.depths:
        assert np.quantile(depth, 0.1) > 0.25 and np.median(depth) > 0.55

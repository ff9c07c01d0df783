import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxreloc.formats.frames import Chain, PosedFrames, Selection, rigid
from jaxreloc.usage import UsageError


def random_pose(rng):
    pose = np.eye(4)
    pose[:3, :3] = Rotation.random(rng=rng).as_matrix()
    pose[:3, 3] = rng.normal(size=3)
    return pose


def some_frames(rng, n=5):
    return PosedFrames(
        scene="room",
        names=tuple(f"{i}.png" for i in range(n)),
        world_from_cam=np.stack([random_pose(rng) for _ in range(n)]),
        intrinsics=np.tile(np.diag([500.0, 500.0, 1.0]), (n, 1, 1)),
        image_sizes=np.tile([640, 480], (n, 1)),
        images=[np.full((2, 2, 3), i, np.uint8) for i in range(n)],
    )


def test_select_keeps_order_and_composes(rng):
    frames = some_frames(rng)
    chosen = frames.select([4, 1, 3]).select([2, 0])
    assert chosen.names == ("3.png", "4.png")
    np.testing.assert_array_equal(chosen.world_from_cam, frames.world_from_cam[[3, 4]])
    assert [int(image[0, 0, 0]) for image in chosen.images] == [3, 4]
    assert chosen.depths is chosen.sequences is chosen.depth_intrinsics is None


def test_a_chain_is_its_parts_one_after_the_other():
    class Unread(list):
        def __getitem__(self, i):
            raise AssertionError("read before it was asked for")

    parts = ([0, 1], [], Selection([9, 8, 7], np.array([2, 0])), [5])
    chain = Chain(parts)
    assert list(chain) == [0, 1, 7, 9, 5]
    assert [chain[-1], chain[-2], chain.find(3)] == [5, 9, (parts[2], 1)]
    with pytest.raises(IndexError):
        chain[5]
    assert Chain(([1], Unread([2, 3])))[0] == 1
    assert len(Chain((Unread([2, 3]), [1]))) == 3


def test_select_takes_depth_and_sequences_along(rng):
    frames = dataclasses.replace(
        some_frames(rng),
        depths=[np.full((2, 2), i, np.float32) for i in range(5)],
        sequences=tuple("abcde"),
        depth_intrinsics=rng.normal(size=(5, 3, 3)),
    )
    chosen = frames.select([3, 0])
    assert chosen.sequences == ("d", "a") and [depth[0, 0] for depth in chosen.depths] == [3, 0]
    np.testing.assert_array_equal(chosen.depth_intrinsics, frames.depth_intrinsics[[3, 0]])


def test_fields_of_different_lengths_are_refused(rng):
    with pytest.raises(ValueError, match="different lengths"):
        dataclasses.replace(some_frames(rng), names=("a",))


def test_rigid_projects_small_defects_to_the_nearest_rotation(rng):
    pose = random_pose(rng)
    off = pose.copy()
    off[:3, :3] *= 1.003
    np.testing.assert_allclose(rigid(off, "a.txt"), pose, atol=1e-12)


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda pose: pose * np.float64("nan"), "NaN"),
        (lambda pose: pose[:3], "shape"),
        (lambda pose: pose * np.array([1.1, 1.1, 1.1, 1.0]), "not a rigid transform"),
        (lambda pose: pose * np.array([-1.0, 1.0, 1.0, 1.0]), "mirrors"),
        (lambda pose: pose + np.eye(4)[:, ::-1] * 1e-3 * np.array([1, 0, 0, 0]), "not a rigid"),
    ],
)
def test_rigid_refuses_what_is_not_a_pose_naming_the_file(rng, spoil, message):
    with pytest.raises(UsageError, match=f"^a.txt: .*{message}"):
        rigid(spoil(random_pose(rng)), "a.txt")

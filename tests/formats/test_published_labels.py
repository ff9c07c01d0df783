"""What the published lists mean, found again from the data: conventions of 7-Scenes' ground truth
and of the labels of the paper's pair lists, each checked against the other."""

import functools

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxreloc.formats.pair_lists import read_pair_list
from jaxreloc.formats.readers.pose_list import read_evaluation_poses
from jaxreloc.formats.readers.seven_scenes import SCENES


@functools.cache
def read_pairs(folder):
    """The authors' 7-Scenes validation pairs with the poses of both frames.

    Returns:
      label translation [n, 3], label rotation [n, 3, 3], world_from_cam of the first and the second
      frame, each [n, 4, 4], read from the list of the original ground truth.
    """
    poses = {}
    for scene in SCENES:
        for split in ("train", "test"):
            listed = read_evaluation_poses(folder / f"seven_scenes_poses/dslam/{scene}_{split}.txt")
            poses |= {(scene, n): m for n, m in zip(listed.names, listed.world_from_cam)}
    pairs = read_pair_list(folder / "aalto_pairs/db_all_med_hard_valid.txt")
    first, second = (
        np.stack([poses[frame] for frame in zip(pairs.scenes, names, strict=True)])
        for names in (pairs.db_names, pairs.query_names)
    )
    return pairs.t_world, pairs.rotation, first, second


@pytest.fixture
def pairs(shared_data):
    return read_pairs(shared_data)


def distances(a, b):
    return np.linalg.norm(a - b, axis=-1)


def angles_deg(a, b):
    return np.degrees(Rotation.from_matrix(np.swapaxes(a, -1, -2) @ b).magnitude())


def test_translation_is_labelled_in_world_axes(pairs):
    """The label is c2 - c1, within a centimetre; in the first camera's axes it is far off."""
    translation, _, first, second = pairs
    assert len(translation) == 10402
    in_world = second[:, :3, 3] - first[:, :3, 3]
    in_camera = np.einsum("nji,nj->ni", first[:, :3, :3], in_world)
    assert np.median(distances(translation, in_world)) < 0.015
    assert np.median(distances(translation, in_camera)) > 0.3


def test_rotation_is_labelled_from_the_second_camera_to_the_first(pairs):
    """R1^T R2 with R = world_R_cam; neither its inverse nor R1 R2^T."""
    _, rotation, first, second = pairs
    R1, R2 = first[:, :3, :3], second[:, :3, :3]
    labelled = np.swapaxes(R1, -1, -2) @ R2
    assert np.median(angles_deg(rotation, labelled)) < 1.0
    for other in (np.swapaxes(labelled, -1, -2), R1 @ np.swapaxes(R2, -1, -2)):
        assert np.median(angles_deg(rotation, other)) > 5.0


def test_the_evaluation_lists_are_the_inverse_of_the_pose_files(pairs):
    """The labels were made from pose.txt; only the inverse of the lists' poses agrees with them."""
    translation, _, first, second = pairs
    as_they_are = [np.linalg.inv(pose)[:, :3, 3] for pose in (first, second)]
    assert np.median(distances(translation, as_they_are[1] - as_they_are[0])) > 0.3

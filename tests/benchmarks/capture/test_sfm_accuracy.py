"""The figures of a model are those after the best similarity."""

import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from benchmarks.capture import sfm_accuracy
from tests.localization.fakes import looking_frames


def moved(frames, rng):
    """In another unit and other axes."""
    poses, turn = frames.world_from_cam.copy(), Rotation.random(rng=rng).as_matrix()
    poses[:, :3, :3] = turn @ poses[:, :3, :3]
    poses[:, :3, 3] = rng.uniform(0.1, 10) * poses[:, :3, 3] @ turn.T + rng.normal(size=3)
    return dataclasses.replace(frames, world_from_cam=poses)


def test_a_similarity_is_no_error(rng):
    frames = looking_frames(rng, 9)
    row = sfm_accuracy.figures(moved(frames, rng), sfm_accuracy.by_name(frames))
    assert row["registered"] == "9" and row["rms error"] == row["largest"] == "0.0000"
    assert float(row["median deg"]) < 0.1


def test_errors_are_in_the_unit_of_the_known_poses(rng):
    frames = looking_frames(rng, 40)
    noisy = frames.world_from_cam.copy()
    noisy[:, :3, 3] += rng.normal(0, 0.1, (40, 3))
    found = moved(dataclasses.replace(frames, world_from_cam=noisy), rng)
    row = sfm_accuracy.figures(found, sfm_accuracy.by_name(frames))
    assert float(row["rms error"]) == pytest.approx(0.1 * np.sqrt(3), rel=0.35)
    assert float(row["largest"]) > float(row["rms error"])

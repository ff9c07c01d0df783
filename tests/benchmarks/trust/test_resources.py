"""What a job takes is measured in a process of its own."""

import time

import numpy as np

from benchmarks.trust.resources import made_up_frames, measured

BYTES = 400 << 20


def fill() -> None:
    np.ones(BYTES, np.uint8)
    time.sleep(0.5)


def test_the_peak_and_the_time_of_a_process_are_its_own():
    seconds, megabytes = measured(fill)
    assert 0.5 <= seconds < 60
    assert megabytes > BYTES / 1e6
    again, less = measured(nothing)
    assert again < seconds and less < megabytes - 300


def nothing() -> None:
    pass


def test_made_up_frames_are_posed_and_share_a_picture(rng):
    frames = made_up_frames(rng, 12)
    assert len(frames) == len(set(frames.names)) == 12
    rotation = frames.world_from_cam[:, :3, :3]
    identity = np.tile(np.eye(3), (12, 1, 1))
    np.testing.assert_allclose(rotation @ rotation.transpose(0, 2, 1), identity, atol=1e-9)
    assert all(image is frames.images[0] for image in frames.images)

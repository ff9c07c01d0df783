"""Rooms that are rendered on Ray are those of this process."""

import dataclasses

import numpy as np
import pytest

from tests.scale import clusters
from tfds_builders.rooms.room_jobs import RoomJob, render_room_files
from tfds_builders.rooms.settings import PROCEDURAL
from tfds_builders.rooms.workers import render_in_parallel, rendered_by

pytestmark = pytest.mark.ray


def test_rooms_are_those_of_this_process(tmp_path, monkeypatch):
    from jaxreloc.scale.cluster import connected
    from jaxreloc.scale.executor import ray_executor

    for name, value in clusters.environment().items():
        monkeypatch.setenv(name, value)
    small = dataclasses.replace(PROCEDURAL, width=64, height=48, frames_per_path=2)
    folders = [tmp_path / "here", tmp_path / "on_ray"]
    for folder in folders:
        folder.mkdir()
    here, on_ray = ([RoomJob(small, "test", i, folder) for i in range(3)] for folder in folders)
    for job in here:
        render_room_files(job)
    with connected(None, num_cpus=1), rendered_by(lambda: ray_executor(None, None)):
        assert list(render_in_parallel(on_ray, 2)) == on_ray
    for a, b in zip(here, on_ray, strict=True):
        for role, path in a.files.items():
            x, y = np.load(path), np.load(b.files[role])
            assert x.files == y.files
            for name in x.files:
                np.testing.assert_array_equal(x[name], y[name])

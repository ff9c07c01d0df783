"""Images per second out of the renderer of synthetic rooms, beside ray casting alone.

  python -m benchmarks.networks.rendering_speed [--sources=MANUAL_DIR] [--rooms=8]

First whole rooms at 256x192 (furniture, light, camera paths, photographic effects and encoding
included) with 1 and 2 worker processes: the config procedural and, given its sources, the config
furnished. Then milliseconds a picture by stage in one process, from a profile of one room, beside
Embree alone with one ray a pixel: the ratio says what all the rest costs.
"""

import cProfile
import pathlib
import pstats
import resource
import tempfile
import time
from dataclasses import replace

import cv2
import numpy as np
from absl import app, flags

from tfds_builders.rooms.furnishing.library import prepared_library
from tfds_builders.rooms.furnishing.room_building import build_room
from tfds_builders.rooms.generation import furnishings, render_room
from tfds_builders.rooms.graphics.ray_casting import RayCaster
from tfds_builders.rooms.graphics.rendering import Camera
from tfds_builders.rooms.paths.camera_paths import look_at
from tfds_builders.rooms.room_jobs import RoomJob, render_room_files
from tfds_builders.rooms.settings import FURNISHED, PROCEDURAL, RoomSettings
from tfds_builders.rooms.workers import render_in_parallel

TARGET = 40  # images/s of the config furnished with two workers
STAGES = {  # by the functions whose time they are
    "textures and furniture": ("random_palette", "build_room"),
    "camera paths": ("database_path", "query_path"),
    "baked light": ("bake",),
    "drawing": ("render",),
    "photographic effects": ("photograph",),
    "encoding and writing": ("write_frames",),
}

_SOURCES = flags.DEFINE_string("sources", None, "furniture, textures and photographs")
_ROOMS = flags.DEFINE_integer("rooms", 8, "rooms measured in each row", lower_bound=1)


def images_per_room(settings: RoomSettings) -> int:
    return (settings.database_paths + settings.query_paths) * settings.frames_per_path


def images_per_second(settings: RoomSettings, workers: int) -> tuple[float, float]:
    """Over `--rooms` rooms, after as many rooms as workers to warm up: a second of the clock, and
    a second of one processor, which a busy machine changes less (start and warm-up included)."""
    processor_before = _processor_seconds()
    with tempfile.TemporaryDirectory() as folder:
        total = _ROOMS.value + workers
        jobs = [RoomJob(settings, "train", i, pathlib.Path(folder)) for i in range(total)]
        done = render_in_parallel(jobs, workers)
        for _ in range(workers):
            next(done)
        start = time.perf_counter()
        rooms = sum(1 for _ in done)
        elapsed = time.perf_counter() - start
    processor = _processor_seconds() - processor_before
    return rooms * images_per_room(settings) / elapsed, total * images_per_room(
        settings
    ) / processor


def _processor_seconds() -> float:
    """Of the child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def stage_milliseconds(settings: RoomSettings) -> dict[str, float]:
    """Milliseconds a picture by stage, in this process."""
    render_room(replace(settings, frames_per_path=1), "train", 0)
    with tempfile.TemporaryDirectory() as folder, cProfile.Profile() as profile:
        render_room_files(RoomJob(settings, "train", 1, pathlib.Path(folder)))
    stats = pstats.Stats(profile)
    seconds = {name: cumulative for (_, _, name), (*_, cumulative, _) in stats.stats.items()}
    stages = {
        stage: sum(seconds.get(name, 0.0) for name in names) for stage, names in STAGES.items()
    }
    stages["the rest"] = stats.total_tt - sum(stages.values())
    stages["all"] = stats.total_tt
    return {name: 1000 * value / images_per_room(settings) for name, value in stages.items()}


def embree_milliseconds(settings: RoomSettings) -> float:
    """One ray a pixel from the middle of such a room, the median of twenty views."""
    rng = np.random.default_rng(1)
    room, _ = build_room(rng, *furnishings(rng, settings.library, "train"))
    caster = RayCaster(room.mesh)
    y, x = np.mgrid[: settings.height, : settings.width].astype(np.float32)
    pixels = np.stack([x.reshape(-1), y.reshape(-1)], -1)
    focal = float(np.mean(settings.focal_lengths)) * settings.width
    middle = [(settings.width - 1) / 2, (settings.height - 1) / 2]
    intrinsics = np.array([[focal, 0, middle[0]], [0, focal, middle[1]], [0, 0, 1]])
    azimuth = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    eye = np.tile([0.0, 0.0, 1.5], (20, 1))
    targets = eye + np.stack([np.cos(azimuth), np.sin(azimuth), np.full(20, -0.3)], -1)
    seconds = []
    for pose in look_at(eye, targets, np.zeros(20)):
        rays = Camera(pose, intrinsics, settings.width, settings.height).rays(pixels)
        start = time.perf_counter()
        caster.first_hits(pose[:3, 3], rays)
        seconds.append(time.perf_counter() - start)
    return 1000 * float(np.median(seconds))


def report(name: str, settings: RoomSettings) -> None:
    for workers in (1, 2):
        rate, of_processor = images_per_second(settings, workers)
        print(
            f"{name}, {workers} worker(s): {rate:.1f} images/s, {rate / TARGET:.2f} of {TARGET}; "
            f"{of_processor:.1f} images per processor second",
            flush=True,
        )
    stages, embree = stage_milliseconds(settings), embree_milliseconds(settings)
    for stage, milliseconds in stages.items():
        print(f"  {stage:24}{milliseconds:7.2f} ms/image")
    ratio = stages["all"] / embree
    print(f"  {'Embree, one ray a pixel':24}{embree:7.2f} ms/image; all is {ratio:.1f} times it")


def main(_) -> None:
    cv2.setNumThreads(1)
    report("procedural", PROCEDURAL)
    if _SOURCES.value:
        with tempfile.TemporaryDirectory() as cache:
            start = time.perf_counter()
            library = prepared_library(pathlib.Path(_SOURCES.value), pathlib.Path(cache))
            print(f"library prepared in {time.perf_counter() - start:.1f} s")
            report("furnished", replace(FURNISHED, library=str(library)))


if __name__ == "__main__":
    app.run(main)

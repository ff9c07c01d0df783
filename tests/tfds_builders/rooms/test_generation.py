"""Rendered rooms: depth, pose and intrinsics agree; determinism; pictures as pictures are."""

import dataclasses
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from jaxreloc.usage import UsageError
from tfds_builders.rooms.contact_sheet import sheet
from tfds_builders.rooms.furnishing.room_building import build_room
from tfds_builders.rooms.generation import furnishings, render_room
from tfds_builders.rooms.room_files import read_examples, write_frames
from tfds_builders.rooms.room_jobs import RoomJob
from tfds_builders.rooms.settings import FURNISHED, PROCEDURAL, Distances
from tfds_builders.rooms.workers import render_in_parallel

# Sizes as small as they go, ranges as wide as training has them.
WIDE = dataclasses.replace(
    FURNISHED, database_paths=2, query_paths=1, frames_per_path=6, image_format="png"
)
TINY = dataclasses.replace(PROCEDURAL, width=64, height=48, database_paths=1, frames_per_path=2)


@pytest.fixture(scope="module")
def seed():
    return int.from_bytes(os.urandom(4))


@pytest.fixture(scope="module")
def room(seed):
    print(f"seed {seed}")
    return render_room(dataclasses.replace(WIDE, seed=seed), "train", 3)


def reprojected(frames, i, j, intrinsics):
    """Depth of i's pixels in camera j, and j's own depth there where its surface is smooth.

    Inverse depth is linear in the image on any plane, so that interpolating it is exact there.
    """
    height, width = frames.depths[i].shape
    y, x = np.mgrid[:height, :width].astype(float)
    rays = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(intrinsics[i]).T
    points = rays * frames.depths[i][..., None].astype(float)
    j_from_i = np.linalg.inv(frames.world_from_cam[j]) @ frames.world_from_cam[i]
    points = points.reshape(-1, 3) @ j_from_i[:3, :3].T + j_from_i[:3, 3]
    points = points[points[:, 2] > 0.1]
    u, v, _ = intrinsics[j] @ (points / points[:, 2:]).T
    inverse = 1.0 / frames.depths[j].astype(float)
    curvature = np.abs(cv2.Laplacian(inverse, cv2.CV_64F)) / inverse
    smooth = cv2.dilate(curvature, np.ones((3, 3))) < 1e-4
    columns, rows = np.floor(u).astype(int), np.floor(v).astype(int)
    other = frames.depths[j].shape
    inside = (columns >= 1) & (columns < other[1] - 2) & (rows >= 1) & (rows < other[0] - 2)
    columns, rows, u, v = columns[inside], rows[inside], u[inside], v[inside]
    fx, fy = u - columns, v - rows
    found = (
        inverse[rows, columns] * (1 - fx) * (1 - fy)
        + inverse[rows, columns + 1] * fx * (1 - fy)
        + inverse[rows + 1, columns] * (1 - fx) * fy
        + inverse[rows + 1, columns + 1] * fx * fy
    )
    keep = smooth[rows, columns]
    return points[inside, 2][keep], 1 / found[keep]


def depth_residuals(frames, intrinsics):
    residuals = []
    for i in range(len(frames)):
        for j in range(len(frames)):
            if i != j:
                there, own = reprojected(frames, i, j, intrinsics)
                seen = np.abs(there / own - 1) < 0.02  # not occluded
                residuals.append((there - own)[seen])
    return np.concatenate(residuals)


def test_points_reprojected_with_depth_land_on_the_same_depth(room):
    """And the measure is fine enough to tell where a pixel's centre is: a shift by a quarter of a
    pixel is seen."""
    right = depth_residuals(room.database, room.database.intrinsics)
    assert len(right) > 5_000
    assert np.median(np.abs(right)) < 1e-5  # metres
    shifted = room.database.intrinsics.copy()
    shifted[:, :2, 2] += 0.25
    wrong = depth_residuals(room.database, shifted)
    assert np.median(np.abs(wrong)) > 10 * np.median(np.abs(right))


def test_matching_pixels_look_alike(room):
    """Brightness at reprojected pixels correlates: the images show what the depths say."""
    frames = room.database
    values = []
    for i in range(len(frames) - 1):
        j = i + 1
        if frames.sequences[i] != frames.sequences[j]:
            continue
        height, width = frames.depths[i].shape
        y, x = np.mgrid[4 : height - 4, 4 : width - 4].astype(float)
        rays = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(frames.intrinsics[i]).T
        points = rays * frames.depths[i][4:-4, 4:-4, None]
        j_from_i = np.linalg.inv(frames.world_from_cam[j]) @ frames.world_from_cam[i]
        points = points.reshape(-1, 3) @ j_from_i[:3, :3].T + j_from_i[:3, 3]
        u, v = (frames.intrinsics[j] @ (points / points[:, 2:]).T)[:2].round().astype(int)
        keep = (points[:, 2] > 0) & (u >= 0) & (u < width) & (v >= 0) & (v < height)
        seen = np.zeros(len(points), bool)
        seen[keep] = np.abs(points[keep, 2] / frames.depths[j][v[keep], u[keep]] - 1) < 0.02
        grey_i, grey_j = (cv2.cvtColor(frames.images[k], cv2.COLOR_RGB2GRAY) for k in (i, j))
        if seen.sum() > 2000:
            pair = grey_i[4:-4, 4:-4].reshape(-1)[seen], grey_j[v[seen], u[seen]]
            values.append(np.corrcoef(*pair)[0, 1])
    assert len(values) >= 3 and np.median(values) > 0.7


def test_every_query_sees_part_of_what_a_database_picture_sees(room):
    best = []
    for q in range(len(room.query)):
        y, x = np.mgrid[: room.query.depths[q].shape[0], : room.query.depths[q].shape[1]][
            :, ::8, ::8
        ]
        rays = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(room.query.intrinsics[q]).T
        points = (rays * room.query.depths[q][::8, ::8, None]).reshape(-1, 3)
        pose = room.query.world_from_cam[q]
        points = points @ pose[:3, :3].T + pose[:3, 3]
        shares = []
        for d in range(len(room.database)):
            cam = np.linalg.inv(room.database.world_from_cam[d])
            local = points @ cam[:3, :3].T + cam[:3, 3]
            u, v, w = room.database.intrinsics[d] @ local.T
            height, width = room.database.depths[d].shape
            w = np.maximum(w, 1e-6)
            column, row = np.rint(u / w).astype(int), np.rint(v / w).astype(int)
            keep = (
                (local[:, 2] > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
            )
            depth = room.database.depths[d][row[keep], column[keep]]
            shares.append((np.abs(local[keep, 2] / depth - 1) < 0.15).sum() / len(points))
        best.append(max(shares))
    assert min(best) > 0.5 * WIDE.min_query_overlap and np.median(best) > WIDE.min_query_overlap


def test_pictures_are_neither_black_nor_washed_out_nor_empty(seed):
    means, deviations, clipped, corners = [], [], [], []
    for index in range(3):
        settings = dataclasses.replace(PROCEDURAL, seed=seed, frames_per_path=4)
        frames = render_room(settings, "test", index).database
        for image, depth in zip(frames.images, frames.depths):
            assert image.shape == (192, 256, 3) and image.dtype == np.uint8
            assert depth.dtype == np.float32 and depth.min() > 0.05 and depth.max() < 8
            means.append(image.mean())
            deviations.append(image.std())
            clipped.append(((image == 255).all(2) | (image == 0).all(2)).mean())
            corners.append(len(cv2.SIFT_create().detect(image, None)))
    assert 70 < np.mean(means) < 170 and min(means) > 30 and max(means) < 225
    assert np.median(deviations) > 30
    assert np.mean(clipped) < 0.1
    assert np.median(corners) > 60 and np.quantile(corners, 0.1) > 10


def test_names_and_poses_are_complete(room):
    for frames, paths in ((room.database, (0, 1)), (room.query, (2,))):
        assert frames.scene == "train-003"
        assert frames.names == tuple(f"path-{p}/frame-{i:06d}" for p in paths for i in range(6))
        assert frames.sequences == tuple(f"path-{p}" for p in paths for _ in range(6))
        rotations = frames.world_from_cam[:, :3, :3]
        np.testing.assert_allclose(
            rotations @ rotations.transpose(0, 2, 1),
            np.tile(np.eye(3), (6 * len(paths), 1, 1)),
            atol=1e-12,
        )
        np.testing.assert_allclose(np.linalg.det(rotations), 1)
        sizes = [image.shape[1::-1] for image in frames.images]
        np.testing.assert_array_equal(frames.image_sizes, sizes)


def test_settings_rule_focal_lengths_and_formats(seed):
    settings = dataclasses.replace(
        TINY, seed=seed, database_paths=8, portrait_share=0.5, focal_lengths=(0.6, 1.6)
    )
    frames = [render_room(settings, "train", i).database for i in range(2)]
    sizes = {tuple(size) for f in frames for size in f.image_sizes.tolist()}
    assert sizes == {(64, 48), (48, 64)}
    focal = np.concatenate([f.intrinsics[:, 0, 0] for f in frames]) / 64
    assert (focal >= 0.6).all() and (focal <= 1.6).all() and np.ptp(focal) > 0.3
    for f in frames:
        middle = (f.image_sizes - 1) / 2
        np.testing.assert_allclose(f.intrinsics[:, :2, 2], middle)  # no offset asked for
        np.testing.assert_array_equal(f.intrinsics[:, 0, 0], f.intrinsics[:, 1, 1])


def same(a, b):
    return all(
        np.array_equal(x, y)
        for role in ("database", "query")
        for field in ("images", "depths", "world_from_cam", "intrinsics")
        for x, y in zip(getattr(getattr(a, role), field), getattr(getattr(b, role), field))
    )


def test_a_room_is_a_function_of_seed_split_and_index(seed):
    settings = dataclasses.replace(TINY, seed=seed)
    first = render_room(settings, "train", 1)
    assert same(first, render_room(settings, "train", 1))
    assert not same(first, render_room(dataclasses.replace(settings, seed=seed + 1), "train", 1))
    assert not same(first, render_room(settings, "test", 1))


def test_moved_furniture_leaves_no_trace_and_nothing_where_it_stood(seed):
    """The walls stay, some of the furniture does, and what is there later overlaps nothing."""
    print(f"seed {seed}")
    now, later = _furnished(seed, moved_furniture=0.5)
    unmoved = _furnished(seed)
    assert unmoved[0] is unmoved[1]
    np.testing.assert_array_equal(now.mesh.vertices, unmoved[0].mesh.vertices)
    points = [{tuple(x) for x in room.mesh.vertices.round(4).tolist()} for room in (now, later)]
    kept = len(points[0] & points[1]) / len(points[0])
    assert 0.2 < kept < 0.98
    corners = np.abs(later.mesh.vertices[:, :2]).max(axis=0) <= now.size[:2] / 2 + 0.01
    assert corners.all()


def _furnished(seed, **shares):
    rng = np.random.default_rng(seed)
    return build_room(rng, *furnishings(rng, "", "train"), **shares)


@pytest.mark.parametrize("least", [0.3, 0.6, 1.2])
def test_pictures_keep_the_distance_of_the_settings(seed, least):
    """Half of 16 x 12 points are as far away, so a good third of all pixels is."""
    distances = Distances(subject=(0.35, 2.6), median=least, near=0.15)
    settings = dataclasses.replace(TINY, seed=seed, database_paths=3, distances=distances)
    frames = render_room(settings, "train", 0).database
    assert min(np.mean(depth > 0.98 * least) for depth in frames.depths) > 0.35


def test_unknown_split_lists_the_known():
    with pytest.raises(UsageError, match="unknown split 'dev'.*test, train, validation"):
        render_room(TINY, "dev", 0)


def test_files_are_equal_whatever_the_number_of_workers(tmp_path, seed):
    settings = dataclasses.replace(TINY, seed=seed)
    contents = []
    for count in (1, 2):
        folder = tmp_path / str(count)
        folder.mkdir()
        jobs = [RoomJob(settings, "train", i, folder) for i in range(2)]
        assert list(render_in_parallel(jobs, count)) == jobs
        contents.append(
            [dict(read_examples(job.files[role])) for job in jobs for role in ("database", "query")]
        )
    for one, two in zip(*contents, strict=True):
        assert list(one) == list(two)
        for key, example in one.items():
            assert example["image"] == two[key]["image"]
            assert example["depth"] == two[key]["depth"]


@pytest.mark.parametrize("image_format", ["png", "jpg"])
def test_files_hold_what_was_rendered(tmp_path, room, image_format):
    write_frames(tmp_path / "room.npz", room.query, image_format)
    examples = list(read_examples(tmp_path / "room.npz"))
    assert [key for key, _ in examples] == [f"train-003/{name}" for name in room.query.names]
    for i, (key, example) in enumerate(examples):
        assert example["image_id"] == key
        assert (example["scene"], example["sequence"], example["frame"]) == (
            "train-003",
            "path-2",
            i,
        )
        for name in ("world_from_cam", "intrinsics"):
            np.testing.assert_array_equal(
                example[name], getattr(room.query, name)[i].astype(np.float32)
            )
        np.testing.assert_array_equal(example["depth_intrinsics"], example["intrinsics"])
        depth = cv2.imdecode(np.frombuffer(example["depth"], np.uint8), cv2.IMREAD_UNCHANGED)
        np.testing.assert_allclose(depth / 1000, room.query.depths[i], atol=5.1e-4)
        image = cv2.imdecode(np.frombuffer(example["image"], np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        error = np.abs(image.astype(int) - room.query.images[i])
        assert error.max() == 0 if image_format == "png" else error.mean() < 4


@pytest.fixture
def workers():
    """Of the processes that are running, those that this test has started."""
    others = set(multiprocessing.active_children())
    return lambda: set(multiprocessing.active_children()) - others


def test_the_error_of_a_worker_reaches_the_caller(tmp_path, workers):
    broken = dataclasses.replace(TINY, library=str(tmp_path / "absent"))
    jobs = [RoomJob(TINY, "train", 0, tmp_path), RoomJob(broken, "train", 1, tmp_path)]
    done = render_in_parallel(jobs, 1)
    assert next(done) == jobs[0]
    with pytest.raises(FileNotFoundError, match="absent") as raised:
        next(done)
    assert raised.value.__notes__ == ["while rendering train-001"]
    assert "library.py" in str(raised.value.__cause__)  # the worker's own traceback
    assert not workers()


def test_a_killed_worker_ends_the_build(tmp_path, workers):
    done = render_in_parallel([RoomJob(TINY, "train", i, tmp_path) for i in range(9)], 1)
    next(done)
    (worker,) = workers()
    worker.kill()
    with pytest.raises(RuntimeError, match="train-00[1-3] failed: a worker's process ended"):
        list(done)
    assert not workers()


def test_a_consumer_that_stops_leaves_no_worker(tmp_path, workers):
    environment = dict(os.environ)
    done = render_in_parallel([RoomJob(TINY, "train", i, tmp_path) for i in range(9)], 2)
    next(done)
    assert workers()
    done.close()
    assert not workers()
    assert dict(os.environ) == environment


BUILD = """
import pathlib, sys
from tests.tfds_builders.rooms.test_generation import TINY
from tfds_builders.rooms.room_jobs import RoomJob
from tfds_builders.rooms.workers import render_in_parallel

jobs = [RoomJob(TINY, "train", i, pathlib.Path(sys.argv[1])) for i in range(10_000)]
for job in render_in_parallel(jobs, 2):
    print(job.index, flush=True)
"""


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_no_process_outlives_a_build_that_is_ended(tmp_path, end):
    script = tmp_path / "build.py"
    script.write_text(BUILD)
    parent = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Tests that run in a shell's background would hand on that interrupts are ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert parent.stdout.readline() == "0\n"
    if end == signal.SIGINT:
        os.killpg(parent.pid, end)  # as a terminal does, to all of its processes
    else:
        parent.kill()
    _, errors = parent.communicate(timeout=60)  # its workers have these pipes, too
    assert parent.returncode == -end
    assert errors.count("Traceback") == (end == signal.SIGINT)
    deadline = time.monotonic() + 60
    while group_lives(parent.pid):
        assert time.monotonic() < deadline, "a worker outlives its parent"
        time.sleep(0.05)


def group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_contact_sheet_holds_views_of_each_room(seed):
    rooms = [render_room(dataclasses.replace(TINY, seed=seed), "train", i) for i in range(2)]
    picture = sheet(rooms)
    assert picture.shape == (2 * (48 + 4), 6 * (64 + 4), 3)
    np.testing.assert_array_equal(picture[2:50, 2:66], rooms[0].database.images[0])
    np.testing.assert_array_equal(picture[-50:-2, -66:-2], rooms[1].query.images[-1])

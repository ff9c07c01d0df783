"""Folders of posed pictures for the tests of readers and writers."""

import json
import pathlib

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from jaxreloc.formats.frames import PosedFrames
from jaxreloc.formats.readers.tum import Trajectory
from jaxreloc.formats.rigid_arrays import quaternion_wxyz
from tests.formats.colmap_writer import write_colmap

WIDTH, HEIGHT = 32, 24
TUM_SIZE = (640, 480)
CAMERA = {"fl_x": 30.0, "fl_y": 31.0, "cx": 16.0, "cy": 12.0, "w": WIDTH, "h": HEIGHT}
CSV_HEADER = "image,tx,ty,tz,qw,qx,qy,qz"


def random_poses(rng: np.random.Generator, n: int) -> np.ndarray:
    """n random rigid 4x4 matrices."""
    poses = np.tile(np.eye(4), (n, 1, 1))
    poses[:, :3, :3] = Rotation.random(n, rng=rng).as_matrix()
    poses[:, :3, 3] = rng.normal(size=(n, 3), scale=3)
    return poses


def write_picture(path: pathlib.Path, value: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    """A picture of one gray value, by which it can be told from others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((size[1], size[0], 3), value, np.uint8))


def truncate(path: pathlib.Path) -> None:
    """Breaks a file off in the middle."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def frames_with_pictures(rng, folder, n=4):
    """Frames whose pictures lie in folder/images; the last has another camera."""
    names = tuple(f"a/{i}.png" for i in range(n))
    K = np.tile([[30.0, 0, 15.25], [0, 31.0, 11.125], [0, 0, 1]], (n, 1, 1))
    K[-1, 0, 0] = 33.3
    for i, name in enumerate(names):
        write_picture(folder / "images" / name, 10 * i)
    sizes = np.tile([WIDTH, HEIGHT], (n, 1))
    return PosedFrames("room", names, random_poses(rng, n), K, sizes, images=[None] * n)


def make_transforms_json(folder, poses, camera=CAMERA):
    """Writes pictures 0.png, ... and a transforms.json; the poses are given with OpenGL axes."""
    frames = []
    for i, pose in enumerate(poses):
        write_picture(folder / f"images/{i}.png", 10 * i)
        frames.append({"file_path": f"images/{i}.png", "transform_matrix": pose.tolist()})
    content = {**camera, "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(content))
    return folder / "transforms.json"


def random_trajectory(rng, times):
    return Trajectory(np.array(times, dtype=np.float64), random_poses(rng, len(times)))


def make_tum_sequence(folder, rng, image_times, pose_times, depth_times=()):
    """A sequence whose i-th picture is of gray value i, and i-th depth i metres."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, times in (("rgb", image_times), ("depth", depth_times)):
        lines = ["# timestamp filename"]
        for i, time in enumerate(times):
            path = folder / f"{name}/{time}.png"
            write_picture(path, i, TUM_SIZE)
            if name == "depth":
                assert cv2.imwrite(str(path), np.full(TUM_SIZE[::-1], i * 5000, np.uint16))
            lines.append(f"{time} {name}/{time}.png")
        if times:
            (folder / f"{name}.txt").write_text("\n".join(lines))
    trajectory = random_trajectory(rng, pose_times)
    write_trajectory(folder / "groundtruth.txt", trajectory)
    return trajectory


def write_trajectory(path: pathlib.Path, trajectory: Trajectory) -> None:
    """Rows `timestamp tx ty tz qx qy qz qw`."""
    lines = ["# timestamp tx ty tz qx qy qz qw"]
    for time, matrix in zip(trajectory.timestamps, trajectory.world_from_cam):
        quaternion = Rotation.from_matrix(matrix[:3, :3]).as_quat()
        lines.append(" ".join(repr(float(v)) for v in (time, *matrix[:3, 3], *quaternion)))
    path.write_text("\n".join(lines) + "\n")


def write_poses(folder: pathlib.Path, names: list[str], world_from_cam: np.ndarray) -> None:
    """A pose.txt beside each seq-01/frame-000000.color.png."""
    for name, pose in zip(names, world_from_cam):
        path = folder / name.replace("color.png", "pose.txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(" ".join(map(repr, map(float, row))) for row in pose) + "\n")


def make_seven_scenes(folder, rng, sequences=(1, 2), n=3, suffix=".color.png", depth=True):
    """A scene whose picture i of sequence s has gray value 10 s + i; sequence 1 is for training."""
    names, values = [], []
    for s in sequences:
        for i in range(n):
            names.append(f"seq-{s:02d}/frame-{i:06d}.color.png")
            values.append(10 * s + i)
    poses = random_poses(rng, len(names))
    write_poses(folder, names, poses)
    for name, value in zip(names, values):
        stem = folder / name.removesuffix(".color.png")
        write_picture(stem.with_name(stem.name + suffix), value, (64, 48))
        if depth:
            raw = np.full((48, 64), value, np.uint16)
            raw[0, :2] = 0, 65535
            assert cv2.imwrite(f"{stem}.depth.png", raw)
    (folder / "seq-01/Thumbs.db").write_bytes(b"stray")
    (folder / "TrainSplit.txt").write_bytes(b"sequence1\r\n")
    (folder / "TestSplit.txt").write_bytes(
        b"".join(f"sequence{s}\r\n".encode() for s in sequences[1:])
    )
    return poses


def write_images(folder, n=3):
    for i in range(n):
        write_picture(folder / f"images/{i}.png", 10 * i)
    (folder / "intrinsics.txt").write_text("30 31 15.5 11.5\n")


def make_csv(folder, poses, header=CSV_HEADER):
    write_images(folder, len(poses))
    rows = [header]
    for i, pose in enumerate(poses):
        values = [*pose[:3, 3], *quaternion_wxyz(pose)]
        rows.append(",".join([f"images/{i}.png", *(repr(float(value)) for value in values)]))
    (folder / "poses.csv").write_text("\n".join(rows) + "\n")
    return folder / "poses.csv"


def make_tum_list(folder, poses, name=str):
    write_images(folder, len(poses))
    rows = []
    for i, pose in enumerate(poses):
        w, x, y, z = quaternion_wxyz(pose)
        rows.append(" ".join([name(i), *(repr(float(v)) for v in (*pose[:3, 3], x, y, z, w))]))
    (folder / "poses.txt").write_text("\n".join(rows) + "\n")
    return folder / "poses.txt"


def _make_colmap(folder, rng):
    write_colmap(folder / "sparse/0", frames_with_pictures(rng, folder, n=5))


def _make_tum(folder, rng):
    times = [1.0, 2.0, 3.0, 4.0, 5.0]
    make_tum_sequence(folder, rng, times, times)
    (folder / "intrinsics.txt").write_text("500 500 320 240")


# A folder of five frames (7-Scenes: six) of each format; called with the folder and a generator.
MAKERS = {
    "transforms.json": lambda folder, rng: make_transforms_json(folder, random_poses(rng, 5)),
    "COLMAP": _make_colmap,
    "TUM RGB-D": _make_tum,
    "7-Scenes": make_seven_scenes,
    "CSV": lambda folder, rng: make_csv(folder, random_poses(rng, 5)),
    "TUM pose list": lambda folder, rng: make_tum_list(folder, random_poses(rng, 5)),
}

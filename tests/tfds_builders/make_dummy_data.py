"""Makes the builders' dummy data anew: `python -m tests.tfds_builders.make_dummy_data`.

Small synthetic pictures, each of one gray value by which it can be told from the others, in the
true structure of each dataset; always the same.
"""

import io
import pathlib
import shutil
import zipfile

import cv2
import numpy as np

from jaxreloc.formats.readers.pose_list import EvaluationPoses, write_evaluation_poses
from jaxreloc.formats.readers.seven_scenes import SCENES
from jaxreloc.formats.rigid_arrays import quaternion_wxyz
from tests.formats.scenes import MAKERS, random_poses
from tfds_builders.university.university_dataset_builder import PAIR_LIST
from tfds_builders.university.university_dataset_builder import SCENES as UNIVERSITY_SCENES

BUILDERS = pathlib.Path(__file__).parents[2] / "tfds_builders"
FRAMES = 3  # a sequence
SIZE = (32, 24)


def main() -> None:
    for name, make in (
        ("seven_scenes", make_seven_scenes),
        ("university", make_university),
        ("posed_images", make_posed_images),
    ):
        folder = BUILDERS / name / "dummy_data"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        make(folder, np.random.default_rng(0))


def make_seven_scenes(folder: pathlib.Path, rng: np.random.Generator) -> None:
    """SCENE.zip with its inner zips, two sequences a scene, and the other ground truth's poses.

    Which sequence is for training alternates from scene to scene.
    """
    for number, scene in enumerate(SCENES):
        train, test = (1, 2) if number % 2 == 0 else (2, 1)
        members = {
            "TrainSplit.txt": f"sequence{train}\r\n".encode(),
            "TestSplit.txt": f"sequence{test}\r\n".encode(),
            "Thumbs.db": b"stray",
        }
        for split, sequence in (("train", train), ("test", test)):
            files, poses = _sequence(sequence, 20 * number + 10 * sequence, rng)
            members[f"seq-{sequence:02d}.zip"] = _zipped(
                {f"seq-{sequence:02d}/{name}": content for name, content in files.items()}
            )
            names = tuple(
                f"seq-{sequence:02d}/frame-{i:06d}.color.png" for i in range(len(poses))
            )
            poses[:, :3, 3] += 0.01
            write_evaluation_poses(
                folder / f"sfm/{scene}_{split}.txt",
                EvaluationPoses(names, poses, np.full(len(poses), 526.22)),
            )
        (folder / f"{scene}.zip").write_bytes(
            _zipped({f"{scene}/{name}": content for name, content in members.items()})
        )


def make_university(folder: pathlib.Path, rng: np.random.Generator) -> None:
    """SCENE/seq_XX/frame_XXXXX.png, of which the pair list names all but one."""
    database, queries = [], []
    for number, scene in enumerate(UNIVERSITY_SCENES):
        for sequence, frames in ((1, database), (2, queries)):
            for i in range(1, FRAMES + 1):
                name = f"/seq_{sequence:02d}/frame_{i:05d}.png"
                (folder / scene / name[1:]).parent.mkdir(parents=True, exist_ok=True)
                gray = 40 * number + 10 * sequence + i
                (folder / scene / name[1:]).write_bytes(_picture(gray))
                frames.append((name, number, random_poses(rng, 1)[0]))
    named = database[:-1]
    lines = [
        _pair_line(query, named[(5 * i + k) % len(named)])
        for i, query in enumerate(queries)
        for k in range(5)
    ]
    (folder / PAIR_LIST).write_text("\n".join(lines) + "\n")


def make_posed_images(folder: pathlib.Path, rng: np.random.Generator) -> None:
    """A scene of each format."""
    for name, make in MAKERS.items():
        make(folder / name.lower().replace(" ", "_").replace(".", "_"), rng)


def _sequence(
    sequence: int, gray: int, rng: np.random.Generator
) -> tuple[dict[str, bytes], np.ndarray]:
    files, poses = {"Thumbs.db": b"stray"}, random_poses(rng, FRAMES)
    for i, pose in enumerate(poses):
        depth = np.full(SIZE[::-1], 1000 * sequence + i, np.uint16)
        depth[0, :2] = 0, 65535
        text = "\t\r\n".join("\t ".join(f"{value:.17g}" for value in row) for row in pose)
        files |= {
            f"frame-{i:06d}.color.png": _picture(gray + i),
            f"frame-{i:06d}.depth.png": _encoded(depth),
            f"frame-{i:06d}.pose.txt": (text + "\t\r\n").encode(),
        }
    return files, poses


def _pair_line(query: tuple, database: tuple) -> str:
    (query_name, query_scene, query_pose), (db_name, db_scene, db_pose) = query, database
    fields = [query_name, db_name, query_scene, db_scene, int(query_scene == db_scene)]
    for pose in (query_pose, db_pose):
        fields += [f"{value:.9g}" for value in (*pose[:3, 3], *quaternion_wxyz(pose))]
    return " ".join(map(str, fields))


def _picture(gray: int) -> bytes:
    return _encoded(np.full((*SIZE[::-1], 3), gray, np.uint8))


def _encoded(picture: np.ndarray) -> bytes:
    _, encoded = cv2.imencode(".png", picture)
    return encoded.tobytes()


def _zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


if __name__ == "__main__":
    main()

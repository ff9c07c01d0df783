"""The layout of 7-Scenes: SCENE/seq-01/frame-000000.{color.png,depth.png,pose.txt}.

pose.txt is `world_from_cam`, 4x4 row-major, metres, of the depth camera; published evaluations take
it for the colour camera as it is, and so is it done here. Depth is not registered to colour: the
intrinsics differ. Both principal points are the centre of the picture.
"""

import dataclasses
import os
import pathlib
import re
from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Float64

from jaxreloc.formats.common.camera_models import Camera
from jaxreloc.formats.common.collector import FrameCollector
from jaxreloc.formats.common.text import numbers, read_text
from jaxreloc.formats.frames import PosedFrames, rigid
from jaxreloc.images import image_size
from jaxreloc.usage import UsageError

SCENES = ("chess", "fire", "heads", "office", "pumpkin", "redkitchen", "stairs")
# Rendered by `synthetic_rooms/seven_rooms`, called after these scenes; they hold no chess.
ROOMS = tuple(f"{scene}_room" for scene in SCENES)
SPLIT_FILES = {"train": "TrainSplit.txt", "test": "TestSplit.txt"}
COLOR_FOCAL_PX = 525.0
DEPTH_FOCAL_PX = 585.0
WIDTH = 640  # of the pictures that the focal lengths are for

_FRAME_FILE = re.compile(r"(frame-([0-9]{1,18}))\.(color\.png|color\.jpg|depth\.png|pose\.txt)")


@dataclasses.dataclass(frozen=True)
class FrameFiles:
    """The files of one frame, by their names within the folder of the sequence."""

    number: int
    color: str
    pose: str
    depth: str | None

    @property
    def name(self) -> str:
        """The name that evaluations know the picture by, whatever its file's own suffix."""
        return self.pose.removesuffix(".pose.txt") + ".color.png"


def parse_split(text: str, source: str) -> list[str]:
    """The sequences that a split file lists: `sequence1` is `seq-01`.

    Raises:
      UsageError: a line is not of that form, or none is there.
    """
    sequences = []
    for line in text.split():
        match = re.fullmatch(r"sequence([0-9]{1,6})", line)
        if match is None:
            raise UsageError(f"{source}: {line!r} is not of the form 'sequence1'; mend the line")
        sequences.append(f"seq-{int(match[1]):02d}")
    if not sequences:
        raise UsageError(f"{source}: lists no sequence; download the scene again")
    return sequences


def parse_pose(text: str, source: str) -> Float64[np.ndarray, "4 4"]:
    """`world_from_cam` of a pose.txt, its rotation projected to SO(3).

    Raises:
      UsageError: it is not a finite rigid 4x4 matrix.
    """
    rows = [numbers(line.split(), source, "an entry") for line in text.splitlines() if line.strip()]
    if [len(row) for row in rows] != [4, 4, 4, 4]:
        raise UsageError(f"{source}: not four rows of four numbers; mend or remove the frame")
    return rigid(np.array(rows), source)


def intrinsics(focal_px: float, width: int, height: int) -> Float64[np.ndarray, "3 3"]:
    """Of a picture of any size, `focal_px` being that at the original width of 640."""
    return Camera.centred(focal_px * width / WIDTH, width, height).intrinsics


def frame_files(names: Iterable[str]) -> tuple[list[FrameFiles], list[str]]:
    """Sorts the files of one sequence into frames.

    Returns:
      The complete frames in order, and a complaint for each frame that lacks its picture or its
      pose. Stray files (Thumbs.db) are left out.
    """
    by_frame: dict[str, dict[str, str]] = {}
    for name in names:
        if match := _FRAME_FILE.fullmatch(name):
            kind = match[3].partition(".")[0]
            by_frame.setdefault(match[1], {})[kind] = name
    frames, complaints = [], []
    for stem, files in sorted(by_frame.items()):
        if missing := {"color", "pose"} - set(files):
            what = "picture" if "color" in missing else "pose.txt"
            complaints.append(f"{stem} has no {what}; restore it or remove the frame's other files")
        else:
            number = int(stem.removeprefix("frame-"))
            frames.append(FrameFiles(number, files["color"], files["pose"], files.get("depth")))
    return frames, complaints


def read_seven_scenes(
    path: str | pathlib.Path,
    *,
    split: str | None = None,
    scene: str | None = None,
    skip_bad_frames: bool = False,
) -> PosedFrames:
    """The frames of a scene's folder, or of a single sequence's.

    Args:
      path: holds seq-01, seq-02, ..., or is one of them.
      split: "train" or "test" by the scene's split files; None: every sequence that is there.
      scene: the scene's name; by default the folder's.
      skip_bad_frames: lists bad frames in one warning instead of raising at the first.

    Raises:
      UsageError: a sequence of the split is missing, or a frame is bad.
    """
    path = pathlib.Path(path)
    collector = FrameCollector(scene or path.resolve().name, path, skip_bad_frames=skip_bad_frames)
    for sequence, folder in _sequence_folders(path, split):
        frames, complaints = frame_files(sorted(entry.name for entry in folder.iterdir()))
        for complaint in complaints:
            with collector.bad.guard():
                raise UsageError(f"{folder}: {complaint}")
        for frame in frames:
            with collector.bad.guard():
                image, pose = folder / frame.color, folder / frame.pose
                width, height = image_size(image)
                K = intrinsics(COLOR_FOCAL_PX, width, height)
                collector.add(
                    f"{sequence}/{frame.name}",
                    image,
                    parse_pose(read_text(pose), str(pose)),
                    Camera.of_matrix(K, width, height),
                    sequence=sequence,
                    depth=folder / frame.depth if frame.depth else None,
                )
    return _with_depth_intrinsics(collector.finish())


def _sequence_folders(path: pathlib.Path, split: str | None) -> Iterator[tuple[str, pathlib.Path]]:
    if split is None:
        found = sorted(entry for entry in path.glob("seq-*") if os.path.isdir(entry))
        yield from ((entry.name, entry) for entry in found or [path])
        return
    split_file = path / SPLIT_FILES[split]
    for sequence in parse_split(read_text(split_file), str(split_file)):
        if not os.path.isdir(path / sequence):
            raise UsageError(
                f"{path / sequence}: missing, but {split_file.name} lists it; unpack "
                f"{sequence}.zip there"
            )
        yield sequence, path / sequence


def _with_depth_intrinsics(frames: PosedFrames) -> PosedFrames:
    if frames.depths is None:
        return frames
    K = np.stack([intrinsics(DEPTH_FOCAL_PX, *size) for size in frames.image_sizes])
    return dataclasses.replace(frames, depth_intrinsics=K)

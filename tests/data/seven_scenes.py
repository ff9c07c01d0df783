"""The poses of 7 Scenes, without its pictures, for tests and benchmarks on real camera paths."""

import pathlib

import numpy as np

from jaxreloc.formats.frames import PosedFrames
from jaxreloc.formats.readers.pose_list import read_evaluation_poses
from jaxreloc.formats.readers.seven_scenes import SCENES


def pose_frames(shared_data: pathlib.Path, scene: str, split: str) -> PosedFrames:
    """The original poses of one scene's "train" or "test" frames; the pictures are absent."""
    poses = read_evaluation_poses(
        shared_data / "seven_scenes_poses" / "dslam" / f"{scene}_{split}.txt"
    )
    count = len(poses.names)
    intrinsics = np.tile([[525.0, 0, 319.5], [0, 525, 239.5], [0, 0, 1]], (count, 1, 1))
    return PosedFrames(
        scene=scene,
        names=poses.names,
        world_from_cam=poses.world_from_cam,
        intrinsics=intrinsics,
        image_sizes=np.tile([[640, 480]], (count, 1)),
        images=[None] * count,
    )


def all_training_frames(shared_data: pathlib.Path) -> list[PosedFrames]:
    """The 26,000 training frames, scene by scene."""
    return [pose_frames(shared_data, scene, "train") for scene in SCENES]

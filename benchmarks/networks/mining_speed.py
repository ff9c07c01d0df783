"""Seconds to mine training pairs, beside the limit of a minute for 26,000 frames without depth.

  python -m benchmarks.networks.mining_speed [--shared_data=DIR]

The frames are those of 7 Scenes if a folder with its poses is given (seven_scenes_poses/dslam),
otherwise hand-held camera paths of the same lengths; a second row has all 26,000 in one scene.
"""

import pathlib
import resource
import time

import numpy as np
from absl import app, flags
from scipy.spatial.transform import Rotation

from jaxreloc.data.pairing.mined_pairs import mine_pairs
from jaxreloc.formats.frames import PosedFrames
from tests.data.seven_scenes import all_training_frames

LIMIT_SECONDS = 60.0
SCENE_SIZES = (4000, 2000, 1000, 6000, 4000, 7000, 2000)
FRAMES_PER_PATH = 1000

_NUM_PAIRS = flags.DEFINE_integer("num_pairs", 50_000, "pairs to mine")
_SHARED_DATA = flags.DEFINE_string("shared_data", None, "folder with the poses of 7 Scenes")


def wandering_frames(name: str, count: int, rng: np.random.Generator) -> PosedFrames:
    """Camera paths of 1000 frames that wander about 2 m and look about a common direction."""
    poses = np.tile(np.eye(4), (count, 1, 1))
    for start in range(0, count, FRAMES_PER_PATH):
        part = slice(start, min(count, start + FRAMES_PER_PATH))
        time_s = np.arange(part.stop - start)[:, None] / 30
        phase = rng.uniform(0, 2 * np.pi, (2, 6))
        speed = rng.uniform(0.1, 0.5, (2, 6))
        wave = np.sin(speed[0] * time_s + phase[0]) + 0.5 * np.sin(2 * speed[1] * time_s + phase[1])
        poses[part, :3, :3] = Rotation.from_rotvec(0.4 * wave[:, :3]).as_matrix()
        poses[part, :3, 3] = 0.8 * wave[:, 3:]
    return PosedFrames(
        scene=name,
        names=tuple(f"{k:06d}.png" for k in range(count)),
        world_from_cam=poses,
        intrinsics=np.tile([[525.0, 0, 319.5], [0, 525, 239.5], [0, 0, 1]], (count, 1, 1)),
        image_sizes=np.tile([[640, 480]], (count, 1)),
        images=[None] * count,
    )


def report(name: str, scenes: list[PosedFrames]) -> None:
    start = time.perf_counter()
    pairs = mine_pairs(scenes, num_pairs=_NUM_PAIRS.value)
    seconds = time.perf_counter() - start
    rotation = Rotation.from_matrix(pairs.db_from_query[:, :3, :3]).magnitude()
    baseline = np.linalg.norm(pairs.db_from_query[:, :3, 3], axis=1)
    angles, lengths = (np.percentile(x, [5, 50, 95]) for x in (np.degrees(rotation), baseline))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"{name}: {len(pairs)} pairs of {sum(map(len, scenes))} frames in {seconds:.1f} s, "
        f"{LIMIT_SECONDS / seconds:.1f} times as fast as the limit, peak memory {memory:.2f} GB; "
        f"5/50/95% {angles.round(1)} deg, {lengths.round(2)} m"
    )


def main(_) -> None:
    rng = np.random.default_rng(0)
    if _SHARED_DATA.value:
        scenes = all_training_frames(pathlib.Path(_SHARED_DATA.value))
    else:
        scenes = [wandering_frames(f"scene{k}", n, rng) for k, n in enumerate(SCENE_SIZES)]
    report("seven scenes", scenes)
    report("one scene", [wandering_frames("scene", sum(SCENE_SIZES), rng)])


if __name__ == "__main__":
    app.run(main)

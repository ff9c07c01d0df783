"""Scenes of plain pictures whose brightness says which frame they are, for tests of loading."""

import itertools

import numpy as np
from scipy.spatial.transform import Rotation

from jaxreloc.data.pairing.mined_pairs import make_pairs
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.usage import UsageError

WIDTH, HEIGHT = 40, 30
COUNTS = (7, 5)
NUM_PAIRS = 22


class Pictures(list):
    """Pictures that show which frame they are, of which some cannot be read."""

    def __init__(self, values, bad=()):
        super().__init__(np.full((HEIGHT, WIDTH, 3), value, np.uint8) for value in values)
        self.bad = bad

    def __getitem__(self, i):
        if i in self.bad:
            raise UsageError(f"frame {i}: not a readable picture; replace the file")
        return super().__getitem__(i)


def value_of(scene, frame):
    return 100 * scene + frame + 10


def make_scenes(rng, bad=()):
    scenes = []
    for scene, count in enumerate(COUNTS):
        poses = np.tile(np.eye(4), (count, 1, 1))
        poses[:, :3, :3] = Rotation.random(count, random_state=rng).as_matrix()
        poses[:, :3, 3] = rng.normal(size=(count, 3))
        intrinsics = np.tile([[30.0, 0, 19.5], [0, 31, 14.5], [0, 0, 1]], (count, 1, 1))
        intrinsics[:, 0, 0] += rng.uniform(0, 5, count)
        scenes.append(
            PosedFrames(
                scene=f"scene{scene}",
                names=tuple(f"{k}.png" for k in range(count)),
                world_from_cam=poses,
                intrinsics=intrinsics,
                image_sizes=np.tile([[WIDTH, HEIGHT]], (count, 1)),
                images=Pictures(
                    (value_of(scene, k) for k in range(count)), () if scene else bad
                ),
            )
        )
    return scenes


def every_pair(scenes, rng):
    """Some of the pairs of different frames, in random order."""
    rows = [
        (scene, *pair)
        for scene, count in enumerate(COUNTS)
        for pair in itertools.permutations(range(count), 2)
    ]
    scene, db, query = np.array(rows)[rng.permutation(len(rows))[:NUM_PAIRS]].T
    return make_pairs(scenes, scene, db, query)


def frame_of(image):
    """Scene and frame that a picture without jitter shows."""
    value = int(image[0, 0, 0]) - 10
    return value // 100, value % 100

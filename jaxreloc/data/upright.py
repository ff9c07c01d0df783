"""Pictures turned by quarter turns, so that what is up is above."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from jaxreloc.formats.frames import PosedFrames
from jaxreloc.images import turn_camera


def turns_to_upright(
    world_from_cam: Float[np.ndarray, "n 4 4"], up: Sequence[float]
) -> Int[np.ndarray, "n"]:
    """The counterclockwise quarter turns after which `up` (world axes) is nearest to above.

    Above are then the directions -y, x, y and -x of the camera, after 0 to 3 turns.
    """
    x, y = np.moveaxis(world_from_cam[:, :3, :2], 2, 0) @ np.asarray(up, np.float64)
    return np.argmax(np.stack([-y, x, y, -x]), axis=0)


def held_upright(frames: PosedFrames, up: Sequence[float]) -> PosedFrames:
    """The same pictures, each turned by `turns_to_upright`, with its camera."""
    turns = turns_to_upright(frames.world_from_cam, up)
    cameras = [
        turn_camera(matrix, *map(int, size), int(k))
        for matrix, size, k in zip(frames.intrinsics, frames.image_sizes, turns, strict=True)
    ]
    world_from_cam = frames.world_from_cam.copy()
    world_from_cam[:, :3, :3] @= np.stack([rotation.T for _, rotation in cameras])
    sizes = np.where((turns % 2 == 1)[:, None], frames.image_sizes[:, ::-1], frames.image_sizes)
    depths = frames.depths and _Turned(frames.depths, turns)
    of_depth = frames.depth_intrinsics
    if of_depth is not None and depths is not None:
        shapes = [depth.shape for depth in frames.depths]
        of_depth = np.stack(
            [
                turn_camera(matrix, width, height, int(k))[0]
                for matrix, (height, width), k in zip(of_depth, shapes, turns, strict=True)
            ]
        )
    return dataclasses.replace(
        frames,
        world_from_cam=world_from_cam,
        intrinsics=np.stack([matrix for matrix, _ in cameras]),
        image_sizes=sizes,
        images=_Turned(frames.images, turns),
        depths=depths,
        depth_intrinsics=of_depth,
    )


@dataclasses.dataclass(frozen=True)
class _Turned(Sequence):
    """`items` turned counterclockwise; nothing is read before it is asked for."""

    items: Sequence[np.ndarray]
    turns: np.ndarray

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> np.ndarray:
        return np.ascontiguousarray(np.rot90(self.items[i], int(self.turns[i])))

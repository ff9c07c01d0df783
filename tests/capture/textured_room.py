"""Photographs of a room whose walls are painted with noise, by ray casting."""

import pathlib

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

HALF_SIZE = np.array([3.0, 2.0, 3.0])  # metres; y down
TEXELS = 160  # a metre


class TexturedRoom:
    """Six walls of noise of all scales, which a pinhole camera in the room sees."""

    def __init__(self, rng: np.random.Generator):
        side = int(2 * HALF_SIZE.max() * TEXELS)
        self._walls = []
        for _ in range(6):
            wall = np.zeros((side, side), np.float32)
            for cells in (12, 48, 190, 480):
                noise = rng.normal(size=(cells, cells)).astype(np.float32)
                wall += cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)
            self._walls.append(np.clip(128 + 30 * wall, 0, 255))

    def view(
        self, world_from_cam: np.ndarray, intrinsics: np.ndarray, size: tuple[int, int]
    ) -> np.ndarray:
        """The picture [h, w, 3] of this width and height."""
        u, v = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
        rays = np.stack([u, v, np.ones_like(u)], axis=-1) @ np.linalg.inv(intrinsics).T
        direction = rays @ world_from_cam[:3, :3].T
        centre = world_from_cam[:3, 3]
        with np.errstate(divide="ignore"):
            far = (np.sign(direction) * HALF_SIZE - centre) / direction
        axis = far.argmin(axis=-1)
        hit = centre + direction * far.min(axis=-1)[..., None]
        seen = np.zeros(axis.shape, np.float32)
        for k in range(3):
            a, b = (i for i in range(3) if i != k)
            x = ((hit[..., a] + HALF_SIZE.max()) * TEXELS).astype(np.float32)
            y = ((hit[..., b] + HALF_SIZE.max()) * TEXELS).astype(np.float32)
            for side, wall in zip((-1, 1), self._walls[2 * k : 2 * k + 2]):
                of_wall = (axis == k) & (np.sign(direction[..., k]) == side)
                painted = cv2.remap(wall, x, y, cv2.INTER_LINEAR)
                seen = np.where(of_wall, painted, seen)
        return np.repeat(seen.astype(np.uint8)[..., None], 3, axis=-1)


def walk(rng: np.random.Generator, count: int, step: float = 0.25) -> np.ndarray:
    """world_from_cam along a line to the side, looking at one corner of the room from it."""
    poses = np.tile(np.eye(4), (count, 1, 1))
    for i, pose in enumerate(poses):
        turn = Rotation.from_euler("yx", [30 + rng.normal(0, 3), rng.normal(0, 3)], degrees=True)
        pose[:3, :3] = turn.as_matrix()
        pose[:3, 3] = (step * (i - count / 2), *rng.normal(0, 0.1, 2))
    return poses


def write_walk(
    folder: pathlib.Path,
    rng: np.random.Generator,
    count: int = 7,
    *,
    room: TexturedRoom | None = None,
    prefix: str = "",
    focal: float = 300.0,
    size: tuple[int, int] = (320, 240),
    poses: np.ndarray | None = None,
) -> np.ndarray:
    """Writes pictures PREFIXNN.png; returns their world_from_cam."""
    room = room or TexturedRoom(rng)
    poses = walk(rng, count) if poses is None else poses
    K = np.array([[focal, 0, size[0] / 2 - 0.5], [0, focal, size[1] / 2 - 0.5], [0, 0, 1]])
    folder.mkdir(parents=True, exist_ok=True)
    for i, pose in enumerate(poses):
        cv2.imwrite(str(folder / f"{prefix}{i:02d}.png"), room.view(pose, K, size))
    return poses

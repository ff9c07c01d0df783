"""Inputs of every kernel, the same on each device: of a seed, and made by NumPy."""

import jax
import jax.numpy as jnp
import jaxlie
import numpy as np
from scipy.spatial.transform import Rotation

from jaxreloc.formats.frames import PosedFrames
from tests.capture.textured_room import TexturedRoom
from tests.geometry.planted_matches import planted_pair
from tests.geometry.planted_tracks import planted
from tests.geometry.simulated_pairs import Noise, predict, rooms

NEIGHBORS = 5


def fusion_inputs(batch: int) -> tuple[jaxlie.SE3, jaxlie.SE3]:
    """Neighbours and predicted relative poses of queries, [batch, NEIGHBORS]."""
    rng = np.random.default_rng(0)
    query, db = rooms(rng, min(batch, 2000), NEIGHBORS)
    relative, _ = predict(rng, db, query, Noise())
    repeat = -(-batch // len(db))
    return tuple(
        jaxlie.SE3(jnp.asarray(np.tile(np.float32(x), (repeat, 1, 1))[:batch]))
        for x in (db, relative)
    )


def relative_pose_inputs(batch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Matches of pairs, a third of them wrong: both sides, and weights."""
    rng = np.random.default_rng(1)
    pairs = [planted_pair(rng) for _ in range(min(batch, 64))]
    pairs = [pairs[i % len(pairs)] for i in range(batch)]
    x_query, x_db = (np.stack([getattr(p, name) for p in pairs]) for name in ("x_query", "x_db"))
    return x_query, x_db, np.ones(x_query.shape[:2], np.float32)


def absolute_pose_inputs(batch: int) -> dict[str, jax.Array]:
    """Arguments of `estimate_absolute_pose`, stacked."""
    rng = np.random.default_rng(2)
    scenes = [
        planted(rng, neighbors=10, cells=600, noise_px=0.5, outliers=0.4).arguments(depth=True)
        for _ in range(min(batch, 16))
    ]
    scenes = [scenes[i % len(scenes)] for i in range(batch)]
    return jax.tree.map(lambda *x: jnp.stack(x), *scenes)


def noise_images(batch: int, side: int) -> np.ndarray:
    """uint8 [batch, side, side, 3] of blotches."""
    rng = np.random.default_rng(3)
    blotches = rng.integers(0, 256, (batch, side // 16, side // 16, 3), dtype=np.uint8)
    return blotches.repeat(16, axis=1).repeat(16, axis=2)


def unit_vectors(count: int, dim: int, seed: int) -> np.ndarray:
    """float32 [count, dim]."""
    x = np.random.default_rng(seed).standard_normal((count, dim), np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def photographed_room(count: int, width: int, seed: int, scene: str = "room") -> PosedFrames:
    """Pictures of a room with painted walls, looking at one corner of it from about two metres."""
    painter = TexturedRoom(np.random.default_rng(4))
    rng = np.random.default_rng(seed)
    size = (width, 3 * width // 4)
    K = np.array([[width, 0, size[0] / 2 - 0.5], [0, width, size[1] / 2 - 0.5], [0, 0, 1.0]])
    poses = np.tile(np.eye(4), (count, 1, 1))
    for pose in poses:
        turn = Rotation.from_euler("yx", rng.normal((30, 0), 8), degrees=True)
        pose[:3, :3] = turn.as_matrix()
        pose[:3, 3] = rng.uniform(-0.8, 0.8, 3)
    return PosedFrames(
        scene=scene,
        names=tuple(f"{i:04d}" for i in range(count)),
        world_from_cam=poses,
        intrinsics=np.tile(K, (count, 1, 1)),
        image_sizes=np.tile(size, (count, 1)),
        images=[painter.view(pose, K, size) for pose in poses],
    )


def model(backbone: str, dtype: str = "float32") -> dict[str, str]:
    """`config.model` of the paper's network."""
    return {"backbone": backbone, "head": "concat", "dtype": dtype}


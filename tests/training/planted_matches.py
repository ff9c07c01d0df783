"""Matched pairs with known poses, and a matcher that compares numbers instead of images."""

import types

import jax
import numpy as np
from scipy.spatial.transform import Rotation

from jaxreloc.formats.frames import PosedFrames
from jaxreloc.models.matching.rays import RayMatches
from jaxreloc.training.inputs.matched_pairs import MatchedPairs

IMAGE_SIZE = (24, 32)  # height, width


def matched_pairs(rng, count: int = 10, matches: int = 130, scene: str = "hall") -> MatchedPairs:
    """Pairs of which about half overlap; the matches of those fit their pose."""
    rotation = Rotation.from_rotvec(rng.normal(size=(count, 3)) * 0.2)
    t = rng.normal(size=(count, 3)) * 0.4
    points = rng.uniform(-1, 1, (count, matches, 3)) * [1, 1, 0.8] + [0, 0, 3]
    in_db = np.stack([r.apply(p) + x for r, p, x in zip(rotation, points, t)])
    overlaps = rng.permutation(count) < (count + 1) // 2
    x_query, x_db = (p[..., :2] / p[..., 2:] for p in (points, in_db))
    x_db[~overlaps] = rng.uniform(-0.5, 0.5, x_db[~overlaps].shape)
    sureness = -np.sort(-rng.uniform(0.05, 1, (count, matches)), axis=1)
    sureness[~overlaps] *= 0.2
    poses = np.concatenate([rotation.as_quat(canonical=True, scalar_first=True), t], axis=1)
    return MatchedPairs(
        **{k: x.astype(np.float32) for k, x in (("x_query", x_query), ("x_db", x_db))},
        **{k: sureness.astype(np.float32) for k in ("confidence", "mass", "reverse")},
        db_from_query=poses.astype(np.float32),
        overlap=np.where(overlaps, rng.uniform(0.2, 0.9, count), 0.0).astype(np.float32),
        focal_px=np.full(count, 300.0),
        height_px=np.full(count, 384),
        frames=rng.integers(0, 50, (count, 2)),
        names=np.full(count, scene),
    )


def room_frames(rng, count: int = 14, scene: str = "hall") -> PosedFrames:
    """Cameras that circle inside a sphere of two metres and look outwards, with its depth."""
    angle = rng.uniform(0, 2 * np.pi, count)
    height, width = IMAGE_SIZE
    intrinsics = np.array([[width, 0, (width - 1) / 2], [0, width, (height - 1) / 2], [0, 0, 1.0]])
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, :3, :3] = Rotation.from_rotvec(angle[:, None] * [0, 1, 0]).as_matrix()
    poses[:, :3, 3] = rng.uniform(-0.3, 0.3, (count, 3))
    v, u = np.mgrid[:height, :width]
    rays = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(intrinsics).T
    depths = []
    for pose in poses:
        world_rays = rays @ pose[:3, :3].T
        a, b = np.sum(world_rays**2, -1), world_rays @ pose[:3, 3]
        c = pose[:3, 3] @ pose[:3, 3] - 4.0
        depths.append(((-b + np.sqrt(b**2 - a * c)) / a).astype(np.float32))
    images = [np.full((height, width, 3), i + 1, np.uint8) for i in range(count)]
    return PosedFrames(
        scene=scene,
        names=tuple(f"{i:03d}.png" for i in range(count)),
        world_from_cam=poses,
        intrinsics=np.tile(intrinsics, (count, 1, 1)),
        image_sizes=np.tile([width, height], (count, 1)),
        images=images,
        depths=depths,
    )


class NumberMatcher:
    """Stands for a MatchNetwork: an image's features are its number, and so are its matches."""

    def __init__(self, canvas: tuple[int, int], matches: int = 7):
        self.canvas, self._matches = canvas, matches
        self.encoded = []

    def prepare(self, image, intrinsics):
        scale = self.canvas[0] / image.shape[0]
        return image, intrinsics * np.array([[scale], [scale], [1.0]])

    def encode(self, images):
        number = images[:, 0, 0, 0].astype(np.float32)
        self.encoded += number.tolist()
        angle = number / 20
        return Numbers(np.stack([np.cos(angle), np.sin(angle)], axis=1), number)

    def match(self, db, db_intrinsics, query, query_intrinsics):
        shape = (len(db.number), self._matches)
        assert db_intrinsics.shape == (*shape[:1], 3, 3) and query_intrinsics.shape == (1, 3, 3)
        ones = np.ones(shape, np.float32)
        query_numbers = np.broadcast_to(query.number[:, None, None], (*shape, 2))
        db_numbers = np.broadcast_to(db.number[:, None, None], (*shape, 2))
        return RayMatches(query_numbers, db_numbers, ones, ones, ones)


class Numbers(types.SimpleNamespace):
    """Features of NumberMatcher, a pytree."""

    def __init__(self, descriptor, number):
        super().__init__(descriptor=descriptor, number=number)


jax.tree_util.register_pytree_node(
    Numbers, lambda x: ((x.descriptor, x.number), None), lambda _, leaves: Numbers(*leaves)
)

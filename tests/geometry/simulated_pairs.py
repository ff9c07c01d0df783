"""Cameras and the relative poses that a network might predict for them, for tests and benchmarks.

Poses are float64 arrays [..., 7], `wxyz xyz`; everything is NumPy and SciPy.
"""

import dataclasses
from typing import Literal

import numpy as np
from scipy.spatial.transform import Rotation

MIN_LENGTH = 0.05  # metres; shorter true translations are predicted as this long
RANDOM_LENGTHS = (0.1, 10.0)  # metres, log-uniform


@dataclasses.dataclass(frozen=True)
class Noise:
    """Errors of the predictions.

    A direction is turned about a uniformly random axis by `direction_deg N(0, 1)`, a rotation by
    a rotation vector of `rotation_deg N(0, 1)` per component. A length is the true one times
    `exp(length N(0, 1))`; or "unit", as an essential matrix leaves it; or "random". A share
    `outliers` of the pairs has a random rotation and a N(0, 1) m translation instead.
    """

    direction_deg: float = 8.0
    rotation_deg: float = 6.0
    length: float | Literal["unit", "random"] = 0.3
    outliers: float = 0.15


def predict(
    rng: np.random.Generator, world_from_db: np.ndarray, world_from_query: np.ndarray, noise: Noise
) -> tuple[np.ndarray, np.ndarray]:
    """`db_from_query` [B, N, 7] with errors, of [B, N, 7] and [B, 7]; and the outliers [B, N]."""
    shape = world_from_db.shape[:2]
    count = shape[0] * shape[1]
    rotation_db = rotation_of(world_from_db.reshape(count, 7))
    rotation_query = rotation_of(np.repeat(world_from_query, shape[1], axis=0))
    offset = (world_from_query[:, None, 4:] - world_from_db[..., 4:]).reshape(count, 3)
    length = np.linalg.norm(offset, axis=-1, keepdims=True)
    direction = offset / np.maximum(length, 1e-12)
    angle = np.deg2rad(noise.direction_deg) * rng.normal(size=(count, 1))
    direction = Rotation.from_rotvec(unit_vectors(rng, count) * angle).apply(direction)
    translation = rotation_db.inv().apply(direction * _lengths(rng, length, noise))
    wobble = Rotation.from_rotvec(np.deg2rad(noise.rotation_deg) * rng.normal(size=(count, 3)))
    q_wxyz = (wobble * rotation_db.inv() * rotation_query).as_quat(scalar_first=True)
    outlier = rng.uniform(size=(count, 1)) < noise.outliers
    q_wxyz = np.where(outlier, Rotation.random(count, rng=rng).as_quat(), q_wxyz)
    translation = np.where(outlier, rng.normal(size=(count, 3)), translation)
    predicted = np.concatenate([q_wxyz, translation], axis=-1)
    return predicted.reshape(*shape, 7), outlier.reshape(shape)


def rooms(rng: np.random.Generator, batch: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Random queries [B, 7] and their neighbours [B, N, 7], in front of and about them.

    Distances are log-normal about 1 m; a third of the queries has neighbours within 0.2 m of a
    point, as when a video's frames are retrieved, and there directions alone fix little.
    """
    query = random_poses(rng, batch)
    spread = np.where(rng.uniform(size=(batch, 1, 1)) < 1 / 3, 0.2, 1.0)
    cluster = query[:, None, 4:] + unit_vectors(rng, batch)[:, None] * np.exp(
        0.5 * rng.normal(size=(batch, 1, 1))
    )
    centres = cluster + spread * 0.5 * rng.normal(size=(batch, count, 3))
    turn = Rotation.from_rotvec(0.3 * rng.normal(size=(batch * count, 3)))
    rotation = rotation_of(np.repeat(query, count, axis=0)) * turn
    q_wxyz = rotation.as_quat(scalar_first=True).reshape(batch, count, 4)
    return query, np.concatenate([q_wxyz, centres], axis=-1)


def random_poses(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Uniform rotations, positions of some metres: [*shape, 7]."""
    q_wxyz = Rotation.random(int(np.prod(shape)), rng=rng).as_quat().reshape(*shape, 4)
    return np.concatenate([q_wxyz, 2.0 * rng.normal(size=(*shape, 3))], axis=-1)


def unit_vectors(rng: np.random.Generator, count: int) -> np.ndarray:
    """Uniform over the sphere, [count, 3]."""
    vectors = rng.normal(size=(count, 3))
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def rotation_of(poses: np.ndarray) -> Rotation:
    """The rotations of poses [n, 7]."""
    return Rotation.from_quat(poses[..., :4], scalar_first=True)


def _lengths(rng: np.random.Generator, length: np.ndarray, noise: Noise) -> np.ndarray:
    if noise.length == "unit":
        return np.ones_like(length)
    if noise.length == "random":
        return np.exp(rng.uniform(*np.log(RANDOM_LENGTHS), size=length.shape))
    return np.maximum(length, MIN_LENGTH) * np.exp(noise.length * rng.normal(size=length.shape))

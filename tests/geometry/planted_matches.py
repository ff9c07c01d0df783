"""Matches of a planted relative pose: noise in both images, outliers uniform over both."""

from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

FOCAL_PX, WIDTH, HEIGHT = 400.0, 640, 480


class PlantedPair(NamedTuple):
    x_query: np.ndarray  # [K, 2], plane z = 1
    x_db: np.ndarray
    rotation: np.ndarray  # db_from_query
    translation: np.ndarray
    true_match: np.ndarray


def planted_pair(
    rng: np.random.Generator,
    motion: str = "room",
    scene: str = "depth",
    matches: int = 600,
    outliers: float = 0.3,
    noise_px: float = 1.0,
) -> PlantedPair:
    """motion: room, orbit, roll, forward, small or pure; scene: depth (1 to 6 m) or planar."""
    while True:
        rotation, translation = _pose(rng, motion)
        points = _points(rng, 4 * matches, scene)
        in_db = rotation.apply(points) + translation
        seen = np.flatnonzero(_visible(points) & _visible(in_db))
        if len(seen) > 0.15 * len(points):
            break
    inliers = round(matches * (1 - outliers))
    chosen = rng.choice(seen, inliers, replace=len(seen) < inliers)
    images = []
    for cloud in (points, in_db):
        pixels = _pixels(cloud[chosen]) + noise_px * rng.normal(size=(inliers, 2))
        images.append(np.concatenate([pixels, _anywhere(rng, matches - inliers)]) / FOCAL_PX)
    order = rng.permutation(matches)
    true_match = (np.arange(matches) < inliers)[order]
    return PlantedPair(
        images[0][order].astype(np.float32), images[1][order].astype(np.float32),
        rotation.as_matrix(), translation, true_match,
    )


def pose_errors_deg(rotation, translation, pair: PlantedPair) -> tuple[float, float]:
    """Rotation and direction error."""
    chord = np.linalg.norm(rotation - pair.rotation) / np.sqrt(8)
    cosine = translation @ pair.translation
    cosine /= np.linalg.norm(translation) * np.linalg.norm(pair.translation) + 1e-12
    return np.degrees(2 * np.arcsin(min(chord, 1.0))), np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def _pose(rng, motion: str) -> tuple[Rotation, np.ndarray]:
    direction = rng.normal(size=3)
    direction /= np.linalg.norm(direction)
    small_turn = Rotation.from_rotvec(0.1 * rng.normal(size=3))
    if motion == "room":
        axis = rng.normal(size=3)
        turn = np.radians(rng.uniform(0, 40)) * axis / np.linalg.norm(axis)
        return Rotation.from_rotvec(turn), direction * rng.uniform(0.1, 1.5)
    if motion == "orbit":
        axis = np.array([0.3 * rng.normal(), rng.choice([-1, 1]), 0.2 * rng.normal()])
        turn = np.radians(rng.uniform(20, 60)) * axis / np.linalg.norm(axis)
        rotation, centre = Rotation.from_rotvec(turn), np.array([0, 0, 2.5])
        return rotation * small_turn, centre - rotation.apply(centre) + 0.1 * rng.normal(size=3)
    if motion == "roll":
        return Rotation.from_euler("z", rng.uniform(-np.pi, np.pi)) * small_turn, 0.4 * direction
    if motion == "forward":
        length = rng.choice([-1, 1]) * rng.uniform(0.3, 0.8)
        return small_turn, np.array([0, 0, length]) + 0.05 * rng.normal(size=3)
    return small_turn, {"small": 0.05, "pure": 0.0}[motion] * direction


def _points(rng, count: int, scene: str) -> np.ndarray:
    rays = np.concatenate([_anywhere(rng, count) / FOCAL_PX, np.ones((count, 1))], axis=1)
    if scene == "depth":
        return rays * rng.uniform(1, 6, (count, 1))
    normal = np.array([0.4 * rng.normal(), 0.4 * rng.normal(), 1.0])
    depth = 2.5 / (rays @ normal)
    return rays * np.where((depth > 0.3) & (depth < 15), depth, -1.0)[:, None]


def _anywhere(rng, count: int) -> np.ndarray:
    return rng.uniform(-0.5, 0.5, (count, 2)) * [WIDTH, HEIGHT]


def _visible(points: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        pixels = np.abs(_pixels(points))
    return (points[:, 2] > 0.1) & (pixels[:, 0] < WIDTH / 2) & (pixels[:, 1] < HEIGHT / 2)


def _pixels(points: np.ndarray) -> np.ndarray:
    return FOCAL_PX * points[:, :2] / points[:, 2:]

"""The paper's fusion of one query as a plain NumPy/SciPy loop in float64, the tests' yardstick.

Written from the description of the paper and of what the authors' script does; nothing is shared
with the package.
"""

import dataclasses
import itertools

import numpy as np
from scipy.spatial.transform import Rotation

DIRECTION_LIMIT_DEG = 10.0
ROTATION_LIMIT_DEG = 20.0


@dataclasses.dataclass
class Fused:
    position: np.ndarray
    rotation: Rotation
    l1_cost_rad: float  # sum of angles from the rotation to the hypotheses averaged
    tied_rotations: Rotation
    margin_deg: float  # how far the closest inlier test was from flipping


def fuse_paper(
    world_from_db: np.ndarray, db_from_query: np.ndarray, mean: str = "chordal"
) -> Fused:
    """Poses are [N, 7], wxyz xyz; `mean` is the script's "chordal" or the text's "l1"."""
    rotations_db = _rotation(world_from_db)
    directions = rotations_db.apply(db_from_query[:, 4:])
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    position, location_margin = _position(world_from_db[:, 4:], directions)
    hypotheses = rotations_db * _rotation(db_from_query)
    tied, rotation_margin = _tied_rotations(hypotheses)
    rotation = chordal_mean(tied) if mean == "chordal" else l1_mean(tied)[0]
    margin = min(location_margin, rotation_margin)
    return Fused(position, rotation, l1_cost(rotation, tied), tied, margin)


def _rotation(poses: np.ndarray) -> Rotation:
    return Rotation.from_quat(poses[:, :4], scalar_first=True)


def _position(centres: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, float]:
    points, votes, margin = [], [], np.inf
    for i, j in itertools.combinations(range(len(centres)), 2):
        columns = np.stack([directions[i], -directions[j]], axis=1)
        if np.linalg.matrix_rank(columns, tol=1e-9) < 2:
            continue
        depths = np.linalg.lstsq(columns, centres[j] - centres[i], rcond=None)[0]
        ends = centres[i] + depths[0] * directions[i], centres[j] + depths[1] * directions[j]
        point = (ends[0] + ends[1]) / 2
        seen = point - centres
        distances = np.maximum(np.linalg.norm(seen, axis=-1), 1e-300)
        cosine = np.abs(np.sum(seen * directions, axis=-1)) / distances
        angles = np.degrees(np.arccos(np.clip(cosine, 0, 1)))
        margin = min(margin, np.abs(angles - DIRECTION_LIMIT_DEG).min())
        points.append(point)
        votes.append(int(np.sum(angles < DIRECTION_LIMIT_DEG)))
    if not points:
        return centres[0], margin
    return np.mean([p for p, v in zip(points, votes) if v == max(votes)], axis=0), margin


def _tied_rotations(hypotheses: Rotation) -> tuple[Rotation, float]:
    angles = np.degrees([(h.inv() * hypotheses).magnitude() for h in hypotheses])
    votes = np.sum(angles < ROTATION_LIMIT_DEG, axis=1)
    return hypotheses[votes == votes.max()], np.abs(angles - ROTATION_LIMIT_DEG).min()


def chordal_mean(rotations: Rotation) -> Rotation:
    """The sum of the quaternions, each with the sign that is nearer to the first one."""
    quaternions = rotations.as_quat()
    total = np.zeros(4)
    for q in quaternions:
        nearer = np.linalg.norm(q - quaternions[0]) <= np.linalg.norm(q + quaternions[0])
        total += q if nearer else -q
    return Rotation.from_quat(total)


class CarriedOver:
    """The script's list of tied rotations, which it never empties from one query to the next."""

    def __init__(self):
        self._list: list[Rotation] = []

    def mean(self, tied: Rotation) -> Rotation:
        """Of the tied rotations, and what earlier queries with more of them left behind."""
        if len(tied) == 1:
            return tied[0]
        self._list[: len(tied)] = list(tied)
        return chordal_mean(Rotation.concatenate(self._list))


def l1_mean(rotations: Rotation) -> tuple[Rotation, float]:
    """Weiszfeld's geodesic mean, to convergence, or the member that costs less."""
    mean = rotations.mean()
    for _ in range(2000):
        offsets = (mean.inv() * rotations).as_rotvec()
        weights = 1.0 / np.maximum(np.linalg.norm(offsets, axis=-1), 1e-12)
        step = weights @ offsets / weights.sum()
        mean = mean * Rotation.from_rotvec(step)
        if np.linalg.norm(step) < 1e-10:
            break
    candidates = [mean, *(rotations if len(rotations) > 2 else [])]
    costs = [l1_cost(c, rotations) for c in candidates]
    best = int(np.argmin(costs))
    return candidates[best], costs[best]


def l1_cost(mean: Rotation, rotations: Rotation) -> float:
    return float(np.sum((mean.inv() * rotations).magnitude()))

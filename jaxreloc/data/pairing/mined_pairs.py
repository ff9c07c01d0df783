"""Pairs of frames to train and to test on: who sees whom, and from where."""

import dataclasses
import logging
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32, Int
from scipy.spatial.transform import Rotation

from jaxreloc.data.pairing.candidates import sample_candidates
from jaxreloc.data.pairing.overlap import pair_overlap
from jaxreloc.data.pairing.pair_target import TARGETS, PairTarget, allot
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.formats.rigid_arrays import inverse
from jaxreloc.usage import UsageError

logger = logging.getLogger(__name__)

# Axes of a label's translation: the database camera's, or the world's (as in the authors' lists).
TRANSLATION_FRAMES = ("camera", "world")

# Candidates looked at per pair wanted; the next round only where one finds too few.
OVERSAMPLING = (4, 32, 256)
ENOUGH = 0.95  # of the pairs wanted


@dataclasses.dataclass(frozen=True)
class Pairs:
    """n pairs over a list of scenes, as a struct of arrays."""

    scene: Int[np.ndarray, " n"]  # index into the list of scenes
    db: Int[np.ndarray, " n"]  # frame index within the scene
    query: Int[np.ndarray, " n"]
    db_from_query: Float[np.ndarray, "n 4 4"]  # rigid, metres
    overlap: Float[np.ndarray, " n"] | None = None  # share of view in common, 0 to 1

    def __len__(self) -> int:
        return len(self.scene)

    def select(self, index: Int[np.ndarray, " m"]) -> "Pairs":
        """The pairs at `index`, in that order."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return Pairs(**{k: None if v is None else v[index] for k, v in fields.items()})


def frame_poses(
    scenes: Sequence[PosedFrames], scene: Int[np.ndarray, " n"], frame: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "n 4 4"]:
    """world_from_cam of frames of several scenes."""
    poses = np.empty((len(scene), 4, 4))
    for index, frames in enumerate(scenes):
        rows = scene == index
        poses[rows] = frames.world_from_cam[frame[rows]]
    return poses


def wxyz_xyz(poses: Float[np.ndarray, "*n 4 4"]) -> Float32[np.ndarray, "*n 7"]:
    """Rigid matrices as jaxlie's parameters: unit quaternions with w >= 0, then translations."""
    rotation = Rotation.from_matrix(poses[..., :3, :3].reshape(-1, 3, 3))
    q_wxyz = rotation.as_quat(scalar_first=True, canonical=True).reshape(*poses.shape[:-2], 4)
    return np.concatenate([q_wxyz, poses[..., :3, 3]], axis=-1).astype(np.float32)


def make_pairs(
    scenes: Sequence[PosedFrames],
    scene: Int[np.ndarray, " n"],
    db: Int[np.ndarray, " n"],
    query: Int[np.ndarray, " n"],
    overlap: Float[np.ndarray, " n"] | None = None,
) -> Pairs:
    """Pairs of the given frames, `db_from_query = inverse(world_from_db) @ world_from_query`."""
    db_from_world = inverse(frame_poses(scenes, scene, db))
    db_from_query = db_from_world @ frame_poses(scenes, scene, query)
    return Pairs(scene, db, query, db_from_query, overlap)


def mine_pairs(
    scenes: Sequence[PosedFrames],
    *,
    num_pairs: int,
    target: PairTarget = TARGETS["paper"],
    seed: int = 0,
) -> Pairs:
    """Pairs within scenes whose rotations, baselines and overlaps are distributed as `target`.

    Each scene gets pairs in proportion to its frames. Overlap is measured where a scene has depth
    and guessed from the poses where it has none (see `overlap`). Which frame of a pair is the
    database's is a coin's toss, and the pairs come in random order, so any stretch of them is a
    fair sample. The same seed and frames give the same pairs.

    Returns:
      At most `num_pairs` pairs: fewer where the scenes run out of a kind, rather than more of the
      other kinds. A warning says so if a twentieth or more is missing.

    Raises:
      UsageError: no pair of frames is within the target's range.
    """
    sizes = np.array([len(frames) for frames in scenes])
    frame_shares = sizes / sizes.sum()
    for oversampling in OVERSAMPLING:
        wanted = num_pairs * frame_shares * oversampling
        tables = [
            _SceneTable(frames, target, wanted[k], np.random.default_rng([seed, k]))
            for k, frames in enumerate(scenes)
        ]
        rng = np.random.default_rng(seed)
        chosen = _draw(tables, num_pairs, target, frame_shares, rng)
        found = len(chosen[0])
        if found >= ENOUGH * num_pairs or all(table.complete for table in tables):
            break
    if not found:
        raise UsageError(
            f"no two frames of {', '.join(frames.scene for frames in scenes)} are within the "
            "rotations, baselines and overlaps asked for; widen the target's bins or add frames"
        )
    if found < ENOUGH * num_pairs:
        logger.warning("found %d pairs of the %d asked for", found, num_pairs)
    order = rng.permutation(found)
    scene, first, second, overlap = (column[order] for column in chosen)
    swapped = rng.random(found) < 0.5
    db, query = np.where(swapped, second, first), np.where(swapped, first, second)
    return make_pairs(scenes, scene, db, query, overlap)


class _SceneTable:
    """Candidate pairs of one scene by cell (rotation, baseline, overlap)."""

    def __init__(
        self, frames: PosedFrames, target: PairTarget, wanted: float, rng: np.random.Generator
    ):
        rotation_deg, baseline_m = target.rotation_deg, target.baseline_m
        joint = np.outer(rotation_deg.shares, baseline_m.shares).ravel()
        capacity = np.ceil(wanted * joint).astype(np.int64)
        found = sample_candidates(frames, rotation_deg, baseline_m, capacity, rng)
        self.complete = bool(np.all((found.population <= capacity) | (joint == 0)))
        overlap = pair_overlap(frames, found.first, found.second)
        overlap_bin = target.overlap.index(overlap)
        cell = found.bin * len(target.overlap) + overlap_bin
        # By ascending key within a cell, so that the first of a cell are a random choice from it.
        order = np.lexsort((found.key, cell))
        order = order[overlap_bin[order] >= 0]
        self.first, self.second = found.first[order], found.second[order]
        self.overlap, self.cell = overlap[order], cell[order]
        self.available = np.bincount(self.cell, minlength=np.prod(target.shape))
        sampled = np.bincount(found.bin, minlength=len(joint))
        pairs_per_candidate = np.repeat(
            found.population / np.maximum(sampled, 1), len(target.overlap)
        )
        self.population = self.available * pairs_per_candidate

    def draw(self, count: Int[np.ndarray, " cells"]) -> tuple[np.ndarray, ...]:
        """The first `count` pairs of each cell: first and second frame, overlap."""
        start = np.cumsum(self.available) - self.available
        rank = np.arange(len(self.cell)) - start[self.cell]
        drawn = rank < count[self.cell]
        return self.first[drawn], self.second[drawn], self.overlap[drawn]


def _draw(tables, num_pairs, target, frame_shares, rng) -> tuple[np.ndarray, ...]:
    """Scene index, first and second frame and overlap of about `num_pairs` pairs."""
    shape = (len(tables), *target.shape)
    counts = allot(
        num_pairs,
        np.stack([table.available for table in tables]).reshape(shape),
        np.stack([table.population for table in tables]).reshape(shape),
        [
            frame_shares,
            target.rotation_deg.shares,
            target.baseline_m.shares,
            target.overlap.shares,
        ],
        rng,
    ).reshape(len(tables), -1)
    drawn = [table.draw(count) for table, count in zip(tables, counts)]
    scene = np.repeat(np.arange(len(tables)), [len(first) for first, _, _ in drawn])
    return scene, *(np.concatenate(column) for column in zip(*drawn))

"""Pairs of frames to train and to test on: who sees whom, and from where."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from jaxreloc.formats.frames import PosedFrames
from jaxreloc.usage import UsageError


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


def make_pairs(
    scenes: Sequence[PosedFrames],
    scene: Int[np.ndarray, " n"],
    db: Int[np.ndarray, " n"],
    query: Int[np.ndarray, " n"],
    overlap: Float[np.ndarray, " n"] | None = None,
) -> Pairs:
    """Pairs of the named frames, `db_from_query = inverse(world_from_db) @ world_from_query`."""
    db_from_query = np.empty((len(scene), 4, 4))
    for index, frames in enumerate(scenes):
        rows = np.flatnonzero(scene == index)
        world_from_db = frames.world_from_cam[db[rows]]
        world_from_query = frames.world_from_cam[query[rows]]
        db_from_query[rows] = inverse_rigid(world_from_db) @ world_from_query
    return Pairs(scene, db, query, db_from_query, overlap)


def inverse_rigid(a_from_b: Float[np.ndarray, "*n 4 4"]) -> Float[np.ndarray, "*n 4 4"]:
    """b_from_a of rigid transforms."""
    rotation = np.swapaxes(a_from_b[..., :3, :3], -1, -2)
    b_from_a = np.zeros_like(a_from_b)
    b_from_a[..., :3, :3] = rotation
    b_from_a[..., :3, 3] = -(rotation @ a_from_b[..., :3, 3:])[..., 0]
    b_from_a[..., 3, 3] = 1.0
    return b_from_a


def mine_pairs(scenes: Sequence[PosedFrames], *, num_pairs: int, seed: int = 0) -> Pairs:
    """Random pairs within scenes: at most 60 deg and 3 m apart."""
    rng = np.random.default_rng(seed)
    sizes = np.array([len(frames) for frames in scenes])
    scene = rng.choice(len(scenes), 50 * num_pairs, p=sizes / sizes.sum())
    db = rng.integers(sizes[scene])
    query = rng.integers(sizes[scene])
    pairs = make_pairs(scenes, scene, db, query)
    cos = (np.trace(pairs.db_from_query[:, :3, :3], axis1=1, axis2=2) - 1) / 2
    baseline = np.linalg.norm(pairs.db_from_query[:, :3, 3], axis=1)
    kept = np.flatnonzero((db != query) & (cos > 0.5) & (baseline < 3))[:num_pairs]
    if not len(kept):
        raise UsageError("no two frames look at the same place; give more frames of each scene")
    return pairs.select(kept)

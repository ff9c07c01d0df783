"""Which pairs a training set should hold: a histogram each of rotation, baseline and overlap."""

import dataclasses
import math

import numpy as np
from jaxtyping import Float, Int

RAKING_SWEEPS = 100


@dataclasses.dataclass(frozen=True)
class Bins:
    """A histogram: `edges` ascending, half open; `weights` one fewer, of any sum.

    What lies outside the edges is not wanted; within a bin pairs are drawn evenly.
    """

    edges: tuple[float, ...]
    weights: tuple[float, ...] = (1.0,)

    def __post_init__(self):
        if len(self.weights) != len(self.edges) - 1:
            raise ValueError(f"{len(self.edges)} edges need {len(self.edges) - 1} weights: {self}")
        if any(a >= b for a, b in zip(self.edges, self.edges[1:])):
            raise ValueError(f"edges must ascend: {self.edges}")
        if min(self.weights) < 0 or not sum(self.weights) > 0:
            raise ValueError(f"weights must be positive: {self.weights}")

    def __len__(self) -> int:
        return len(self.weights)

    @property
    def shares(self) -> Float[np.ndarray, " bins"]:
        """The weights, of sum 1."""
        return np.array(self.weights, np.float64) / sum(self.weights)

    def index(self, values: Float[np.ndarray, "*n"]) -> Int[np.ndarray, "*n"]:
        """The bin of each value, -1 outside."""
        index = np.full(values.shape, -1, np.int16)
        for edge in self.edges:
            index += values >= edge  # a few sweeps over the array; a binary search is slower
        index[index == len(self)] = -1
        return index


@dataclasses.dataclass(frozen=True)
class PairTarget:
    """The wanted distribution of pairs, by its three marginals."""

    rotation_deg: Bins
    baseline_m: Bins
    overlap: Bins

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self.rotation_deg), len(self.baseline_m), len(self.overlap)


TARGETS = {
    # Marginals of the 10,402 validation pairs that the authors of arXiv 1707.09733 published for
    # 7 Scenes, in thousandths; the 10 beyond 120 deg are counted in the last two bins of rotation.
    "paper": PairTarget(
        rotation_deg=Bins(
            (0, 5, 7, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60, 90, 120),
            (28, 21, 38, 92, 122, 135, 124, 124, 112, 79, 52, 28, 12, 24, 9),
        ),
        baseline_m=Bins(
            (0.001, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2, 2.25, 2.5, 3, 3.6),
            (23, 30, 39, 113, 167, 151, 144, 118, 83, 57, 31, 19, 17, 7),
        ),
        overlap=Bins((0.03, 1.01)),
    ),
    # Such as a query has with the images that retrieval finds: what the paper's list has few of.
    "neighbors": PairTarget(
        rotation_deg=Bins((0, 5, 10, 15, 20, 30, 45), (10, 20, 25, 20, 20, 5)),
        baseline_m=Bins((0.001, 0.1, 0.2, 0.3, 0.5, 0.75, 1), (10, 20, 25, 25, 15, 5)),
        overlap=Bins((0.2, 1.01)),
    ),
    # Whatever shares enough of its view to be matched; free of scale.
    "overlapping": PairTarget(
        rotation_deg=Bins((0, 45)),
        baseline_m=Bins((1e-9, math.inf)),
        overlap=Bins((0.15, 1.01)),
    ),
}


def allot(
    num_pairs: int,
    available: Int[np.ndarray, "*cells"],
    prior: Float[np.ndarray, "*cells"],
    marginals: list[Float[np.ndarray, " _"]],
    rng: np.random.Generator,
) -> Int[np.ndarray, "*cells"]:
    """How many pairs to draw from each cell of a table, so that its marginals come out as wanted.

    Raking (iterative proportional fitting) from the prior, with each cell capped at what it has:
    of the tables with the wanted marginals this is the one nearest to the prior. A marginal's bin
    with nothing in it is left out and the others scaled up; where the cells run out the sum falls
    short of `num_pairs`.

    Args:
      available: pairs at hand per cell.
      prior: how often pairs of the cell occur, up to scale.
      marginals: wanted shares along each axis, each of sum 1.
    """
    table = np.where(available > 0, prior, 0.0)
    if not table.any():
        return np.zeros_like(available)
    axes = range(table.ndim)
    others = [tuple(a for a in axes if a != axis) for axis in axes]
    wanted = []
    for axis, shares in enumerate(marginals):
        shares = np.where(available.any(axis=others[axis]), shares, 0.0)
        wanted.append(num_pairs * shares / max(shares.sum(), 1e-300))
    for _ in range(RAKING_SWEEPS):
        for axis in axes:
            have = table.sum(axis=others[axis])
            scale = np.divide(wanted[axis], have, out=np.zeros_like(have), where=have > 0)
            table = np.minimum(table * np.expand_dims(scale, others[axis]), available)
    # Rounding the running sum keeps every stretch of cells within one pair of its share.
    running = np.floor(np.cumsum(table.ravel()) + rng.random())
    return np.diff(running, prepend=0.0).astype(np.int64).reshape(table.shape)

"""Every pair of a scene's frames, past a reservoir for each bin of rotation and baseline."""

import dataclasses
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.transform import Rotation

from jaxreloc.data.pairing.pair_target import Bins
from jaxreloc.formats.frames import PosedFrames

MAX_PARTNERS = 8192  # a frame is tried with, on average; in larger scenes pairs are sampled
PAIRS_PER_BLOCK = 1 << 18


@dataclasses.dataclass(frozen=True)
class Candidates:
    """A sample of the pairs of one scene, `first < second`, at most so many in a bin."""

    first: Int[np.ndarray, " n"]  # frame index
    second: Int[np.ndarray, " n"]
    bin: Int[np.ndarray, " n"]  # rotation bin * number of baseline bins + baseline bin
    key: Float[np.ndarray, " n"]  # random; by ascending key, pairs of a bin come in random order
    population: Int[np.ndarray, " bins"]  # pairs there are in each bin; estimated if sampled


def sample_candidates(
    frames: PosedFrames,
    rotation_deg: Bins,
    baseline_m: Bins,
    capacity: Int[np.ndarray, " bins"],
    rng: np.random.Generator,
) -> Candidates:
    """At most `capacity` pairs per (rotation, baseline) bin, all pairs of a bin equally likely.

    Of a scene of more than MAX_PARTNERS + 1 frames so large a share of the pairs is looked at, each
    with the same probability, that a frame has MAX_PARTNERS partners on average.
    """
    edges = np.array(rotation_deg.edges)
    half_sine_edges = np.where(edges < 180, np.sin(np.radians(edges) / 2) ** 2, np.inf)
    by_rotation = dataclasses.replace(rotation_deg, edges=tuple(half_sine_edges))
    by_distance = dataclasses.replace(baseline_m, edges=tuple(np.square(baseline_m.edges)))
    share = min(1.0, MAX_PARTNERS / max(1, len(frames) - 1))
    reservoir = _Reservoir(capacity, share)
    for rows, columns, half_sine_squared, distance_squared in _pair_blocks(frames, share, rng):
        rotation_bin = by_rotation.index(half_sine_squared)
        baseline_bin = by_distance.index(distance_squared)
        wanted = (rotation_bin >= 0) & (baseline_bin >= 0) & (rows[:, None] < columns[None, :])
        i, j = np.nonzero(wanted)
        bins = rotation_bin[i, j].astype(np.int64) * len(baseline_m) + baseline_bin[i, j]
        reservoir.offer(rows[i], columns[j], bins, rng)
    return reservoir.contents()


def _pair_blocks(
    frames: PosedFrames, share: float, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, ...]]:
    """Yields frames along rows, frames along columns, and between them sin^2 of half the rotation
    angle and the squared distance. A block has each of the later frames as a column with
    probability `share`.

    Written out by components: a matrix product's rounding would depend on the machine, and with it
    the pairs.
    """
    q = Rotation.from_matrix(frames.world_from_cam[:, :3, :3]).as_quat().astype(np.float32)
    centre = frames.world_from_cam[:, :3, 3]
    centre = (centre - centre[:1]).astype(np.float32)
    n = len(frames)
    start = 0
    while start < n - 1:
        columns = np.arange(start + 1, n)
        expected = share * len(columns)
        # Not by the number drawn: rows must not depend on which columns they meet.
        stop = min(n, start + max(1, int(PAIRS_PER_BLOCK / expected)))
        if share < 1:
            drawn = int(expected + rng.random())  # rounded up or down, right on average
            columns = np.sort(rng.choice(columns, drawn, replace=False))
        rows = np.arange(start, stop)
        dot = sum(q[rows, None, k] * q[None, columns, k] for k in range(4))
        squared = sum((centre[rows, None, k] - centre[None, columns, k]) ** 2 for k in range(3))
        yield rows, columns, np.maximum(1 - dot**2, 0), squared
        start = stop


class _Reservoir:
    """Keeps the pairs with the smallest random keys, up to a capacity per bin, of a `share` of the
    pairs there are."""

    def __init__(self, capacity: Int[np.ndarray, " bins"], share: float):
        self._capacity = capacity
        self._share = share
        self._largest_key = np.where(capacity > 0, np.float32(1), np.float32(0))
        self._offered = np.zeros(len(capacity), np.int64)
        none = np.zeros(0, np.int64)
        self._kept = [(none, none, none, np.zeros(0, np.float32))]
        self._size = 0

    def offer(self, first, second, bins, rng: np.random.Generator) -> None:
        self._offered += np.bincount(bins, minlength=len(self._capacity))
        key = rng.random(len(bins), dtype=np.float32)
        low = key < self._largest_key[bins]
        self._kept.append((first[low], second[low], bins[low], key[low]))
        self._size += np.count_nonzero(low)
        if self._size > 2 * self._capacity.sum():
            self._shrink()

    def contents(self) -> Candidates:
        self._shrink()
        population = np.rint(self._offered / self._share).astype(np.int64)
        return Candidates(*self._kept[0], population=population)

    def _shrink(self) -> None:
        first, second, bins, key = (np.concatenate(part) for part in zip(*self._kept))
        order = np.lexsort((key, bins))
        counts = np.bincount(bins, minlength=len(self._capacity))
        starts = np.cumsum(counts) - counts
        rank = np.arange(len(bins)) - starts[bins[order]]
        chosen = order[rank < self._capacity[bins[order]]]
        self._kept = [(first[chosen], second[chosen], bins[chosen], key[chosen])]
        self._size = len(chosen)
        full = (counts >= self._capacity) & (self._capacity > 0)
        last = (starts + self._capacity - 1)[full]
        self._largest_key[full] = key[order[last]]

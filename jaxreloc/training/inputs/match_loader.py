"""Batches of matched pairs; which pairs a batch has depends on the seed and the step alone."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from jaxreloc.training.inputs.batch_plan import BatchPlan
from jaxreloc.training.inputs.matched_pairs import MatchedPairs
from jaxreloc.usage import UsageError

MATCH_FIELDS = ("x_query", "x_db", "confidence", "mass", "reverse")
# Of the view; pairs that share less, but something, can hardly be told from others.
MIN_OVERLAP = 0.1


class MatchLoader:
    """Iterates batches of matched pairs, dicts of arrays:

      matches: a dict of RayMatches' fields, float32 [B, K, ...].
      db_from_query: float32 [B, 7], `wxyz_xyz`.
      overlaps: bool [B], whether the pair shares at least MIN_OVERLAP of its view.
      mask: bool [B], False on the padding of the last evaluation batch.
      pair_index: int64 [B], into the pairs; -1 on padding.
      draw: uint32 [B], random numbers that seed the augmentation.

    In training every pair is drawn with its weight, with replacement, without end; in evaluation
    the pairs come once, in their own order.
    """

    def __init__(
        self,
        pairs: MatchedPairs,
        *,
        batch_size: int,
        train: bool,
        weights: Float[np.ndarray, " n"] | None = None,
        seed: int = 0,
        process_index: int = 0,
        process_count: int = 1,
    ):
        """
        Args:
          batch_size: pairs in the global batch, divided evenly over the processes.
          weights: how often each pair is drawn, up to scale; all alike by default.

        Raises:
          UsageError: no pairs, or a batch that does not divide.
        """
        if not len(pairs):
            raise UsageError("no matched pairs to load; mine some, or widen the data's splits")
        self._pairs, self._train = pairs, train
        self._plan = BatchPlan(
            len(pairs),
            batch_size=batch_size,
            train=train,
            seed=seed,
            process_index=process_index,
            process_count=process_count,
        )
        if weights is not None:
            self._cumulative = np.cumsum(weights / np.sum(weights))
        else:
            self._cumulative = np.arange(1, len(pairs) + 1) / len(pairs)

    def __len__(self) -> int:
        """Batches that hold as many pairs as there are."""
        return len(self._plan)

    def batches(self, start_step: int = 0) -> Iterator[dict]:
        """Batches from `start_step` on: the same ones as an iteration from 0 reaches there."""
        plan = self._plan
        for step, rng in plan.steps(start_step):
            index = self._drawn(rng) if self._train else plan.in_order(step)
            draw = rng.integers(1 << 32, size=plan.batch_size, dtype=np.uint32)
            yield self._batch(index[plan.rows], draw[plan.rows])

    def _drawn(self, rng: np.random.Generator) -> np.ndarray:
        index = np.searchsorted(self._cumulative, rng.random(self._plan.batch_size), side="right")
        return np.minimum(index, len(self._pairs) - 1)

    def _batch(self, index: np.ndarray, draw: np.ndarray) -> dict:
        pairs = self._pairs
        return {
            "matches": {name: getattr(pairs, name)[index] for name in MATCH_FIELDS},
            "db_from_query": pairs.db_from_query[index],
            "overlaps": pairs.overlap[index] >= MIN_OVERLAP,
            "mask": index >= 0,
            "pair_index": index,
            "draw": draw,
        }

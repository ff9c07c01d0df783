"""Which pairs are in which batch, and whose share of it a process has."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int

from jaxreloc.data.loader import check_divides


class BatchPlan:
    """The batches of a loader of pairs.

    In training they have no end; in evaluation the pairs come once, and the last batch is filled
    up. What is drawn for a batch depends on the seed and the step alone.

    Attributes:
      batch_size: pairs in a global batch.
      rows: of a global batch, this process's share.
    """

    def __init__(
        self,
        num_pairs: int,
        *,
        batch_size: int,
        train: bool,
        seed: int,
        process_index: int,
        process_count: int,
    ):
        """
        Raises:
          UsageError: the batch does not divide over the processes.
        """
        check_divides(batch_size, process_count)
        self.batch_size = batch_size
        self.rows = slice(process_index, None, process_count)
        self._num_pairs, self._train, self._seed = num_pairs, train, seed

    def __len__(self) -> int:
        """Batches that hold as many pairs as there are."""
        return -(-self._num_pairs // self.batch_size)

    def steps(self, start: int) -> Iterator[tuple[int, np.random.Generator]]:
        """Each step from `start` on, and what its batch is drawn with."""
        step = start
        while self._train or step < len(self):
            yield step, np.random.default_rng([self._seed, step])
            step += 1

    def in_order(self, step: int) -> Int[np.ndarray, " batch"]:
        """The pairs of a global batch in their own order; -1 beyond the last one."""
        index = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        return np.where(index < self._num_pairs, index, -1)

"""Stopping at the first step whose loss is not a number, with what is needed to find out why."""

import math
import pathlib
from collections.abc import Callable, Mapping

import jax
import numpy as np
from flax import jax_utils

from jaxreloc import files
from jaxreloc.training.tasks.task import Examples
from jaxreloc.usage import UsageError

NAMES_SHOWN = 4
WATCHED = ("loss", "gradient_norm")


class FiniteWatch:
    """Checks each step's loss and gradient norm one step late, so that devices never wait.

    Args:
      pairs: what the batches' `pair_index` refers to.
      report: where to list the frames of a bad batch.
      last_checkpoint: the newest complete checkpoint, if any; asked only in case of need.
    """

    def __init__(
        self,
        pairs: Examples,
        report: pathlib.Path,
        last_checkpoint: Callable[[], pathlib.Path | None],
    ):
        self._pairs, self._report, self._last_checkpoint = pairs, report, last_checkpoint
        self._pending: tuple[int, Mapping[str, jax.Array], jax.Array] | None = None

    def follow(self, step: int, metrics: Mapping[str, jax.Array], pair_index: jax.Array) -> None:
        """Checks the step before and keeps this one for later."""
        self.check()
        self._pending = step, {name: metrics[name] for name in WATCHED}, pair_index

    def check(self) -> None:
        """Checks the step that was kept; to be called before its parameters are saved.

        Raises:
          UsageError: it is not finite; names the step, the frames and the last good checkpoint.
        """
        if self._pending is None:
            return
        step, metrics, pair_index = self._pending
        self._pending = None
        values = {name: float(x) for name, x in jax_utils.unreplicate(metrics).items()}
        if all(math.isfinite(value) for value in values.values()):
            return
        names = [" ".join(self._pairs.frame_names(i)) for i in np.asarray(pair_index).ravel()]
        files.write_text(self._report, "\n".join(names) + "\n")
        raise UsageError(
            f"step {step}: loss {values['loss']}, gradient norm {values['gradient_norm']}; the "
            f"batch's pairs: {', '.join(names[:NAMES_SHOWN])}, all {len(names)} in {self._report}; "
            f"the last good checkpoint: {self._last_checkpoint() or 'none'}; lower "
            "optimizer.learning_rate, or leave bad frames out"
        )

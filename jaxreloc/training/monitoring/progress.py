"""What a run shows while it runs: a bar on a terminal, plain lines elsewhere."""

import math
import sys
import time
from typing import TextIO

import tqdm

from jaxreloc.progress_bars import MINUTE


class Progress:
    """Shows loss, pairs per second and time left of the steps `start` to `total`.

    On a terminal a bar is redrawn in place; elsewhere `report` prints a line, but besides the first
    and that of the last step no more than one a minute. Silent where `shown` is False, as in all
    processes of a run but the first.
    """

    def __init__(
        self, total: int, batch_size: int, *, shown: bool = True, out: TextIO | None = None
    ):
        self._out = out or sys.stdout
        self._total, self._batch_size, self._shown = total, batch_size, shown
        self._bar: tqdm.tqdm | None = None
        self._mark = (0, time.perf_counter())
        self._said_at = -math.inf

    def start(self, step: int) -> None:
        """Starts counting time at `step`, the last one done."""
        self._mark = (step, time.perf_counter())
        if self._bar is None and self._shown and self._out.isatty():
            self._bar = tqdm.tqdm(
                total=self._total, initial=step, file=self._out, unit="step", dynamic_ncols=True
            )

    def advance(self) -> None:
        """One more step is under way."""
        if self._bar is not None:
            self._bar.update()

    def report(self, step: int, loss: float) -> float:
        """Shows the loss of `step`; returns the pairs per second since the last report or start."""
        last_step, last_time = self._mark
        self._mark = (step, time.perf_counter())
        pairs = (step - last_step) * self._batch_size
        pairs_per_second = pairs / max(self._mark[1] - last_time, 1e-9)
        if self._bar is not None:
            self._bar.set_postfix_str(f"loss {loss:.4g}, {pairs_per_second:.3g} pairs/s")
        elif step >= self._total or self._mark[1] - self._said_at >= MINUTE:
            self._said_at = self._mark[1]
            left = (self._total - step) * self._batch_size / max(pairs_per_second, 1e-9)
            self.say(
                f"step {step}/{self._total}: loss {loss:.4g}, {pairs_per_second:.3g} pairs/s, "
                f"{tqdm.tqdm.format_interval(left)} left"
            )
        return pairs_per_second

    def say(self, line: str) -> None:
        """Prints a line that stays."""
        if self._bar is not None:
            self._bar.write(line, file=self._out)
        elif self._shown:
            print(line, file=self._out, flush=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

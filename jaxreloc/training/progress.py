"""What a run shows while it runs: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Mapping
from typing import TextIO

import tqdm


class Progress:
    """Shows loss, pairs per second and time left of the steps `start` to `total`.

    On a terminal a bar is redrawn in place; elsewhere `report` prints a line.
    """

    def __init__(self, start: int, total: int, batch_size: int, out: TextIO | None = None):
        self._out = out or sys.stdout
        self._total, self._batch_size = total, batch_size
        self._mark = (start, time.perf_counter())
        self._bar = None
        if self._out.isatty():
            self._bar = tqdm.tqdm(
                total=total, initial=start, file=self._out, unit="step", dynamic_ncols=True
            )

    def step(self) -> None:
        """One more step is done."""
        if self._bar is not None:
            self._bar.update()

    def report(self, step: int, metrics: Mapping[str, float]) -> float:
        """Shows the figures of `step`; returns the pairs per second since the last report."""
        last_step, last_time = self._mark
        self._mark = (step, time.perf_counter())
        seconds = self._mark[1] - last_time
        pairs_per_second = (step - last_step) * self._batch_size / max(seconds, 1e-9)
        parts = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        if self._bar is not None:
            self._bar.set_postfix_str(f"{parts}, {pairs_per_second:.3g} pairs/s")
        else:
            left = (self._total - step) * self._batch_size / pairs_per_second
            self.say(
                f"step {step}/{self._total}  {parts}  {pairs_per_second:.3g} pairs/s  "
                f"{tqdm.tqdm.format_interval(left)} left"
            )
        return pairs_per_second

    def say(self, line: str) -> None:
        """Prints a line that stays."""
        if self._bar is not None:
            self._bar.write(line, file=self._out)
        else:
            print(line, file=self._out, flush=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

"""How far a long job has come: a bar on a terminal, a line a minute elsewhere."""

import sys
from collections.abc import Iterable
from typing import TextIO

import tqdm

MINUTE = 60.0
# Of what is counted in units, and of what only its share is known.
LINES = (
    "{desc}: {n_fmt} of {total_fmt} {unit}s, {remaining} left",
    "{desc}: {percentage:.0f}%, {remaining} left",
)
BARS = (None, "{desc}: {percentage:3.0f}%|{bar}| {elapsed}, {remaining} left")


def progress_bar(
    items: Iterable | None = None,
    what: str = "",
    unit: str = "image",
    *,
    total: float | None = None,
    counted: bool = True,
) -> tqdm.tqdm:
    """A `tqdm` on standard error, with the time that is left; gone when it is done.

    Where that is no terminal a line stands for it once a minute, so that nothing is written of a
    job that takes less.

    Args:
      items: what is iterated over; None: `update` counts.
      total: of the items, where they do not know their number.
      counted: the units mean something to a reader; if not, percents are shown.
    """
    out = sys.stderr
    if out.isatty():
        options = {"file": out, "bar_format": BARS[not counted]}
    else:
        options = {"file": _Lines(out), "bar_format": LINES[not counted], "delay": MINUTE}
        options |= {"mininterval": MINUTE, "maxinterval": MINUTE}
    return tqdm.tqdm(items, what, total, leave=False, unit=unit, miniters=0, **options)


class _Lines:
    """What tqdm writes over its last bar, as lines."""

    def __init__(self, out: TextIO):
        self._out = out

    def write(self, text: str) -> None:
        if line := text.strip():
            print(line, file=self._out, flush=True)

    def flush(self) -> None:
        self._out.flush()

"""Wall time by stage of the pipeline."""

import contextlib
import time
from collections.abc import Iterator, Sequence

STAGES = ("prepare", "backbone", "retrieval", "relate", "fusion")


class StageClock:
    """Adds up milliseconds under the name of each stage."""

    def __init__(self, stage_ms: dict[str, float] | None = None):
        self.stage_ms = dict.fromkeys(STAGES, 0.0) | (stage_ms or {})

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times its block; the block must wait for its own device results."""
        start = time.perf_counter()
        yield
        self.stage_ms[name] += 1e3 * (time.perf_counter() - start)


def added(spent: Sequence[dict[str, float]]) -> dict[str, float]:
    """The milliseconds of each stage."""
    return {stage: sum(x[stage] for x in spent) for stage in spent[0]}

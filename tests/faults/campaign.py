"""The fault campaign: `make faults`, an hour of broken files, and what came of each.

It goes on from the batch at which an earlier one stopped, with the seed that is printed, and keeps
every case with a fault under OUT/failures. A batch again: --seed, --target=NAME, --batch=NUMBER.
"""

import argparse
import collections
import json
import logging
import pathlib
import random
import secrets
import time
import zlib

import hypothesis
from hypothesis import strategies as st

from tests.faults import scenarios
from tests.faults.processes import can_mount
from tests.faults.scenarios import NEED_MOUNTS, SCENARIOS
from tests.faults.targets import TARGETS
from tests.faults.worker import CLEAN, FAULTS, OTHER, SAME, Outcome, Worker

BATCH = 1000
CASES_OF_SCENARIO = 25  # a batch
ALL = (*TARGETS, *SCENARIOS)
OUT = pathlib.Path("runs/faults")
COLUMNS = ("cases", CLEAN, SAME, OTHER, *FAULTS)


def run_batch(worker: Worker, seed: int, count: int, found) -> None:
    """Calls `found(name, broken, outcome)` for `count` broken files."""
    names = sorted(worker.files)

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(data=st.data())
    def batch(data):
        name = data.draw(st.sampled_from(names), label="file")
        broken = data.draw(worker.target.broken(worker.files[name]), label="content")
        found(name, broken, worker.run(name, broken))

    batch()


def batch_seed(seed: int, target: str, batch: int) -> int:
    """The seed of one batch."""
    return zlib.crc32(f"{seed} {target} {batch}".encode())


class Campaign:
    """Counts by target, kept in a file."""

    def __init__(self, out: pathlib.Path, seed: int | None):
        self._path, self._failures = out / "campaign.json", out / "failures"
        self._failures.mkdir(parents=True, exist_ok=True)
        if self._path.exists():
            kept = json.loads(self._path.read_text())
            self.seed = kept["seed"]
            self.batches = collections.Counter(kept["batches"])
            self.counts = {name: collections.Counter(x) for name, x in kept["counts"].items()}
        else:
            self.seed = secrets.randbits(32) if seed is None else seed
            self.batches, self.counts = collections.Counter(), {}

    def run(self, target: str, batch: int, count: int = BATCH) -> None:
        counts: collections.Counter[str] = collections.Counter()
        seed = batch_seed(self.seed, target, batch)

        def found(name: str, broken: bytes | str, outcome: Outcome) -> None:
            counts[outcome.kind] += 1
            if outcome.kind in FAULTS:
                self._keep(target, batch, counts.total(), name, broken, outcome)

        if target in SCENARIOS:
            for case in range(min(count, CASES_OF_SCENARIO)):
                outcome = scenarios.run(target, seed + case)
                found(f"seed {seed + case}", "", outcome)
        else:
            with Worker(target, seed) as worker:
                run_batch(worker, seed, count, found)
        self.counts[target] = self.counts.get(target, collections.Counter()) + counts
        self.batches[target] = max(self.batches[target], batch + 1)
        text = {"seed": self.seed, "batches": self.batches, "counts": self.counts}
        temporary = self._path.with_suffix(".new")
        temporary.write_text(json.dumps(text, indent=1))
        temporary.replace(self._path)

    def _keep(self, target, batch, number, name, broken, outcome) -> None:
        stem = f"{target.replace(' ', '_').replace('/', '-')}-{batch}-{number}"
        text = f"{target}: {name}\n{outcome.kind}\n{outcome.detail}\n"
        if isinstance(broken, bytes):
            (self._failures / f"{stem}.broken").write_bytes(broken)
        else:
            text += f"{broken}\n"
        (self._failures / f"{stem}.txt").write_text(text, errors="backslashreplace")

    def table(self) -> str:
        rows = [["kind", *COLUMNS]]
        total: collections.Counter[str] = collections.Counter()
        for target, counts in self.counts.items():
            total += counts
            rows.append([target, *self._row(counts)])
        rows.append(["all", *self._row(total)])
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        return "\n".join(
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])
            for row in rows
        )

    @staticmethod
    def _row(counts: collections.Counter[str]) -> list[str]:
        return [str(counts.total()), *(str(counts[kind]) for kind in COLUMNS[1:])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--out", type=pathlib.Path, default=OUT)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--target", choices=ALL, action="append")
    parser.add_argument("--batch", type=int, help="only this one of the target")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    campaign = Campaign(arguments.out, arguments.seed)
    print(f"seed {campaign.seed}; {arguments.out}", flush=True)
    targets = arguments.target or [x for x in ALL if x not in NEED_MOUNTS or can_mount()]
    if arguments.batch is not None:
        for target in targets:
            campaign.run(target, arguments.batch)
    end = time.monotonic() + 60 * arguments.minutes
    while arguments.batch is None and time.monotonic() < end:
        least = min(campaign.batches[target] for target in targets)
        behind = [target for target in targets if campaign.batches[target] == least]
        target = random.choice(behind)
        campaign.run(target, campaign.batches[target])
    print(campaign.table())


if __name__ == "__main__":
    main()

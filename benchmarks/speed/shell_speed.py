"""Seconds that one photograph asked from the shell takes, cold, warm, and where they go.

  python -m benchmarks.speed.shell_speed --map=MAP --image=PHOTO [--cores=1] [--runs=5]

`jaxreloc query` is run with an empty compile cache, then again and again. Beside it stand the steps
that every such command takes: starting Python, importing JAX, `import jaxreloc` and the help. Of
several runs the least is told, since other programs may be running; the processor's time counts all
threads and hardly depends on them.
"""

import dataclasses
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import tabulate
from absl import flags

from jaxreloc.usage import UsageError, run_script

_MAP = flags.DEFINE_string("map", None, "A map.", required=True)
_IMAGE = flags.DEFINE_string("image", None, "A photograph taken there.", required=True)
_INTRINSICS = flags.DEFINE_string("intrinsics", None, "Of the photograph; none: searched.")
_CORES = flags.DEFINE_integer("cores", 1, "Cores that may be used.")
_RUNS = flags.DEFINE_integer("runs", 5, "Of each command; the least is told.")

STEPS = {
    "python": ["-c", "pass"],
    "import jax": ["-c", "import jax; jax.devices()"],
    "import jaxreloc": ["-c", "import jaxreloc"],
    "query --help": ["-m", "jaxreloc", "query", "--help"],
}


@dataclasses.dataclass(frozen=True)
class Run:
    """Of one command."""

    wall_s: float
    cpu_s: float
    said: str  # on stderr

    @property
    def stages(self) -> str:
        """The query's own line of where its seconds went."""
        lines = [line for line in self.said.splitlines() if "libraries" in line]
        return lines[-1] if lines else ""


def run(arguments: list[str], cache: str) -> Run:
    """Runs Python in a process of its own.

    Raises:
      UsageError: it failed.
    """
    before, start = _children_s(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"JAX_COMPILATION_CACHE_DIR": cache},
        capture_output=True,
        text=True,
    )
    elapsed_s = time.perf_counter() - start
    if done.returncode:
        raise UsageError((done.stderr.splitlines() or [f"{arguments} failed"])[-1])
    return Run(elapsed_s, _children_s() - before, done.stderr)


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def row(name: str, runs: list[Run]) -> dict[str, object]:
    """The least of each; the stages of the fastest run."""
    return {
        "": name,
        "seconds": min(x.wall_s for x in runs),
        "processor": min(x.cpu_s for x in runs),
        "where they go": min(runs, key=lambda x: x.wall_s).stages,
    }


def main(argv: list[str]) -> None:
    del argv
    cores = sorted(os.sched_getaffinity(0))[-_CORES.value :]
    os.sched_setaffinity(0, cores)  # children keep it
    with tempfile.TemporaryDirectory() as folder:
        cache = str(pathlib.Path(folder, "cache"))
        out = pathlib.Path(folder, "answer.jsonl")
        query = ["-m", "jaxreloc", "query", f"--map={_MAP.value}", f"--images={_IMAGE.value}"]
        query += [f"--out={out}", "--format=jsonl"]
        query += [f"--intrinsics={_INTRINSICS.value}"] if _INTRINSICS.value else []
        rows = [row("query, cold", [run(query, cache)])]
        rows.append(row("query, warm", [run(query, cache) for _ in range(_RUNS.value)]))
        for name, arguments in STEPS.items():
            rows.append(row(name, [run(arguments, cache) for _ in range(_RUNS.value)]))
        kept = sum(path.stat().st_size for path in pathlib.Path(cache).rglob("*.program"))
    print(tabulate.tabulate(rows, headers="keys", tablefmt="github", floatfmt=".2f"))
    print(f"{len(cores)} core(s); {kept / 1e6:.1f} MB of programs are kept")


if __name__ == "__main__":
    run_script(main)

"""A server under minutes of load by Locust: errors, waiting, memory.

  pip install locust==2.47.0    (in an environment of its own: it replaces sockets)
  jaxreloc map build --images=PHOTOS --out=MAP
  python -m benchmarks.serving.serving_load --map=MAP --images=PICTURES [--minutes=10] [--users=8]
      [--locust=PROGRAM]

It starts `jaxreloc serve` and users who ask again as soon as they are answered (`locust_users`).
Nobody tells a focal length: it is EXIF's or the map's, and searched. One in eleven requests is no
query: it has to be refused in its way, or looks at the cameras. Memory is that of the server's
process. Before, as many clients ask until they are answered fast, which compiles what batches need.
"""

import concurrent.futures
import contextlib
import json
import os
import pathlib
import subprocess
import tempfile
import time

import tabulate
from absl import app, flags

from benchmarks.serving import server_process
from jaxreloc.usage import UsageError

_MAP = flags.DEFINE_string("map", None, "Folder of the map.", required=True)
_IMAGES = flags.DEFINE_string("images", None, "Folder of the queries.", required=True)
_MINUTES = flags.DEFINE_float("minutes", 10.0, "Of load.", lower_bound=0.1)
_USERS = flags.DEFINE_integer("users", 8, "At once.", lower_bound=1)
_LOCUST = flags.DEFINE_string("locust", "locust", "The program.")

USERS_FILE = pathlib.Path(__file__).with_name("locust_users.py")
SAMPLES = 200  # of the memory
FAST_S, MOST_ROUNDS = 15.0, 100


def warm_up(server: server_process.Server) -> None:
    """Asks by as many clients as there will be users, until all are answered fast.

    Raises:
      UsageError: that does not come.
    """
    pictures = [path.read_bytes() for path in sorted(pathlib.Path(_IMAGES.value).iterdir())]

    def ask(number: int) -> float:
        start = time.perf_counter()
        with contextlib.suppress(UsageError):  # of a server that compiles
            server.client.localize(pictures[number % len(pictures)], map=server.map_name)
        return time.perf_counter() - start

    with concurrent.futures.ThreadPoolExecutor(_USERS.value) as clients:
        for _ in range(MOST_ROUNDS):
            if max(clients.map(ask, range(2 * _USERS.value))) < FAST_S:
                return
    raise UsageError(f"{_MAP.value}: a query takes more than {FAST_S:g} s; try a calmer machine")


def under_load(server: server_process.Server, statistics: pathlib.Path) -> list[float]:
    """Runs Locust, which writes its statistics; the server's memory on the way."""
    command = [_LOCUST.value, "--headless", "--locustfile", str(USERS_FILE), "--host", server.url]
    command += ["--users", str(_USERS.value), "--spawn-rate", str(_USERS.value), "--skip-log"]
    command += ["--run-time", f"{60 * _MINUTES.value:.0f}s", "--exit-code-on-error", "0"]
    command += ["--stop-timeout", "60", "--json-file", str(statistics.with_suffix(""))]
    environment = {
        **os.environ,
        "JAXRELOC_MAP": f"/maps/{server.map_name}",
        "JAXRELOC_QUERIES": os.path.abspath(_IMAGES.value),
    }
    memory = []
    with subprocess.Popen(command, env=environment) as locust:
        while locust.poll() is None:
            memory.append(server.memory_mb())
            time.sleep(60 * _MINUTES.value / SAMPLES)
    return memory


def main(argv: list[str]) -> None:
    del argv
    server = server_process.Server(_MAP.value)
    with tempfile.TemporaryDirectory() as folder:
        statistics = pathlib.Path(folder) / "statistics.json"
        warm_up(server)
        memory = under_load(server, statistics)
        found = json.loads(statistics.read_text())
    server.end()
    rows = [
        (
            one["name"],
            one["num_requests"],
            one["num_failures"],
            f"{one['num_requests'] / (60 * _MINUTES.value):.2f}",
            *(f"{quantile(one, share):.0f}" for share in (0.5, 0.99)),
        )
        for one in found
    ]
    header = ("request", "count", "errors", "a second", "median ms", "99th percentile")
    print(tabulate.tabulate(rows, header))
    growth = server_process.grown(memory) - 1
    print(f"memory {memory[-1]:.0f} MB, its last quarter over its second {growth:+.1%}")
    print(f"the server ended with status {server.process.returncode}")


def quantile(one: dict, share: float) -> float:
    """Of the milliseconds, which Locust counts in rounded steps."""
    counts = sorted((float(ms), count) for ms, count in one["response_times"].items())
    rest = share * sum(count for _, count in counts)
    for ms, count in counts:
        rest -= count
        if rest <= 0:
            return ms
    return float("nan")


if __name__ == "__main__":
    app.run(main)

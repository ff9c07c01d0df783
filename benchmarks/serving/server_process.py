"""`jaxreloc serve` in a process of its own, for benchmarks, and what it takes of the memory."""

import os
import pathlib
import subprocess
import sys
import threading
from collections.abc import Sequence

import numpy as np

import jaxreloc

QUARTERS = 4


class Server:
    """The process and a client of it.

    Attributes:
      url: of the server.
      map_name: of its one map.
    """

    def __init__(self, map_path: str):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "jaxreloc", "serve", f"--maps={map_path}", "--port=0"],
            stderr=subprocess.PIPE,
            text=True,
        )
        line = next(x for x in self.process.stderr if x.startswith("serving"))
        self.url = line.split()[-1]
        threading.Thread(target=self.process.stderr.read, daemon=True).start()
        self.client = jaxreloc.Client(self.url)
        (self.map_name,) = self.client.maps()

    def memory_mb(self) -> float:
        """What the process takes (Linux)."""
        statm = pathlib.Path(f"/proc/{self.process.pid}/statm").read_text().split()
        return int(statm[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    def end(self) -> None:
        """Ends the process, after what it answers."""
        self.process.terminate()
        self.process.wait()


def grown(memory: Sequence[float]) -> float:
    """The last quarter over the second one: the first is of caches that fill."""
    quarters = np.array_split(np.array(memory), QUARTERS)
    return float(np.median(quarters[-1]) / np.median(quarters[1]))

"""All of what is broken on purpose about processes and disks, by its name in the table.

A scenario is one case: it starts a process, spoils its work, and looks at what is on the disk.
"""

import contextlib
import pathlib
import shutil
import tempfile

import numpy as np

from jaxreloc.usage import UsageError
from tests.faults import kills, training_kills
from tests.faults.worker import WRONG, Outcome

SCENARIOS = {
    "killed: map add, remove": kills.kill_while_changing,
    "killed: map build": kills.kill_while_creating,
    "killed: map depth": kills.kill_while_adding_depth,
    "killed: query": kills.kill_while_answering,
    "killed: query --resume": kills.kill_while_resuming,
    "killed: writing a file": kills.kill_while_replacing,
    "killed: checkpoints": training_kills.kill_while_saving,
    "killed: matching of pairs": training_kills.kill_while_matching,
    "killed: building a dataset": training_kills.kill_while_building,
    "full disk: map add, remove": kills.full_disk_while_changing,
    "full disk: map build": kills.full_disk_while_creating,
    "full disk: query": kills.full_disk_while_answering,
    "full disk: checkpoints": training_kills.full_disk_while_saving,
    "full disk: matching of pairs": training_kills.full_disk_while_matching,
    "full small disk": kills.full_small_disk,
    "read-only folder": kills.read_only_folder,
    "read-only folder: training": training_kills.read_only_folder,
    "two writers: map add, remove": kills.two_writers,
    "two writers: map build": kills.two_writers_of_a_new_map,
    "two writers: query": kills.two_writers_of_answers,
    "two writers: checkpoints": training_kills.two_writers,
    "a reader during a writer": kills.reader_during_a_writer,
}
NEED_MOUNTS = ("full small disk",)


def run(scenario: str, seed: int) -> Outcome:
    """One case of a scenario."""
    folder = pathlib.Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    try:
        return SCENARIOS[scenario](folder, np.random.default_rng(seed))
    except UsageError as error:
        return Outcome(WRONG, str(error))
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(folder)

"""A run in a process of its own, for tests of several devices, several processes and sudden ends.

  python -m tests.training.worker WORKDIR JSON

JSON: `overrides` of tiny.config() by dotted names; `devices` to simulate; `coordinator`,
`num_processes`, `process_id`; `kill_in_save`, the step whose checkpoint is cut off by SIGKILL the
moment it would get its name; `slow_steps`, seconds that each step takes more.
"""

import json
import os
import pathlib
import signal
import sys
import time

import jax

from jaxreloc.training import distributed, loop
from tests.training import tiny


def main(workdir: str, options: dict) -> None:
    jax.config.update("jax_num_cpu_devices", options.get("devices", 1))
    distributed.initialize(
        options.get("coordinator"),
        options.get("num_processes"),
        options.get("process_id"),
        cluster=False,
    )
    tiny.install(setattr, lambda mapping, key, value: mapping.__setitem__(key, value))
    config = tiny.config()
    config.update_from_flattened_dict(options.get("overrides", {}))
    if "kill_in_save" in options:
        kill_when_named(pathlib.Path(workdir) / "checkpoints" / str(options["kill_in_save"]))
    if "slow_steps" in options:
        slow_down(options["slow_steps"])
    loop.train_and_evaluate(config.lock(), workdir)


def kill_when_named(path: pathlib.Path) -> None:
    """Kills this process when something written under another name is about to become `path`."""
    rename = os.rename

    def rename_or_die(source, target, *args, **options):
        if os.fspath(target) == str(path):
            os.kill(os.getpid(), signal.SIGKILL)
        return rename(source, target, *args, **options)

    os.rename = os.replace = rename_or_die


def slow_down(seconds: float) -> None:
    """Makes each step take `seconds` longer, so that a signal can meet the run on its way."""
    step = loop._Run.step

    def slow_step(run):
        time.sleep(seconds)
        step(run)

    loop._Run.step = slow_step


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))

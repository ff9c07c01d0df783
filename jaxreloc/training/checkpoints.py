"""Checkpoints of a run: written in the background, whole if they exist, checked on reading.

A checkpoint is a folder `WORKDIR/checkpoints/STEP` of Orbax: `state`, the whole TrainState as NumPy
arrays, and `record`, JSON that says where in the data the run is, with which config and which code.
Orbax gives the folder its name only when everything in it is written, so a process that dies in the
middle of a save leaves the checkpoint before it as the newest.
"""

import dataclasses
import json
import logging
import os
import pathlib
import re
import shutil
import time
import zlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import traverse_util
from jax.experimental import multihost_utils

from jaxreloc import files
from jaxreloc.training.state import TrainState, to_state_dict
from jaxreloc.usage import UsageError

KEPT = 3
REMOVAL_ATTEMPTS = 20
METADATA = "_CHECKPOINT_METADATA"  # Orbax's, in each checkpoint


@dataclasses.dataclass(frozen=True)
class Restored:
    """What a checkpoint held."""

    state: dict[str, Any]  # of one replica, as `to_state_dict` gives it
    record: dict[str, Any]


class Checkpoints:
    """The checkpoints in one folder; every process of a run calls every method.

    Args:
      folder: created if absent.
      say: shows a line to the user.

    Raises:
      UsageError: the folder cannot be written, or another program is writing there.
    """

    def __init__(self, folder: pathlib.Path, say: Callable[[str], None]):
        # Orbax reports every failure with its traceback; `say` has the one line that matters.
        logging.getLogger("absl").addFilter(_is_not_orbax)
        self._folder = folder.absolute()  # a relative path fails in the background, unseen
        self._say = say
        self._writing: int | None = None
        self._lock = None
        if jax.process_index() == 0:
            self._lock = files.lock_folder(
                self._folder,
                busy="another program is training there; wait for it, or give another --workdir",
                remedy="give another --workdir",
            )
        self._set_unreadable_aside()
        options = ocp.CheckpointManagerOptions(max_to_keep=KEPT)
        try:
            self._manager = ocp.CheckpointManager(self._folder, options=options)
        except Exception as error:
            raise UsageError(
                f"{self._folder}: checkpoints cannot be listed ({_reason(error)}); move the folder "
                "away to start anew"
            ) from error

    def newest(self) -> pathlib.Path | None:
        """The newest complete checkpoint."""
        step = self._manager.latest_step()
        return None if step is None else self._folder / str(step)

    def has(self, step: int) -> bool:
        """Whether the checkpoint of `step` is complete or being written."""
        return step == self._writing or step in self._manager.all_steps()

    def save(self, state: TrainState, record: dict[str, Any]) -> None:
        """Starts writing one replica's `state`; `wait` or the next `save` sees it through."""
        self.wait()
        named = to_state_dict(state)
        step = int(named["step"])
        record = record | {"checksums": _checksums(named)}
        record |= {"checksum": _record_checksum(record)}
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(named), record=ocp.args.JsonSave(record)
        )
        self._writing = step
        try:
            self._manager.save(step, args=items)
        except Exception as error:
            self._abandon(error)

    def wait(self) -> bool:
        """Waits until the save under way is complete; False if it failed, which has been said."""
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            self._abandon(error)
            return False
        self._writing = None
        return True

    def restore(self) -> Restored | None:
        """The newest checkpoint that every process can read; None where there is none.

        One that cannot be read is said, set aside as `STEP.corrupt`, and the one before is tried.

        Raises:
          UsageError: there are checkpoints and none can be read.
        """
        for step in sorted(self._manager.all_steps(), reverse=True):
            restored, reason = None, "another process cannot read it"
            try:
                restored = self._read(step)
            except Exception as error:
                reason = _reason(error)
            if _all_processes(restored is not None):
                return restored
            self._say(f"checkpoint {self._folder / str(step)} is damaged ({reason})")
            self._set_aside(step)
        if any(self._folder.glob("*.corrupt")):
            raise UsageError(
                f"{self._folder}: no checkpoint can be read; move the folder away to start anew"
            )
        return None

    def close(self) -> None:
        self.wait()
        self._manager.close()
        if self._lock is not None:
            os.close(self._lock)

    def _read(self, step: int) -> Restored:
        items = ocp.args.Composite(state=ocp.args.StandardRestore(), record=ocp.args.JsonRestore())
        restored = self._manager.restore(step, args=items)
        record = dict(restored.record)
        if record.pop("checksum", None) != _record_checksum(record):
            raise ValueError("the checksum of its record differs")
        checksums = record.pop("checksums")
        found = _checksums(restored.state)
        wrong = sorted(name for name in checksums | found if checksums.get(name) != found.get(name))
        if wrong:
            raise ValueError(f"checksums differ: {', '.join(wrong)}")
        return Restored(restored.state, record)

    def _set_unreadable_aside(self) -> None:
        """Orbax reads what it keeps beside each checkpoint before it is asked for any."""
        if jax.process_index() == 0 and self._folder.is_dir():
            for folder in sorted(self._folder.iterdir()):
                if re.fullmatch("[0-9]+", folder.name) and (reason := _unreadable(folder)):
                    self._say(f"checkpoint {folder} is damaged ({reason})")
                    folder.rename(_corrupt(folder))
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("set aside unreadable checkpoints")

    def _set_aside(self, step: int) -> None:
        if jax.process_index() == 0:
            (self._folder / str(step)).rename(_corrupt(self._folder / str(step)))
        multihost_utils.sync_global_devices(f"set aside checkpoint {step}")
        self._manager.reload()

    def _abandon(self, error: Exception) -> None:
        """Says that a save failed and frees what it had written."""
        reason = " ".join(str(error).split())[-200:]  # of long ones the end says why
        newest = self.newest()
        self._say(
            f"checkpoint of step {self._writing} was NOT saved ({reason}); "
            f"the last complete one: {newest or 'none'}; training goes on and will try again"
        )
        if jax.process_index() == 0:
            for part in self._folder.glob(f"{self._writing}.orbax-checkpoint-tmp*"):
                _remove(part)
        self._writing = None


def _unreadable(checkpoint: pathlib.Path) -> str:
    """Why Orbax would wait for ever, or give up on all checkpoints because of this one."""
    try:
        for path in sorted(checkpoint.rglob("*")):
            if not path.is_dir():
                files.check_regular(path)
        if (path := checkpoint / METADATA).exists():
            times = json.loads(files.read_bytes(path, limit=1 << 20))
            for name in ("init_timestamp_nsecs", "commit_timestamp_nsecs"):
                if not (times.get(name) is None or 0 <= times[name] < 2**63):
                    raise ValueError(f"{name} of {METADATA} is no time")
    except (UsageError, ValueError, TypeError, AttributeError, RecursionError) as error:
        return _reason(error)
    return ""


def _corrupt(checkpoint: pathlib.Path) -> pathlib.Path:
    """A name that is free, for a checkpoint that is set aside."""
    names = (f"{checkpoint.name}{n}.corrupt" for n in ("", *(f"-{k}" for k in range(1, 1000))))
    return next(path for name in names if not (path := checkpoint.with_name(name)).exists())


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _all_processes(true_here: bool) -> bool:
    """Whether it is true in every process of the run; each one calls this."""
    return bool(np.all(multihost_utils.process_allgather(np.array(true_here))))


def _remove(folder: pathlib.Path) -> None:
    """Removes a folder into which threads of a failed save may still write for a moment."""
    for _ in range(REMOVAL_ATTEMPTS):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.05)


def _checksums(named: dict[str, Any]) -> dict[str, int]:
    """CRC-32 of every array, by name: a flipped bit must not pass for a trained parameter."""
    flat = traverse_util.flatten_dict(named, sep="/")
    return {name: zlib.crc32(np.ascontiguousarray(array)) for name, array in flat.items()}


def _record_checksum(record: dict[str, Any]) -> int:
    """CRC-32 of all that the record says beside it."""
    return zlib.crc32(json.dumps(record, sort_keys=True).encode())


def _is_not_orbax(record) -> bool:
    return "orbax" not in record.pathname

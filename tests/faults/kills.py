"""Processes that die, disks that are full, and others who write: what is left must be whole.

A scenario is one case: it starts a process, spoils its work, and looks at what is on the disk.
"""

import contextlib
import dataclasses
import os
import pathlib
import resource
import shutil
import signal
import tempfile
import time
from collections.abc import Callable

import numpy as np

from jaxreloc import files
from jaxreloc.formats.localized_poses import LINE_FORMATS
from jaxreloc.localization.jobs.answer_file import AnswerFile
from jaxreloc.localization.map import map_files
from jaxreloc.localization.map.map_manifest import read_manifest
from jaxreloc.usage import UsageError
from tests.faults import targets
from tests.faults.worker import CLEAN, HANG, OTHER, SAME, TRACEBACK, WRONG, Outcome, context

LIMIT_S = 60.0
NOBODY = 65534
BASE = ("a", "c", "d", "e")  # the names in `targets.make_map`


def names(folder: pathlib.Path) -> list[str]:
    """The images of a map, after a look at every file."""
    if problems := map_files.check_files(folder):
        raise UsageError(problems[0])
    manifest = read_manifest(folder)
    return [name for part in map_files.read_parts(folder, manifest) for name in part.names]


def _more(label: str, count: int = 2) -> list:
    rng = np.random.default_rng(0)
    named = [[f"{label}-{k}-{i}" for i in range(3)] for k in range(count)]
    return [targets.encoded_images(rng, names) for names in named]


# What the processes do, over and over.


def change_map(folder: pathlib.Path) -> None:
    for i in range(10_000):
        map_files.add(folder, _more(f"{os.getpid()}-{i}"))
        map_files.remove(folder, [f"{os.getpid()}-{i}-{k}-{j}" for k in range(2) for j in range(3)])


def create_maps(folder: pathlib.Path) -> None:
    for i in range(10_000):
        map_files.create(folder / str(i), targets.save_weights, _more("x", 3))


def answer(folder: pathlib.Path) -> None:
    with AnswerFile(folder / "out", targets.SETTINGS, resume=True) as answers:
        for i in range(len(answers.answered), 10_000):
            found = targets.localized(f"{i}.png", np.eye(4), True)
            answers.add(found.name, LINE_FORMATS["tum"](found), True)


def write_texts(folder: pathlib.Path) -> None:
    for i in range(10_000):
        files.write_text(folder / "text", f"{i} " * 10_000)


def _working(work: Callable, folder: pathlib.Path, pipe) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    pipe.send("ready")
    try:
        work(folder)
        pipe.send("done")
    except UsageError as error:
        pipe.send(str(error))
    except BaseException as error:
        pipe.send(error.__class__)


class Working:
    """A process that does `work(folder)`."""

    def __init__(self, work: Callable, folder: pathlib.Path):
        self.pipe, theirs = context().Pipe()
        self.process = context().Process(target=_working, args=(work, folder, theirs), daemon=True)
        self.process.start()
        theirs.close()
        assert self.pipe.poll(LIMIT_S) and self.pipe.recv() == "ready"

    def kill(self, seconds: float) -> None:
        time.sleep(seconds)
        self.process.kill()
        self.process.join()

    def answer(self) -> object:
        """What the process said at its end: a text, or the class of what it raised."""
        if not self.pipe.poll(LIMIT_S):
            self.kill(0)
            return TimeoutError
        said = self.pipe.recv()
        self.process.join()
        return said


def _killed(work: Callable, folder: pathlib.Path, rng: np.random.Generator) -> None:
    Working(work, folder).kill(rng.uniform(0, 1.0))


# Scenarios.


def kill_while_changing(folder: pathlib.Path, rng: np.random.Generator) -> Outcome:
    targets.make_map(folder / "map", rng)
    _killed(change_map, folder / "map", rng)
    kept = names(folder / "map")
    if tuple(kept[:4]) != BASE or len(kept) not in (4, 10):
        return Outcome(WRONG, f"images {kept}")
    map_files.add(folder / "map", _more("after"))
    left = {path.name for path in (folder / "map" / "segments").iterdir()}
    if left != {segment.name for segment in read_manifest(folder / "map").segments}:
        return Outcome(WRONG, f"left behind: {left}")
    return Outcome(SAME if len(kept) == 4 else OTHER)


def kill_while_creating(folder: pathlib.Path, rng: np.random.Generator) -> Outcome:
    _killed(create_maps, folder, rng)
    made = [path for path in folder.iterdir() if not path.name.startswith(".")]
    for path in made:
        if len(names(path)) != 9:
            return Outcome(WRONG, f"{path}: {names(path)}")
    map_files.create(folder / "next", targets.save_weights, _more("x"))
    if hidden := [path.name for path in folder.glob(".*")]:
        return Outcome(WRONG, f"left behind: {hidden}")
    return Outcome(OTHER if made else SAME)


def kill_while_answering(folder: pathlib.Path, rng: np.random.Generator) -> Outcome:
    _killed(answer, folder, rng)
    with AnswerFile(folder / "out", targets.SETTINGS, resume=True) as answers:
        kept = list(answers.answered)
    if (folder / "out").exists() or kept != [f"{i}.png" for i in range(len(kept))]:
        return Outcome(WRONG, f"{kept[-3:]}")
    return Outcome(OTHER if kept else SAME)


def kill_while_replacing(folder: pathlib.Path, rng: np.random.Generator) -> Outcome:
    _killed(write_texts, folder, rng)
    if not (folder / "text").exists():
        return Outcome(SAME)
    words = (folder / "text").read_text().split(" ")
    whole = len(words) == 10_001 and len(set(words[:-1])) == 1
    return Outcome(OTHER if whole else WRONG)


@dataclasses.dataclass(frozen=True)
class Full:
    """Work on a disk with room for few bytes: here, a limit on the size of each file."""

    work: Callable
    limit: int

    def __call__(self, folder: pathlib.Path) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.limit, self.limit))
        self.work(folder)


def _refused(said: object) -> Outcome | None:
    """The outcome if the process did not refuse in a line."""
    if said is TimeoutError:
        return Outcome(HANG)
    if not isinstance(said, str) or said == "done":
        return Outcome(TRACEBACK, str(said))
    return None


def full_disk_while_changing(folder: pathlib.Path, rng: np.random.Generator) -> Outcome:
    targets.make_map(folder / "map", rng)
    before = {p: p.read_bytes() for p in (folder / "map").rglob("*") if p.is_file()}
    said = Working(Full(change_map, int(rng.integers(0, 800))), folder / "map").answer()
    if outcome := _refused(said):
        return outcome
    after = {p: p.read_bytes() for p in (folder / "map").rglob("*") if p.is_file()}
    kept = names(folder / "map")
    if after != before and len(kept) != 10:
        return Outcome(WRONG, f"{set(after) ^ set(before)}")
    return Outcome(CLEAN, str(said))


def full_disk_while_creating(folder: pathlib.Path, rng: np.random.Generator) -> Outcome:
    said = Working(Full(create_maps, int(rng.integers(0, 800))), folder).answer()
    if outcome := _refused(said):
        return outcome
    if left := list(folder.iterdir()):
        return Outcome(WRONG, f"left behind: {left}")
    return Outcome(CLEAN, str(said))


def full_disk_while_answering(folder: pathlib.Path, rng: np.random.Generator) -> Outcome:
    said = Working(Full(answer, int(rng.integers(60, 5000))), folder).answer()
    if outcome := _refused(said):
        return outcome
    with AnswerFile(folder / "out", targets.SETTINGS, resume=True) as answers:
        kept = list(answers.answered)
    if kept != [f"{i}.png" for i in range(len(kept))]:
        return Outcome(WRONG, f"{kept[-3:]}")
    return Outcome(CLEAN, str(said))


@dataclasses.dataclass(frozen=True)
class Unprivileged:
    """Work of a user who may not write: root's permissions are laid down."""

    work: Callable

    def __call__(self, folder: pathlib.Path) -> None:
        if os.geteuid() == 0:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        self.work(folder)


def read_only_folder(folder: pathlib.Path, rng: np.random.Generator) -> Outcome:
    targets.make_map(folder / "map", rng)
    work = (change_map, create_maps, answer, write_texts)[rng.integers(4)]
    place = folder / "map" if work is change_map else folder
    for path in (folder, folder / "map", folder / "map" / "segments"):
        path.chmod(0o555)
    try:
        said = Working(Unprivileged(work), place).answer()
    finally:
        for path in (folder, folder / "map", folder / "map" / "segments"):
            path.chmod(0o755)
    if outcome := _refused(said):
        return outcome
    whole = tuple(names(folder / "map")) == BASE and len(list(folder.iterdir())) == 1
    return Outcome(CLEAN if whole else WRONG, str(said))


def two_writers(folder: pathlib.Path, rng: np.random.Generator) -> Outcome:
    targets.make_map(folder / "map", rng)
    both = [Working(change_map, folder / "map") for _ in range(2)]
    deadline = time.monotonic() + LIMIT_S
    while not any(one.pipe.poll(0.05) for one in both):  # one meets the other's lock
        if time.monotonic() > deadline:
            break
    refused = [one for one in both if one.pipe.poll(0)]
    said = [one.answer() for one in refused]
    for one in both:
        one.kill(0)
    if not said:
        return Outcome(HANG, "neither was told to wait")
    if not all(isinstance(x, str) and "another program is changing it" in x for x in said):
        return Outcome(TRACEBACK, str(said))
    kept = names(folder / "map")
    whole = tuple(kept[:4]) == BASE and len(kept) in (4, 10)
    return Outcome(CLEAN if whole else WRONG, str(kept))


def reader_during_a_writer(folder: pathlib.Path, rng: np.random.Generator) -> Outcome:
    targets.make_map(folder / "map", rng)
    writer = Working(change_map, folder / "map")

    def read(manifest):
        return map_files.read_parts(folder / "map", manifest)

    generations = set()
    try:
        end = time.monotonic() + rng.uniform(0.2, 0.6)
        while time.monotonic() < end:
            parts = map_files.read_between_changes(folder / "map", read)
            found = [name for part in parts for name in part.names]
            generations.add(len(found))
            if tuple(found[:4]) != BASE or len(found) not in (4, 10):
                return Outcome(WRONG, str(found))
    finally:
        writer.kill(0)
    return Outcome(OTHER if len(generations) > 1 else SAME)


SCENARIOS = {
    "killed: map add, remove": kill_while_changing,
    "killed: map build": kill_while_creating,
    "killed: query": kill_while_answering,
    "killed: writing a file": kill_while_replacing,
    "full disk: map add, remove": full_disk_while_changing,
    "full disk: map build": full_disk_while_creating,
    "full disk: query": full_disk_while_answering,
    "read-only folder": read_only_folder,
    "two writers": two_writers,
    "a reader during a writer": reader_during_a_writer,
}


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

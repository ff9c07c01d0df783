"""Maps and answers whose writers die, fill the disk, or are two: what is left must be whole."""

import contextlib
import os
import pathlib
import time

import numpy as np

from jaxreloc import files
from jaxreloc.formats.localized_poses import LINE_FORMATS
from jaxreloc.formats.writers import answer_formats
from jaxreloc.localization.jobs.answer_file import AnswerFile
from jaxreloc.localization.map import map_files
from jaxreloc.localization.map.encoding import CellDepth
from jaxreloc.localization.map.map_manifest import read_manifest
from jaxreloc.usage import UsageError
from tests.faults import targets
from tests.faults.processes import (
    Full,
    Unprivileged,
    Working,
    first_to_end,
    killed,
    refused,
    small_disk,
)
from tests.faults.worker import CLEAN, HANG, OTHER, SAME, TRACEBACK, WRONG, Outcome

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
            found = _found(i)
            answers.add(found)


def add_to_map(folder: pathlib.Path) -> None:
    for i in range(10_000):
        map_files.add(folder, _more(f"{i}"))


def change_depth(folder: pathlib.Path) -> None:
    for i in range(1, 10_000):
        for segment in read_manifest(folder).segments:
            codes = np.full((segment.num_images, 2, 2), i % 1000, np.uint16)
            depth = CellDepth(codes, np.full(segment.num_images, i, np.float32))
            map_files.add_depth(folder, segment, depth)


def write_texts(folder: pathlib.Path) -> None:
    for i in range(10_000):
        files.write_text(folder / "text", f"{i} " * 10_000)


# Scenarios.


def kill_while_changing(folder: pathlib.Path, rng: np.random.Generator) -> Outcome:
    targets.make_map(folder / "map", rng)
    killed(change_map, folder / "map", rng)
    kept = names(folder / "map")
    if tuple(kept[:4]) != BASE or len(kept) not in (4, 10):
        return Outcome(WRONG, f"images {kept}")
    map_files.add(folder / "map", _more("after"))
    left = {path.name for path in (folder / "map" / "segments").iterdir()}
    if left != {segment.name for segment in read_manifest(folder / "map").segments}:
        return Outcome(WRONG, f"left behind: {left}")
    return Outcome(SAME if len(kept) == 4 else OTHER)


def kill_while_creating(folder: pathlib.Path, rng: np.random.Generator) -> Outcome:
    killed(create_maps, folder, rng)
    made = [path for path in folder.iterdir() if not path.name.startswith(".")]
    for path in made:
        if len(names(path)) != 9:
            return Outcome(WRONG, f"{path}: {names(path)}")
    map_files.create(folder / "next", targets.save_weights, _more("x"))
    if hidden := [path.name for path in folder.glob(".*")]:
        return Outcome(WRONG, f"left behind: {hidden}")
    return Outcome(OTHER if made else SAME)


def kill_while_adding_depth(folder: pathlib.Path, rng: np.random.Generator) -> Outcome:
    targets.make_map(folder / "map", rng)
    before = _depths(folder / "map")
    killed(change_depth, folder / "map", rng)
    if tuple(names(folder / "map")) != BASE:
        return Outcome(WRONG, str(names(folder / "map")))
    after = _depths(folder / "map")
    for old, new in zip(before, after, strict=True):
        is_one = new is None or len({float(x) % 1000 for part in new for x in part.ravel()}) == 1
        if not is_one and not all(map(np.array_equal, old, new)):
            return Outcome(WRONG, f"depth of several writings: {new}")
    map_files.add(folder / "map", _more("after"))
    return Outcome(OTHER)


def _depths(folder: pathlib.Path) -> list:
    """Values and units of each segment, None where it has no depth."""
    parts = map_files.read_parts(folder, read_manifest(folder))
    return [x.depth and (np.stack(list(x.depth.codes)), x.depth.unit) for x in parts]


def kill_while_resuming(folder: pathlib.Path, rng: np.random.Generator) -> Outcome:
    for _ in range(3):
        killed(answer, folder, rng)
    with AnswerFile(folder / "out", targets.SETTINGS, resume=True) as answers:
        first = len(answers.answered)
        for i in range(first, first + 20):
            answers.add(_found(i))
        answers.finish(answer_formats.answer_format("tum", None, "").write)
    lines = (folder / "out").read_text().splitlines()
    if lines != [LINE_FORMATS["tum"](_found(i)) for i in range(first + 20)]:
        return Outcome(WRONG, f"{lines[-3:]}")
    if left := [path.name for path in folder.iterdir() if path.name != "out"]:
        return Outcome(WRONG, f"left behind: {left}")
    return Outcome(OTHER if first else SAME)


def _found(i: int):
    return targets.localized(f"{i}.png", np.eye(4), True)


def kill_while_answering(folder: pathlib.Path, rng: np.random.Generator) -> Outcome:
    killed(answer, folder, rng)
    with AnswerFile(folder / "out", targets.SETTINGS, resume=True) as answers:
        kept = list(answers.answered)
    if (folder / "out").exists() or kept != [f"{i}.png" for i in range(len(kept))]:
        return Outcome(WRONG, f"{kept[-3:]}")
    return Outcome(OTHER if kept else SAME)


def kill_while_replacing(folder: pathlib.Path, rng: np.random.Generator) -> Outcome:
    killed(write_texts, folder, rng)
    if not (folder / "text").exists():
        return Outcome(SAME)
    words = (folder / "text").read_text().split(" ")
    whole = len(words) == 10_001 and len(set(words[:-1])) == 1
    return Outcome(OTHER if whole else WRONG)


def full_disk_while_changing(folder: pathlib.Path, rng: np.random.Generator) -> Outcome:
    targets.make_map(folder / "map", rng)
    before = {p: p.read_bytes() for p in (folder / "map").rglob("*") if p.is_file()}
    said = Working(Full(change_map, int(rng.integers(0, 800))), folder / "map").answer()
    if outcome := refused(said):
        return outcome
    after = {p: p.read_bytes() for p in (folder / "map").rglob("*") if p.is_file()}
    kept = names(folder / "map")
    if after != before and len(kept) != 10:
        return Outcome(WRONG, f"{set(after) ^ set(before)}")
    return Outcome(CLEAN, str(said))


def full_disk_while_creating(folder: pathlib.Path, rng: np.random.Generator) -> Outcome:
    said = Working(Full(create_maps, int(rng.integers(0, 800))), folder).answer()
    if outcome := refused(said):
        return outcome
    if left := list(folder.iterdir()):
        return Outcome(WRONG, f"left behind: {left}")
    return Outcome(CLEAN, str(said))


def full_disk_while_answering(folder: pathlib.Path, rng: np.random.Generator) -> Outcome:
    said = Working(Full(answer, int(rng.integers(60, 5000))), folder).answer()
    if outcome := refused(said):
        return outcome
    with AnswerFile(folder / "out", targets.SETTINGS, resume=True) as answers:
        kept = list(answers.answered)
    if kept != [f"{i}.png" for i in range(len(kept))]:
        return Outcome(WRONG, f"{kept[-3:]}")
    return Outcome(CLEAN, str(said))


def full_small_disk(folder: pathlib.Path, rng: np.random.Generator) -> Outcome:
    """The same on a file system that has no room left."""
    work = (change_map, create_maps, answer, write_texts)[rng.integers(4)]
    disk = folder / "disk"
    # All of the answers are more than 40 pages, two texts (one takes the other's place) 10 to 25.
    pages = {write_texts: (6, 20), answer: (30, 40)}.get(work, (30, 120))
    with small_disk(disk, int(rng.integers(*pages)) * 4096):
        place = disk
        if work is change_map:
            place = disk / "map"
            targets.make_map(place, rng)
            work = add_to_map
        said = Working(work, place).answer()
        if outcome := refused(said):
            return outcome
        if work is add_to_map and tuple(names(place)[:4]) != BASE:
            return Outcome(WRONG, str(names(place)))
        if work is answer:
            with AnswerFile(disk / "out", targets.SETTINGS, resume=True) as answers:
                kept = list(answers.answered)
            if kept != [f"{i}.png" for i in range(len(kept))]:
                return Outcome(WRONG, f"{kept[-3:]}")
        if work is create_maps:
            for path in disk.iterdir():
                if path.name.startswith(".") or len(names(path)) != 9:
                    return Outcome(WRONG, f"left behind: {path}")
    return Outcome(CLEAN, str(said))


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
    if outcome := refused(said):
        return outcome
    whole = tuple(names(folder / "map")) == BASE and len(list(folder.iterdir())) == 1
    return Outcome(CLEAN if whole else WRONG, str(said))


def two_writers(folder: pathlib.Path, rng: np.random.Generator) -> Outcome:
    targets.make_map(folder / "map", rng)
    said = first_to_end([Working(change_map, folder / "map") for _ in range(2)])
    if outcome := _not_told("another program is changing it", said):
        return outcome
    kept = names(folder / "map")
    whole = tuple(kept[:4]) == BASE and len(kept) in (4, 10)
    return Outcome(CLEAN if whole else WRONG, str(kept))


def two_writers_of_a_new_map(folder: pathlib.Path, rng: np.random.Generator) -> Outcome:
    """Both build maps of the same names; whoever comes second is told that it exists."""
    said = first_to_end([Working(create_maps, folder) for _ in range(2)])
    if outcome := _not_told("exists; choose another", said):
        return outcome
    for path in folder.iterdir():
        if not path.name.startswith(".") and len(names(path)) != 9:
            return Outcome(WRONG, f"{path}: {names(path)}")
    return Outcome(CLEAN, str(said))


def _not_told(words: str, said: object) -> Outcome | None:
    if said is TimeoutError:
        return Outcome(HANG, "neither was told to wait")
    if not isinstance(said, str) or words not in said:
        return Outcome(TRACEBACK, str(said))
    return None


def two_writers_of_answers(folder: pathlib.Path, rng: np.random.Generator) -> Outcome:
    first = Working(answer, folder)
    time.sleep(rng.uniform(0, 0.2))
    with contextlib.suppress(UsageError):
        with AnswerFile(folder / "out", targets.SETTINGS, resume=True) as answers:
            first.process.join(5.0)  # where it came too late it is refused, and ends
            if first.process.is_alive():
                first.kill(0)
                return Outcome(WRONG, f"two write, {len(answers.answered)} answers")
    first.kill(0)
    with AnswerFile(folder / "out", targets.SETTINGS, resume=True) as answers:
        kept = list(answers.answered)
    whole = kept == [f"{i}.png" for i in range(len(kept))]
    return Outcome(CLEAN if whole else WRONG, str(kept[-3:]))


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

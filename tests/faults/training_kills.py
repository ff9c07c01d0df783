"""What training keeps, whose writers die, fill the disk, or are two: what is left must be whole."""

import pathlib
import time

import numpy as np
import tensorflow_datasets as tfds

from jaxreloc.training.checkpoints import Checkpoints
from jaxreloc.training.inputs import matched_inputs, matched_pairs
from jaxreloc.training.inputs.match_making import MatchMaking, write_scenes
from jaxreloc.training.state import to_state_dict
from jaxreloc.usage import UsageError
from tests.faults import targets
from tests.faults.processes import Full, Unprivileged, Working, killed, refused
from tests.faults.worker import CLEAN, OTHER, SAME, TRACEBACK, WRONG, Outcome
from tests.formats import scenes
from tests.training.planted_matches import IMAGE_SIZE, NumberMatcher, room_frames
from tfds_builders.posed_images.posed_images_dataset_builder import Builder, PosedImagesConfig

SETTINGS = MatchMaking((IMAGE_SIZE,), num_pairs=6)
SCENES = 12
SPLITS = ("database", "query")

# What the processes do, over and over.


def save_checkpoints(folder: pathlib.Path) -> None:
    saved = Checkpoints(folder / "checkpoints", lambda line: None)
    for step in range(1, 10_000):
        saved.save(targets.state_at(step), targets.record_at(step))
        if not saved.wait():
            raise UsageError(f"{folder}: step {step} is not saved")


def match_pairs(folder: pathlib.Path) -> None:
    """As `matched_inputs` does it, of many small scenes."""
    if matched_inputs.read_record(folder, SETTINGS) is not None:
        return
    matched_inputs.write_record(folder, SETTINGS, None)
    rooms = {f"room-{i}": i for i in range(SCENES)}

    def reader(name):
        return lambda: [room_frames(np.random.default_rng(rooms[name]), 6, name)]

    write_scenes(
        [(name, reader(name)) for name in rooms], [NumberMatcher(IMAGE_SIZE)], folder, SETTINGS
    )
    matched_inputs.write_record(folder, SETTINGS, list(rooms))


def build_dataset(folder: pathlib.Path) -> None:
    config = PosedImagesConfig(name="photos", path=str(folder / "photos"), query_every=3)
    builder = Builder(config=config, data_dir=folder / "datasets")
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=folder / "photos")
    )


# Scenarios.


def kill_while_saving(folder: pathlib.Path, rng: np.random.Generator) -> Outcome:
    killed(save_checkpoints, folder, rng)
    outcome = _restored(folder)
    if outcome.kind == WRONG:
        return outcome
    left = {path.name for path in (folder / "checkpoints").iterdir()}
    if not all(name.isdigit() for name in left) or len(left) > 3:
        return Outcome(WRONG, f"left behind: {left}")
    return outcome


def _restored(folder: pathlib.Path) -> Outcome:
    """Restores, and saves one more."""
    said: list[str] = []
    saved = Checkpoints(folder / "checkpoints", said.append)
    found = saved.restore()
    step = 0 if found is None else int(found.state["step"])
    saved.save(targets.state_at(step + 1), targets.record_at(step + 1))
    saved.close()
    if said:
        return Outcome(WRONG, f"said: {said}")
    if found is None:
        return Outcome(SAME)
    expected = to_state_dict(targets.state_at(step)), targets.record_at(step)
    whole = targets.plain((found.state, found.record)) == targets.plain(expected)
    return Outcome(OTHER if whole else WRONG, f"step {step}")


def full_disk_while_saving(folder: pathlib.Path, rng: np.random.Generator) -> Outcome:
    said = Working(Full(save_checkpoints, int(rng.integers(0, 300))), folder).answer()
    if outcome := refused(said):
        return outcome
    outcome = _restored(folder)
    return outcome if outcome.kind == WRONG else Outcome(CLEAN, str(said))


def read_only_folder(folder: pathlib.Path, rng: np.random.Generator) -> Outcome:
    work = (save_checkpoints, match_pairs)[rng.integers(2)]
    folder.chmod(0o555)
    try:
        said = Working(Unprivileged(work), folder).answer()
    finally:
        folder.chmod(0o755)
    return refused(said) or Outcome(WRONG if list(folder.iterdir()) else CLEAN, str(said))


def two_writers(folder: pathlib.Path, rng: np.random.Generator) -> Outcome:
    first = Working(save_checkpoints, folder)
    time.sleep(rng.uniform(0.2, 0.6))
    said = Working(save_checkpoints, folder).answer()
    first.kill(0)
    if not isinstance(said, str) or "another program" not in said:
        return Outcome(TRACEBACK, str(said))
    outcome = _restored(folder)
    return outcome if outcome.kind == WRONG else Outcome(CLEAN, said)


def kill_while_matching(folder: pathlib.Path, rng: np.random.Generator) -> Outcome:
    (folder / "made").mkdir()
    killed(match_pairs, folder / "made", rng)
    done = len(list((folder / "made").glob("*.npz")))
    if outcome := _matched_as_ever(folder):
        return outcome
    return Outcome(OTHER if 0 < done < SCENES else SAME)


def full_disk_while_matching(folder: pathlib.Path, rng: np.random.Generator) -> Outcome:
    (folder / "made").mkdir()
    said = Working(Full(match_pairs, int(rng.integers(0, 3000))), folder / "made").answer()
    if outcome := refused(said):
        return outcome
    return _matched_as_ever(folder) or Outcome(CLEAN, str(said))


def _matched_as_ever(folder: pathlib.Path) -> Outcome | None:
    """Goes on with what a process left; the outcome where something else comes of it."""
    (folder / "straight").mkdir()
    for name in ("made", "straight"):
        match_pairs(folder / name)
        if matched_inputs.read_record(folder / name, SETTINGS) is None:
            return Outcome(WRONG, f"{name}: not complete")
    for path in (folder / "straight").glob("*.npz"):
        whole, found = (matched_pairs.load(folder / x / path.name) for x in ("straight", "made"))
        if targets.plain(whole) != targets.plain(found):
            return Outcome(WRONG, f"{path.name}: other pairs")
    return None


def kill_while_building(folder: pathlib.Path, rng: np.random.Generator) -> Outcome:
    scenes.MAKERS["transforms.json"](folder / "photos", rng)
    killed(build_dataset, folder, rng, within=0.3)
    done = list((folder / "datasets").glob("**/dataset_info.json"))
    said = Working(build_dataset, folder).answer()
    if said != "done":
        return Outcome(TRACEBACK, str(said))
    (info,) = (folder / "datasets").glob("**/[0-9]*/dataset_info.json")
    builder = tfds.builder_from_directory(info.parent)
    counts = [len(builder.as_data_source(split)) for split in SPLITS]
    pictures = len(list((folder / "photos").glob("**/*.png")))
    if sum(counts) != pictures:
        return Outcome(WRONG, f"{counts} of {pictures}")
    if left := list((folder / "datasets").glob("**/*incomplete*")):
        return Outcome(WRONG, f"left behind: {left}")
    return Outcome(SAME if done else OTHER)

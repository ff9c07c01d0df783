"""The task `pose` on packed frames: the project's own loop, fed by threads in place of Grain."""

import concurrent.futures
import dataclasses
import itertools
import os
import pathlib
from collections.abc import Callable, Iterator

import ml_collections
import numpy as np

from benchmarks.device import device_inputs as inputs
from benchmarks.device.packed_frames import pack, unpack
from benchmarks.device.sizes import Sizes
from configs import pairs as pairs_config
from jaxreloc.data.loader import PairLoader
from jaxreloc.data.pairing.mined_pairs import mine_pairs
from jaxreloc.data.pairing.pair_target import TARGETS
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.training import train_and_evaluate
from jaxreloc.training.inputs.pair_inputs import PairSet
from jaxreloc.training.tasks.pose_task import PoseTask

AHEAD = 2  # batches
LOADER_FIELDS = (
    "db_image",
    "query_image",
    "db_from_query",
    "db_intrinsics",
    "query_intrinsics",
    "mask",
    "pair_index",
)


@dataclasses.dataclass(frozen=True)
class ThreadedLoader:
    """Batches of a PairLoader's examples, made by threads; see `tasks.task.Loader`.

    Which pairs a batch has and how they are cropped follows from the seed and the step.
    """

    examples: PairLoader
    count: int
    batch_size: int
    train: bool
    seed: int

    def batches(self, start_step: int = 0) -> Iterator[dict[str, np.ndarray]]:
        """From a step on; in validation each pair once, the last batch padded by blank ones."""
        total = None if self.train else -(-self.count // self.batch_size)
        steps = itertools.count(start_step) if self.train else iter(range(start_step, total))
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
            waiting: list[list[concurrent.futures.Future]] = []
            for step in steps:
                places = range(self.batch_size)
                waiting.append([threads.submit(self._example, step, k) for k in places])
                if len(waiting) > AHEAD:
                    yield _stacked(waiting.pop(0))
            for batch in waiting:
                yield _stacked(batch)

    def _example(self, step: int, place: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng([self.seed, step, place])
        number = step * self.batch_size + place
        index = int(rng.integers(self.count)) if self.train else number
        return self.examples.example(index, rng)


def _stacked(futures: list[concurrent.futures.Future]) -> dict[str, np.ndarray]:
    examples = [future.result() for future in futures]
    return {name: np.stack([x[name] for x in examples]) for name in LOADER_FIELDS}


@dataclasses.dataclass(frozen=True)
class PackedPoseTask(PoseTask):
    """The task `pose`, whose frames come from a packed file."""

    frames: pathlib.Path | None = None

    def load(
        self, config: ml_collections.ConfigDict, say: Callable[[str], None]
    ) -> tuple[PairSet, PairSet]:
        """Training and validation pairs of the same frames, as the authors' are."""
        scenes = unpack(self.frames)
        counts = config.data.num_pairs, config.data.num_validation_pairs
        return tuple(
            _pair_set(config, scenes, count, 2 * config.seed + k, train=k == 0)
            for k, count in enumerate(counts)
        )


def _pair_set(
    config: ml_collections.ConfigDict,
    scenes: list[PosedFrames],
    num_pairs: int,
    seed: int,
    *,
    train: bool,
) -> PairSet:
    target = TARGETS[config.data.pair_target]
    mined = mine_pairs(scenes, num_pairs=num_pairs, target=target, seed=seed)
    examples = PairLoader(
        scenes,
        mined,
        batch_size=config.batch_size,
        train=train,
        seed=seed,
        image_size=config.data.short_side,
        crop=config.data.crop,
        jitter=config.data.jitter,
    )
    loader = ThreadedLoader(examples, len(mined), config.batch_size, train, seed)
    return PairSet(scenes, mined, loader)


def train(sizes: Sizes, frames: pathlib.Path | None, workdir: pathlib.Path) -> dict[str, object]:
    """Trains to half the steps, then resumes from the checkpoint to all of them.

    A workdir with checkpoints of an earlier call is gone on with. Without packed frames, pictures
    of a painted room are packed first.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    if frames is None:
        frames = workdir / "painted_rooms.npz"
        if not frames.exists():
            count = sizes.training_frames
            pack(frames, [inputs.photographed_room(count, 160, seed=11)], 72)
    config = _config(sizes, frames)
    before = _checkpoints(workdir)
    halves = []
    for steps in (sizes.steps // 2, sizes.steps):
        if before and max(before) >= steps:
            continue
        config.num_steps = steps
        task = dataclasses.replace(PackedPoseTask.of_config(config), frames=frames)
        halves.append(train_and_evaluate(config, workdir, task))
        if max(_checkpoints(workdir)) < steps:  # stopped by a signal
            break
    return {
        "frames": str(frames),
        "checkpoints_before": before,
        "checkpoints": _checkpoints(workdir),
        "validations": halves,
    }


def _config(sizes: Sizes, frames: pathlib.Path) -> ml_collections.ConfigDict:
    """The demo's config, with the backbone that is measured."""
    config = pairs_config.get_config("quick").unlock()
    config.batch_size = sizes.training_batch
    config.data.dataset = str(frames)
    config.data.pair_target = "overlapping"
    config.data.num_pairs = 20 * sizes.training_frames
    config.data.num_validation_pairs = 4 * sizes.training_batch
    config.data.short_side, config.data.crop = 72, 64
    config.model.backbone = sizes.backbones[-1]
    if config.model.backbone == "efficientnet_lite0":  # whose weights need no network
        config.model.pretrained = "default"
    config.optimizer.schedule = "constant"  # so that more steps may be asked for later
    config.validate_every = config.checkpoint_every = sizes.steps // 2
    config.log_every = max(1, sizes.steps // 8)
    return config


def _checkpoints(workdir: pathlib.Path) -> list[int]:
    folder = workdir / "checkpoints"
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())

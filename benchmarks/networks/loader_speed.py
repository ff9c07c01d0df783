"""Images per second out of the pair loader, beside what the training step takes.

  python -m benchmarks.networks.loader_speed [--seconds=8] [--config=configs/pairs.py]
      [--pairs_per_second=1000]

Full-size pictures (640x480, as 7 Scenes has them, of about the entropy of a photograph) are written
as PNG and as JPEG; from these the loader makes random, jittered 224 crops, two a pair: decoded anew
each time, from the disk cache of resized frames, and from memory, with 0, 1 and 2 worker processes
(0 reads in a thread). Two lines put the slowest and the fastest row beside one training step of the
config on this machine. The last ones say what a device that trains on `--pairs_per_second` needs:
twice as many images, and one processor core for each worker that they take at the rate of one.
"""

import functools
import itertools
import math
import pathlib
import tempfile
import time

import cv2
import jax
import numpy as np
from absl import app, flags
from flax import jax_utils

from jaxreloc.config_flag import define_config
from jaxreloc.data.loader import PairLoader
from jaxreloc.data.pairing.mined_pairs import make_pairs
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.images import ImageFiles
from jaxreloc.models import build_network, init_variables
from jaxreloc.training import optimizer, step
from jaxreloc.training.inputs.pair_inputs import shard
from jaxreloc.training.losses import pose_losses
from jaxreloc.training.state import create_state
from jaxreloc.training.tasks.pose_task import PoseTask

WIDTH, HEIGHT, NUM_FRAMES, NUM_PAIRS, BATCH_SIZE = 640, 480, 240, 1600, 16

_SECONDS = flags.DEFINE_float("seconds", 8.0, "time measured for each row")
_PAIRS_PER_SECOND = flags.DEFINE_float("pairs_per_second", 1000.0, "what a GPU trains on")
_STEP_BATCH = flags.DEFINE_integer("step_batch", 8, "pairs in the training step's batch")
_CONFIG = define_config("configs/pairs.py")


def write_pictures(folder: pathlib.Path, suffix: str, rng: np.random.Generator) -> PosedFrames:
    """Fractal noise: each octave of detail weaker than the one below."""
    folder.mkdir()
    paths = tuple(folder / f"{k:04d}{suffix}" for k in range(NUM_FRAMES))
    for path in paths:
        picture = np.zeros((HEIGHT, WIDTH, 3), np.float32)
        for octave in range(8):
            noise = rng.normal(size=(3 << octave, 4 << octave, 3)).astype(np.float32)
            noise = cv2.resize(noise, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
            picture += noise / 1.6**octave
        cv2.imwrite(str(path), np.clip(128 + 40 * picture, 0, 255).astype(np.uint8))
    return PosedFrames(
        scene="noise",
        names=tuple(path.name for path in paths),
        world_from_cam=np.tile(np.eye(4), (NUM_FRAMES, 1, 1)),
        intrinsics=np.tile([[525.0, 0, 319.5], [0, 525, 239.5], [0, 0, 1]], (NUM_FRAMES, 1, 1)),
        image_sizes=np.tile([[WIDTH, HEIGHT]], (NUM_FRAMES, 1)),
        images=ImageFiles(paths),
    )


def images_per_second(loader: PairLoader, warm_up: int) -> float:
    """Over the seconds asked for, after `warm_up` batches."""
    batches = loader.batches()
    for _ in itertools.islice(batches, warm_up):
        pass
    images, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < _SECONDS.value:
        images += 2 * len(next(batches)["mask"])
    batches.close()
    return images / elapsed


def measure_loader(folder: pathlib.Path, rng: np.random.Generator) -> dict[str, float]:
    """Images per second of each row, printed as they come."""
    rates = {}
    for suffix in (".png", ".jpg"):
        frames = write_pictures(folder / suffix[1:], suffix, rng)
        size_kb = np.mean([path.stat().st_size for path in frames.images.paths]) / 1000
        db, query = rng.integers(NUM_FRAMES, size=(2, NUM_PAIRS))
        pairs = make_pairs([frames], np.zeros(NUM_PAIRS, np.int64), db, query)
        make = functools.partial(PairLoader, [frames], pairs, batch_size=BATCH_SIZE, train=True)
        cached = dict(cache_dir=folder / f"cache{suffix}", memory_bytes=0)
        for _ in itertools.islice(make(**cached).batches(), NUM_PAIRS // BATCH_SIZE):
            pass  # fills the disk cache
        for workers in (0, 1, 2):
            kinds = {
                "decoded": (make(num_workers=workers, memory_bytes=0), 4),
                "disk cache": (make(num_workers=workers, **cached), 4),
                "memory": (make(num_workers=workers), 40),
            }
            for kind, (loader, warm_up) in kinds.items():
                name = f"{suffix[1:].upper()} of {size_kb:.0f} kB, {workers} workers, {kind}"
                rates[name] = images_per_second(loader, warm_up)
                print(f"{name:45s} {rates[name]:7.0f} images/s", flush=True)
    return rates


def step_images_per_second(config, batch_size: int) -> float:
    """One training step of the config after another, on a batch that lies ready."""
    network = build_network(config.model, axis_name=step.AXIS)
    loss = pose_losses.build_loss(config.loss)
    transformation, _ = optimizer.build_optimizer(config.optimizer, config.num_steps)
    train_step = step.make_train_step(PoseTask(network, loss), transformation)
    variables = init_variables(network, jax.random.key(0))
    state = jax_utils.replicate(create_state(variables, loss, transformation), axis_name=step.AXIS)
    crop = config.data.crop
    image = np.random.default_rng(0).integers(0, 256, (batch_size, crop, crop, 3), dtype=np.uint8)
    batch = shard(
        {
            "db_image": image,
            "query_image": image[::-1].copy(),
            "db_from_query": np.float32([[1, 0, 0, 0, 0.1, 0, 0]] * batch_size),
            "db_intrinsics": np.tile(np.eye(3, dtype=np.float32), (batch_size, 1, 1)),
            "query_intrinsics": np.tile(np.eye(3, dtype=np.float32), (batch_size, 1, 1)),
            "mask": np.ones(batch_size, bool),
        }
    )
    state, metrics = train_step(state, batch)
    jax.block_until_ready(metrics)
    steps, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < _SECONDS.value or not steps:
        state, metrics = train_step(state, batch)
        jax.block_until_ready(metrics)
        steps += 1
    return 2 * batch_size * steps / elapsed


def print_cores_needed(rates: dict[str, float], pairs_per_second: float) -> None:
    """The cores that keep a device of `pairs_per_second` busy, for each row with one worker."""
    images_per_second = 2 * pairs_per_second
    print(f"a GPU of {pairs_per_second:.0f} pairs/s needs {images_per_second:.0f} images/s:")
    for name, rate in rates.items():
        if ", 1 workers, " in name:
            cores = math.ceil(images_per_second / rate)
            print(f"{name.replace(', 1 workers', ''):45s} {cores:7d} cores")


def main(_) -> None:
    with tempfile.TemporaryDirectory() as folder:
        rates = measure_loader(pathlib.Path(folder), np.random.default_rng(0))
    needed = step_images_per_second(_CONFIG.value, _STEP_BATCH.value)
    device = jax.devices()[0].device_kind
    print(f"training step, {_CONFIG.value.model.backbone}, {device}: {needed:.1f} images/s")
    for choose in (min, max):
        name = choose(rates, key=rates.get)
        print(f"{choose.__name__} of the loader / step: {rates[name] / needed:.0f} ({name})")
    print_cores_needed(rates, _PAIRS_PER_SECOND.value)


if __name__ == "__main__":
    app.run(main)

"""Training speed: the step alone, the step behind the loader, and PyTorch's step.

  python -m benchmarks.networks.training_speed [--config=configs/pairs.py] [--batch_size=8]
      [--seconds=20]

The step is the config's own network, loss and optimizer on all local devices; floating-point
operations are those of the program before it is optimised (a multiply-add counts twice). The peak
is the fastest of a few square matrix products in the config's dtype. Behind the loader, pairs come
from 640x480 JPEG pictures on disk, decoded, cropped and jittered anew. PyTorch, where it is
installed (requirements-torch.txt), runs the same network, batch, loss and optimizer, channels last,
with as many threads as there are cores.
"""

import os
import pathlib
import tempfile
import time

import cv2
import jax
import ml_collections
import numpy as np
from absl import app, flags
from flax import jax_utils

from benchmarks.networks import pair_step
from benchmarks.networks.pair_step import Rate, make_step, ready_batch, torch_step
from jaxreloc.config_flag import define_config
from jaxreloc.data.loader import PairLoader
from jaxreloc.data.pairing.mined_pairs import make_pairs
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.images import ImageFiles
from jaxreloc.training import step
from jaxreloc.training.inputs.pair_inputs import shard

_CONFIG = define_config("configs/pairs.py")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 8, "pairs in a step", lower_bound=2)
_SECONDS = flags.DEFINE_float("seconds", 20.0, "time measured for each row")

NUM_FRAMES, NUM_PAIRS = 100, 4096


def step_on_ready_batches(config: ml_collections.ConfigDict) -> tuple[Rate, float]:
    """The step alone, and its floating-point operations."""
    train_step, state = make_step(config)
    batch = shard(ready_batch(_BATCH_SIZE.value, config.data.crop))
    cost = train_step.lower(state, batch).cost_analysis()
    # The cost is that of the program of one device.
    flops = cost["flops"] * jax.local_device_count()

    def run_step() -> float:
        nonlocal state
        state, metrics = train_step(state, batch)
        jax.block_until_ready(metrics)
        return 0.0

    return pair_step.measure(run_step, _SECONDS.value), flops


def grainy_frames(folder: pathlib.Path, rng: np.random.Generator) -> PosedFrames:
    """Pictures of 640x480, blotches under grain, in JPEG files."""
    paths = tuple(folder / f"{k:03d}.jpg" for k in range(NUM_FRAMES))
    for path in paths:
        blotches = cv2.resize(rng.integers(40, 216, (15, 20, 3), np.uint8), (640, 480))
        cv2.imwrite(str(path), blotches + rng.integers(-20, 20, (480, 640, 1)).astype(np.uint8))
    intrinsics = np.array([[525.0, 0, 319.5], [0, 525.0, 239.5], [0, 0, 1]])
    return PosedFrames(
        scene="grain",
        names=tuple(path.name for path in paths),
        world_from_cam=np.repeat(np.eye(4)[None], NUM_FRAMES, axis=0),
        intrinsics=np.repeat(intrinsics[None], NUM_FRAMES, axis=0),
        image_sizes=np.repeat([[640, 480]], NUM_FRAMES, axis=0),
        images=ImageFiles(paths),
    )


def step_behind_loader(config: ml_collections.ConfigDict, folder: pathlib.Path) -> Rate:
    """The step on what the loader reads, as in training."""
    rng = np.random.default_rng(0)
    frames = grainy_frames(folder, rng)
    db, query = rng.integers(NUM_FRAMES, size=(2, NUM_PAIRS))
    pairs = make_pairs([frames], np.zeros(NUM_PAIRS, np.int64), db, query)
    loader = PairLoader(
        [frames],
        pairs,
        batch_size=_BATCH_SIZE.value,
        train=True,
        image_size=config.data.short_side,
        crop=config.data.crop,
        jitter=config.data.jitter,
        num_workers=min(config.data.num_workers, os.cpu_count() - 1),
        memory_bytes=0,
    )
    batches = jax_utils.prefetch_to_device(
        map(shard, loader.batches()), size=2, axis_name=step.AXIS
    )
    train_step, state = make_step(config)

    def run_step() -> float:
        nonlocal state
        start = time.perf_counter()
        batch = next(batches)
        waited = time.perf_counter() - start
        state, metrics = train_step(state, batch)
        jax.block_until_ready(metrics)
        return waited

    return pair_step.measure(run_step, _SECONDS.value)


def main(argv: list[str]) -> None:
    del argv
    config = _CONFIG.value
    batch_size = _BATCH_SIZE.value
    print(
        f"{config.model.backbone}, {config.model.dtype}, "
        f"{batch_size} pairs of {config.data.crop} px on "
        f"{jax.local_device_count()} {jax.devices()[0].device_kind} device(s), "
        f"{len(os.sched_getaffinity(0))} cores"
    )
    rate, flops = step_on_ready_batches(config)
    peak = pair_step.matmul_peak(config.model.dtype)
    print(
        f"step                {batch_size / rate.seconds_a_step:8.3g} pairs/s, "
        f"{1000 * rate.seconds_a_step:.0f} ms, {flops / rate.seconds_a_step / 1e9:.3g} GFLOP/s, "
        f"{flops / rate.seconds_a_step / peak:.0%} of the matmul peak of {peak / 1e9:.3g}"
    )
    with tempfile.TemporaryDirectory() as folder:
        behind = step_behind_loader(config, pathlib.Path(folder))
    print(
        f"step behind loader  {batch_size / behind.seconds_a_step:8.3g} pairs/s, "
        f"{behind.waiting_share:.1%} of the time waiting for data"
    )
    if pair_step.torch is None:
        print("PyTorch             not measured: not installed")
        return
    peer = torch_step(config, batch_size, _SECONDS.value)
    version = pair_step.torch.__version__
    print(
        f"PyTorch {version:11s} {batch_size / peer.seconds_a_step:8.3g} pairs/s, "
        f"{1000 * peer.seconds_a_step:.0f} ms\n"
        f"jaxreloc / PyTorch, time of a step: {rate.seconds_a_step / peer.seconds_a_step:.2f}"
    )


if __name__ == "__main__":
    app.run(main)

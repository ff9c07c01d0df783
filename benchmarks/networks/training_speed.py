"""Training speed: the step alone, the step behind the loader, and PyTorch's step.

  python -m benchmarks.networks.training_speed [--config=configs/pairs.py] [--batch_size=8]
      [--seconds=20]

The step is the config's own network, loss and optimizer on all local devices; floating-point
operations are those of the program before it is optimised (a multiply-add counts twice). The peak
is the fastest of a few square matrix products in the config's dtype. Behind the loader, pairs come
from 640x480 JPEG pictures on disk, decoded, cropped and jittered anew. PyTorch, where it is
installed (requirements-torch.txt) and on CPU, runs the same network, batch, loss and optimizer,
channels last, with as many threads as there are cores.
"""

import dataclasses
import os
import pathlib
import tempfile
import time
from collections.abc import Callable

import cv2
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from absl import app, flags
from flax import jax_utils

from jaxreloc.config_flag import define_config
from jaxreloc.data.loader import PairLoader
from jaxreloc.data.pairing.pairs import make_pairs
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.images import ImageFiles
from jaxreloc.models import build_network, init_variables
from jaxreloc.training import optimizer, step
from jaxreloc.training.inputs.pair_inputs import shard
from jaxreloc.training.losses import pose_losses
from jaxreloc.training.state import create_state
from jaxreloc.training.tasks.pose_task import PoseTask

try:
    import torch

    from benchmarks.networks import torch_networks
except ImportError:
    torch = None

_CONFIG = define_config("configs/pairs.py")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 8, "pairs in a step", lower_bound=2)
_SECONDS = flags.DEFINE_float("seconds", 20.0, "time measured for each row")

NUM_FRAMES, NUM_PAIRS = 100, 4096
PEAK_SIZES = {"cpu": (1024, 2048), "gpu": (4096, 8192, 16384)}


@dataclasses.dataclass(frozen=True)
class Rate:
    """Steps measured one after another."""

    seconds_a_step: float  # median
    waiting_share: float = 0.0  # of the time, for data


def measure(run_step: Callable[[], float]) -> Rate:
    """Repeats a step for the seconds asked for; it returns how long it waited for data."""
    run_step()  # compiles
    took, waited = [], 0.0
    end = time.perf_counter() + _SECONDS.value
    while time.perf_counter() < end or len(took) < 3:
        start = time.perf_counter()
        waited += run_step()
        took.append(time.perf_counter() - start)
    return Rate(float(np.median(took)), waited / sum(took))


def make_step(config: ml_collections.ConfigDict):
    """The config's training step, and the state to start from."""
    network = build_network(config.model, axis_name=step.AXIS)
    loss = pose_losses.build_loss(config.loss)
    transformation, _ = optimizer.build_optimizer(config.optimizer, config.num_steps)
    task = PoseTask(network, loss)
    train_step = step.make_train_step(task, transformation, accumulation=config.accumulation)
    variables = init_variables(network, jax.random.key(0))
    state = create_state(variables, loss, transformation)
    return train_step, jax_utils.replicate(state, axis_name=step.AXIS)


def ready_batch(batch_size: int, crop: int) -> dict[str, np.ndarray]:
    """Pairs of noise, without device axis."""
    rng = np.random.default_rng(0)
    q_wxyz = rng.normal(size=(batch_size, 4))
    q_wxyz /= np.linalg.norm(q_wxyz, axis=1, keepdims=True)
    shape = (batch_size, crop, crop, 3)
    return {
        "db_image": rng.integers(0, 256, shape, dtype=np.uint8),
        "query_image": rng.integers(0, 256, shape, dtype=np.uint8),
        "db_from_query": np.float32(np.c_[q_wxyz, rng.normal(size=(batch_size, 3))]),
        "db_intrinsics": np.tile(np.eye(3, dtype=np.float32), (batch_size, 1, 1)),
        "query_intrinsics": np.tile(np.eye(3, dtype=np.float32), (batch_size, 1, 1)),
        "mask": np.ones(batch_size, bool),
        "pair_index": np.arange(batch_size),
    }


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

    return measure(run_step), flops


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

    return measure(run_step)


def torch_step(config: ml_collections.ConfigDict) -> Rate:
    """PyTorch's step, eager and channels last."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    network = torch_networks.Siamese(torch_networks.build_backbone(config.model.backbone)).train()
    adam = torch.optim.Adam(network.parameters(), lr=config.optimizer.learning_rate)
    batch = ready_batch(_BATCH_SIZE.value, config.data.crop)
    images = [
        torch.from_numpy(batch[name]).permute(0, 3, 1, 2) for name in ("db_image", "query_image")
    ]
    target = torch.from_numpy(batch["db_from_query"])

    def run_step() -> float:
        t, q = network(*((image.float() - 120.0) / 58.0 for image in images))
        q = q / q.norm(dim=1, keepdim=True)
        nearer = torch.where((q * target[:, :4]).sum(1, keepdim=True) >= 0, 1.0, -1.0)
        loss = (t - target[:, 4:]).norm(dim=1) + (q - nearer * target[:, :4]).norm(dim=1)
        adam.zero_grad()
        loss.mean().backward()
        adam.step()
        return 0.0

    return measure(run_step)


def matmul_peak(dtype: str) -> float:
    """Floating-point operations a second of the fastest matrix product, over all local devices."""
    best = 0.0
    for size in PEAK_SIZES.get(jax.default_backend(), PEAK_SIZES["gpu"]):
        multiply = jax.jit(jnp.matmul)
        x = jnp.ones((size, size), dtype)
        jax.block_until_ready(multiply(x, x))
        took = []
        for _ in range(5):
            start = time.perf_counter()
            jax.block_until_ready(multiply(x, x))
            took.append(time.perf_counter() - start)
        best = max(best, 2 * size**3 / min(took))
    return best * (1 if jax.default_backend() == "cpu" else jax.local_device_count())


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
    peak = matmul_peak(config.model.dtype)
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
    if torch is None or jax.default_backend() != "cpu":
        print("PyTorch             not measured: not installed, or this is not a CPU")
        return
    peer = torch_step(config)
    print(
        f"PyTorch {torch.__version__:11s} {batch_size / peer.seconds_a_step:8.3g} pairs/s, "
        f"{1000 * peer.seconds_a_step:.0f} ms\n"
        f"jaxreloc / PyTorch, time of a step: {rate.seconds_a_step / peer.seconds_a_step:.2f}"
    )


if __name__ == "__main__":
    app.run(main)

"""The training step on ready batches, in JAX and in PyTorch, and the rate of matrix products."""

import dataclasses
import os
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import jax_utils

from jaxreloc.models import build_network, init_variables
from jaxreloc.training import optimizer, step
from jaxreloc.training.losses import pose_losses
from jaxreloc.training.state import create_state
from jaxreloc.training.tasks.pose_task import PoseTask

try:
    import torch

    from benchmarks.networks import torch_networks
except ImportError:
    torch = None

PEAK_SIZES = {"cpu": (1024, 2048), "gpu": (4096, 8192, 16384)}


@dataclasses.dataclass(frozen=True)
class Rate:
    """Steps measured one after another."""

    seconds_a_step: float  # median
    waiting_share: float = 0.0  # of the time, for data


def measure(run_step: Callable[[], float], seconds: float) -> Rate:
    """Repeats a step for some seconds; it returns how long it waited for data."""
    run_step()  # compiles
    took, waited = [], 0.0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(took) < 3:
        start = time.perf_counter()
        waited += run_step()
        took.append(time.perf_counter() - start)
    return Rate(float(np.median(took)), waited / sum(took))


def make_step(config: ml_collections.ConfigDict, devices: list[jax.Device] | None = None):
    """The config's training step, and the state to start from on these devices; None: all."""
    network = build_network(config.model, axis_name=step.AXIS)
    loss = pose_losses.build_loss(config.loss)
    transformation, _ = optimizer.build_optimizer(config.optimizer, config.num_steps)
    task = PoseTask(network, loss)
    train_step = step.make_train_step(task, transformation, accumulation=config.accumulation)
    variables = init_variables(network, jax.random.key(0))
    state = create_state(variables, loss, transformation)
    return train_step, jax_utils.replicate(state, devices, axis_name=step.AXIS)


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


def torch_step(config: ml_collections.ConfigDict, batch_size: int, seconds: float) -> Rate:
    """PyTorch's step on a GPU if JAX has one, eager and channels last, in the config's dtype."""
    device = "cpu" if jax.default_backend() == "cpu" else "cuda"
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    network = torch_networks.Siamese(torch_networks.build_backbone(config.model.backbone))
    network = network.train().to(device)
    adam = torch.optim.Adam(network.parameters(), lr=config.optimizer.learning_rate)
    batch = ready_batch(batch_size, config.data.crop)
    images = [
        torch.from_numpy(batch[name]).to(device).permute(0, 3, 1, 2)
        for name in ("db_image", "query_image")
    ]
    target = torch.from_numpy(batch["db_from_query"]).to(device)
    halved = config.model.dtype == "bfloat16"

    def run_step() -> float:
        with torch.autocast(device, torch.bfloat16, enabled=halved):
            t, q = network(*((image.float() - 120.0) / 58.0 for image in images))
        t, q = t.float(), q.float()
        q = q / q.norm(dim=1, keepdim=True)
        nearer = torch.where((q * target[:, :4]).sum(1, keepdim=True) >= 0, 1.0, -1.0)
        loss = (t - target[:, 4:]).norm(dim=1) + (q - nearer * target[:, :4]).norm(dim=1)
        adam.zero_grad()
        loss.mean().backward()
        adam.step()
        if device == "cuda":
            torch.cuda.synchronize()
        return 0.0

    return measure(run_step, seconds)


def matmul_peak(dtype: str, sizes: tuple[int, ...] | None = None) -> float:
    """Floating-point operations a second of the fastest matrix product of random numbers, over all
    local devices."""
    best = 0.0
    for size in sizes or PEAK_SIZES.get(jax.default_backend(), PEAK_SIZES["gpu"]):
        multiply = jax.jit(jnp.matmul)
        x = jax.random.normal(jax.random.key(0), (size, size), dtype)
        jax.block_until_ready(multiply(x, x))
        took = []
        for _ in range(5):
            start = time.perf_counter()
            jax.block_until_ready(multiply(x, x))
            took.append(time.perf_counter() - start)
        best = max(best, 2 * size**3 / min(took))
    return best * (1 if jax.default_backend() == "cpu" else jax.local_device_count())

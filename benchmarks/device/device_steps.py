"""The paper's training step by backbone, dtype and batch, and over several devices."""

from collections.abc import Callable, Iterator

import jax
import ml_collections
import numpy as np

from benchmarks.device import device_inputs as inputs
from benchmarks.device.device_throughput import OUT_OF_MEMORY, Row
from benchmarks.device.sizes import Sizes
from benchmarks.networks import pair_step
from configs import pairs
from jaxreloc.training.inputs.pair_inputs import shard


def rows(sizes: Sizes, in_time: Callable[[], bool]) -> Iterator[Row]:
    """Pairs and images a second, share of the matmul peak and memory, beside PyTorch's step."""
    peaks = {dtype: pair_step.matmul_peak(dtype, sizes.matmul) for dtype in sizes.dtypes}
    for dtype, peak in peaks.items():
        yield {"backbone": "matrix product", "dtype": dtype, "tflops": peak / 1e12}
    for backbone in sizes.backbones:
        for dtype in sizes.dtypes:
            for batch in sizes.batches:
                row = {"backbone": backbone, "dtype": dtype, "batch": batch}
                if not in_time():
                    yield row | {"note": "no time was left"}
                    continue
                config = _config(backbone, dtype, sizes)
                measured = _measured(lambda: _step(config, batch, sizes, peaks[dtype]))
                if pair_step.torch is not None:
                    measured |= _measured(lambda: _torch(config, batch, sizes))
                yield row | measured


def over_devices(sizes: Sizes, in_time: Callable[[], bool]) -> Iterator[Row]:
    """The same global batch on one device and on all, and how much faster all are."""
    config = _config(sizes.backbones[0], "float32", sizes)
    devices = jax.local_devices()
    batch = pair_step.ready_batch(max(sizes.batches[0], 2) * len(devices), sizes.crop)
    losses, seconds = [], []
    for used in [devices[:1], devices][: len(devices)]:
        if not in_time():
            yield {"devices": len(used), "note": "no time was left"}
            return
        train_step, state = pair_step.make_step(config, used)
        split = jax.tree.map(lambda x: x.reshape(len(used), -1, *x.shape[1:]), batch)
        losses.append([])

        def run_step() -> float:
            nonlocal state
            state, metrics = train_step(state, split)
            losses[-1].append(float(metrics["loss"][0]))
            return 0.0

        seconds.append(pair_step.measure(run_step, sizes.seconds).seconds_a_step)
        rate = len(batch["mask"]) / seconds[-1]
        yield {
            "devices": len(used),
            "pairs_per_second": rate,
            "speedup": seconds[0] / seconds[-1],
            "first_loss": losses[-1][0],
            "difference": abs(losses[-1][0] - losses[0][0]) / abs(losses[0][0]),
        }


def _config(backbone: str, dtype: str, sizes: Sizes) -> ml_collections.ConfigDict:
    config = pairs.get_config("port").unlock()
    config.model.update(inputs.model(backbone, dtype), pretrained=None)
    config.data.crop = sizes.crop
    return config


def _measured(measure: Callable[[], Row]) -> Row:
    try:
        return measure()
    except (jax.errors.JaxRuntimeError, RuntimeError) as error:  # PyTorch's is a RuntimeError
        if OUT_OF_MEMORY not in str(error) and "out of memory" not in str(error):
            raise
        return {"note": "out of memory"}


def _step(config: ml_collections.ConfigDict, batch_size: int, sizes: Sizes, peak: float) -> Row:
    train_step, state = pair_step.make_step(config)
    batch = shard(_divisible(pair_step.ready_batch(batch_size, sizes.crop)))
    lowered = train_step.lower(state, batch)
    flops = lowered.cost_analysis()["flops"] * jax.local_device_count()

    def run_step() -> float:
        nonlocal state
        state, metrics = train_step(state, batch)
        jax.block_until_ready(metrics)
        return 0.0

    took = pair_step.measure(run_step, sizes.seconds).seconds_a_step
    statistics = jax.local_devices()[0].memory_stats() or {}
    pairs_a_step = len(batch["mask"].ravel())
    return {
        "ms": 1e3 * took,
        "images_per_second": 2 * pairs_a_step / took,
        "tflops": flops / took / 1e12,
        "share_of_peak": flops / took / peak,
        "most_memory_gb": statistics.get("peak_bytes_in_use", 0) / 1e9,  # of all so far
    }


def _divisible(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """As many pairs as divide over the devices."""
    devices = jax.local_device_count()
    count = max(1, len(batch["mask"]) // devices) * devices
    return {name: np.resize(x, (count, *x.shape[1:])) for name, x in batch.items()}


def _torch(config: ml_collections.ConfigDict, batch_size: int, sizes: Sizes) -> Row:
    took = pair_step.torch_step(config, batch_size, sizes.seconds).seconds_a_step
    return {"torch_ms": 1e3 * took, "torch_images_per_second": 2 * batch_size / took}

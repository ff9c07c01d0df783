"""Milliseconds an image of the backbones, beside PyTorch's in the same run.

    python -m benchmarks.networks.inference_speed [--backbone=resnet34,efficientnet_lite0]
        [--batch=1,16]

PyTorch (requirements-torch.txt) is measured at its best: traced, frozen and optimised for
inference, and eager, both with channels-last memory. Without it, that column is absent.
"""

import importlib.util
import os
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np
from absl import app, flags

from jaxreloc.models import build_network, inference, init_variables
from jaxreloc.models.weights.saved_network import LoadedNetwork

BACKBONES = flags.DEFINE_list("backbone", ["resnet34", "efficientnet_lite0"], "which backbones")
BATCHES = flags.DEFINE_list("batch", ["1", "16"], "images at a time")
SIZE = flags.DEFINE_integer("size", 224, "height and width of the images (pixels)")
REPEATS = flags.DEFINE_integer("repeats", 10, "runs of each; the fastest counts")


def fastest_ms(run: Callable[[], None]) -> float:
    """Wall time of the fastest of REPEATS runs, after one that compiles."""
    run()
    times = []
    for _ in range(REPEATS.value):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def measure_jax(backbone: str, images: np.ndarray) -> Iterator[tuple[str, float]]:
    network = build_network({"backbone": backbone})
    variables = init_variables(network, jax.random.key(0))
    plain = jax.jit(lambda given, images: network.apply(given, images, method="encode"))
    yield "JAX, plain", fastest_ms(lambda: jax.block_until_ready(plain(variables, images)))
    encode = inference.inference_functions(LoadedNetwork(network, variables, {})).encode
    yield "JAX, for inference", fastest_ms(lambda: jax.block_until_ready(encode(images)))


def measure_torch(backbone: str, images: np.ndarray) -> Iterator[tuple[str, float]]:
    import torch

    from benchmarks.networks import torch_networks

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    network = torch_networks.build_backbone(backbone).eval()
    x = torch.tensor(images).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        yield "PyTorch, eager", fastest_ms(lambda: network(x))
        traced = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(network, x)))
        traced(x)
        yield "PyTorch, jit", fastest_ms(lambda: traced(x))


def main(argv: list[str]) -> None:
    del argv
    has_torch = importlib.util.find_spec("torch") is not None
    device, cores = jax.devices()[0], len(os.sched_getaffinity(0))
    print(f"{device.device_kind}, {cores} cores, {SIZE.value} x {SIZE.value} pixels, ms/image")
    if not has_torch:
        print("PyTorch is not installed (requirements-torch.txt): no comparison")
    elif jax.default_backend() != "cpu":
        print("PyTorch is measured on CPUs only: no comparison")
    compare = has_torch and jax.default_backend() == "cpu"
    rng = np.random.default_rng(0)
    for backbone in BACKBONES.value:
        for batch in map(int, BATCHES.value):
            images = rng.integers(0, 256, (batch, SIZE.value, SIZE.value, 3), np.uint8)
            ours = dict(measure_jax(backbone, images))
            theirs = dict(measure_torch(backbone, images)) if compare else {}
            print(f"{backbone}, batch {batch}")
            for name, milliseconds in (ours | theirs).items():
                print(f"  {name:20s} {milliseconds / batch:8.2f}")
            if theirs:
                ratio = min(theirs.values()) / min(ours.values())
                print(f"  speed relative to PyTorch's best: {ratio:.2f}", flush=True)


if __name__ == "__main__":
    app.run(main)

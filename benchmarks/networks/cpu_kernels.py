"""What queries and training steps on a CPU lose without each hand-written kernel.

  taskset -c 0 python -m benchmarks.networks.cpu_kernels [--repeats=10]

Columns: the encoding of a 512x384 picture by the network that ships; of a 224x224 one by ResNet-34,
the paper's backbone; and training steps of 4 pairs of 128x128 pictures with ResNet-18 and with
EfficientNet-lite0. The first row is milliseconds with all kernels; the others say by how many
percent it takes longer where XLA's own code takes the place of one. Times are those of the
processor, the fastest of the repeats, which go round all rows, so that other work on the machine
shifts them little.
"""

import contextlib
import functools
import os
import time
from collections.abc import Callable, Iterator
from unittest import mock

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tabulate
from absl import app, flags
from flax import jax_utils
from flax import linen as nn

from jaxreloc.localization.networks.match_network import MatchNetwork
from jaxreloc.models import build_network, init_variables, layers
from jaxreloc.models.inference import inference_functions
from jaxreloc.models.kernels import convolution, depthwise, pooling
from jaxreloc.models.weights.network_weights import shipped_matcher
from jaxreloc.models.weights.saved_network import LoadedNetwork
from jaxreloc.training import step
from jaxreloc.training.inputs.pair_inputs import shard
from jaxreloc.training.losses.pose_losses import PairLoss
from jaxreloc.training.state import create_state
from jaxreloc.training.tasks.pose_task import PoseTask

_REPEATS = flags.DEFINE_integer("repeats", 10, "Rounds; the fastest of each row counts.")

TRAINED = {"ResNet-18 step": "resnet18", "EfficientNet-lite0 step": "efficientnet_lite0"}
PAIRS, SIDE = 4, 128


def _xla_depthwise(x, kernel, strides, pads):
    return convolution._plain(x, kernel, strides, pads, depthwise=True)


def _xla_sum(x):
    return jnp.sum(x, axis=tuple(range(x.ndim - 1)))


def _xla_broadcast(x, shape):
    return jnp.broadcast_to(x.reshape((1,) * (len(shape) - 1) + x.shape), shape)


def _xla_max_pool(x):
    return nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))


# What is put in the place of each kernel: a module, a name in it, and a value.
WITHOUT = {
    "Winograd": [(convolution, "MOST_WINOGRAD_WEIGHTS", -1)],
    "depthwise": [(depthwise, "depthwise", _xla_depthwise)],
    "channel sums": [
        *[(module, "channel_sum", _xla_sum) for module in (layers, depthwise)],
        *[(module, "channel_broadcast", _xla_broadcast) for module in (layers, depthwise)],
    ],
    "pooling": [(pooling, "max_pool", _xla_max_pool)],
}


@contextlib.contextmanager
def without(name: str | None) -> Iterator[None]:
    """XLA's own code instead of one kernel, in what is traced within."""
    jax.clear_caches()
    with contextlib.ExitStack() as stack:
        for module, attribute, value in WITHOUT.get(name, []):
            stack.enter_context(mock.patch.object(module, attribute, value))
        yield


def encoding_of_a_query(rng: np.random.Generator) -> Callable[[], object]:
    """The shipped network on its default canvas."""
    network = MatchNetwork(shipped_matcher((384, 512)))
    image = rng.integers(0, 256, (1, 384, 512, 3), dtype=np.uint8)
    return functools.partial(network.encode, image)


def encoding_by_resnet(rng: np.random.Generator) -> Callable[[], object]:
    """The paper's backbone with random weights."""
    model = {"backbone": "resnet34"}
    network = build_network(model)
    variables = init_variables(network, jax.random.key(0))
    functions = inference_functions(LoadedNetwork(network, variables, {"model": model}))
    image = rng.integers(0, 256, (1, 224, 224, 3), dtype=np.uint8)
    return functools.partial(functions.encode, image)


def training_step(backbone: str, rng: np.random.Generator) -> Callable[[], object]:
    """A step of the paper's network with a backbone, from random weights."""
    network = build_network({"backbone": backbone}, axis_name=step.AXIS)
    optimizer, loss = optax.sgd(1e-4), PairLoss()
    train_step = step.make_train_step(PoseTask(network, loss), optimizer)
    state = create_state(init_variables(network, jax.random.key(0)), loss, optimizer)
    state = jax_utils.replicate(state, axis_name=step.AXIS)
    images = rng.integers(0, 256, (2, PAIRS, SIDE, SIDE, 3), dtype=np.uint8)
    eye = np.tile(np.eye(3, dtype=np.float32), (PAIRS, 1, 1))
    batch = {
        "db_image": images[0],
        "query_image": images[1],
        "db_from_query": np.tile(np.float32([1, 0, 0, 0, 1, 0, 0]), (PAIRS, 1)),
        "db_intrinsics": eye,
        "query_intrinsics": eye,
        "mask": np.ones(PAIRS, bool),
        "pair_index": np.arange(PAIRS),
    }

    def run():
        nonlocal state
        state, metrics = train_step(state, shard(batch))
        return metrics

    return run


def main(argv: list[str]) -> None:
    del argv
    jobs = {"query": encoding_of_a_query, "ResNet-34 query": encoding_by_resnet} | {
        title: functools.partial(training_step, name) for title, name in TRAINED.items()
    }
    rows = {name: {"": f"without {name}" if name else "all, ms"} for name in (None, *WITHOUT)}
    for title, make in jobs.items():
        runs = {}
        for name in rows:
            with without(name):
                runs[name] = make(np.random.default_rng(0))
                jax.block_until_ready(runs[name]())
        fastest = dict.fromkeys(rows, float("inf"))
        for _ in range(_REPEATS.value):
            for name, run in runs.items():
                start = time.process_time()
                jax.block_until_ready(run())
                fastest[name] = min(fastest[name], time.process_time() - start)
        rows[None][title] = f"{1e3 * fastest[None]:.1f}"
        for name in WITHOUT:
            rows[name][title] = f"{fastest[name] / fastest[None] - 1:+.0%}"
        print(title, {name: f"{1e3 * x:.1f} ms" for name, x in fastest.items()}, flush=True)
    print(tabulate.tabulate(rows.values(), headers="keys"))


if __name__ == "__main__":
    app.run(main)

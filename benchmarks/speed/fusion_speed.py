"""Queries fused a second, beside a NumPy loop over queries and a batched NumPy version.

  python -m benchmarks.speed.fusion_speed [--counts=5,10,50] [--batches=1,1000,100000]

On CPUs it runs on one core (`--cores`). A row is a method, a number of neighbours and a batch:
milliseconds a call (best of several, compiled before), queries a second, the ratio to the NumPy
loop and to batched NumPy (the paper's method, of the same neighbours), temporary memory, and the
memory-bandwidth floor: the time to move a query's input and output at the bandwidth that copying an
array reaches on this device, as a share of the time taken.
"""

import os
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import tabulate
from absl import app, flags
from jaxlie import SE3

from jaxreloc.geometry.fusion import fuse
from tests.geometry.paper_reference import fuse_paper
from tests.geometry.simulated_pairs import Noise, predict, rooms, rotation_of

METHODS = ("paper", "robust")
NUMPY_QUERIES = {"loop": 30, "batched": 2000}
NUMPY_MAX_COUNT = 10  # 50 neighbours make 1,225 pairs, which the NumPy versions all triangulate
COPY_BYTES = 2**28

_COUNTS = flags.DEFINE_list("counts", ["5", "10", "50"], "neighbours a query")
_BATCHES = flags.DEFINE_list("batches", ["1", "1000", "100000"], "queries a call")
_CORES = flags.DEFINE_integer("cores", 1, "CPU cores to run on")
_SEED = flags.DEFINE_integer("seed", 0, "of the simulated cameras")


def seconds(call: Callable[[], object], min_calls: int = 3, min_seconds: float = 0.5) -> float:
    """The shortest of several calls, the first one not counted."""
    call()
    times = []
    while len(times) < min_calls or sum(times) < min_seconds:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def simulated(rng: np.random.Generator, batch: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Neighbours and predictions, float32 [batch, count, 7]; a large batch repeats queries."""
    query, db = rooms(rng, min(batch, 2000), count)
    relative, _ = predict(rng, db, query, Noise())
    repeat = -(-batch // len(db))
    return tuple(np.tile(np.float32(x), (repeat, 1, 1))[:batch] for x in (db, relative))


def batched_numpy(db: np.ndarray, relative: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The paper's method on whole arrays: positions [B, 3] and quaternions [B, 4], wxyz."""
    count = db.shape[1]
    rotation_db = rotation_of(db.reshape(-1, 7))
    direction = rotation_db.apply(relative[..., 4:].reshape(-1, 3)).reshape(-1, count, 3)
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    q_wxyz = (rotation_db * rotation_of(relative.reshape(-1, 7))).as_quat(scalar_first=True)
    return _numpy_position(db[..., 4:], direction), _numpy_rotation(q_wxyz.reshape(-1, count, 4))


def _numpy_position(centre: np.ndarray, direction: np.ndarray) -> np.ndarray:
    i, j = np.triu_indices(centre.shape[1], 1)
    a, b, baseline = direction[:, i], direction[:, j], centre[:, j] - centre[:, i]
    cosine = np.sum(a * b, axis=-1)
    sine_squared = np.maximum(np.sum(np.cross(a, b) ** 2, axis=-1), 1e-12)
    along_a, along_b = np.sum(baseline * a, axis=-1), np.sum(baseline * b, axis=-1)
    s = (along_a - cosine * along_b) / sine_squared
    u = (cosine * along_a - along_b) / sine_squared
    point = (centre[:, i] + s[..., None] * a + centre[:, j] + u[..., None] * b) / 2
    seen = point[:, :, None] - centre[:, None]
    along = np.abs(np.sum(seen * direction[:, None], axis=-1))
    votes = np.sum(along > np.cos(np.deg2rad(10)) * np.linalg.norm(seen, axis=-1), axis=-1)
    winner = votes == votes.max(axis=1, keepdims=True)
    return np.sum(point * winner[..., None], axis=1) / winner.sum(axis=1, keepdims=True)


def _numpy_rotation(q_wxyz: np.ndarray) -> np.ndarray:
    cosine = np.abs(np.einsum("bik,bjk->bij", q_wxyz, q_wxyz))
    votes = np.sum(cosine > np.cos(np.deg2rad(10)), axis=-1)
    winner = (votes == votes.max(axis=1, keepdims=True)).astype(float)
    first = q_wxyz[np.arange(len(q_wxyz)), np.argmax(winner, axis=1)]
    sign = np.where(np.einsum("bk,bnk->bn", first, q_wxyz) < 0, -1.0, 1.0)
    mean = np.einsum("bn,bnk->bk", winner * sign, q_wxyz)
    return mean / np.linalg.norm(mean, axis=-1, keepdims=True)


def copy_bandwidth() -> float:
    """Bytes a second, read and written, of adding one to a large array."""
    array = jnp.zeros(COPY_BYTES // 4)
    add_one = jax.jit(lambda x: x + 1)
    return 2 * COPY_BYTES / seconds(lambda: jax.block_until_ready(add_one(array)))


def moved_bytes(db: SE3, relative: SE3, method: str) -> int:
    """Of the input and the output of one call."""
    result = jax.eval_shape(lambda a, b: fuse(a, b, method=method), db, relative)
    leaves = jax.tree.leaves((db, relative, result))
    return sum(x.size * x.dtype.itemsize for x in leaves)


def measure(
    db: np.ndarray, relative: np.ndarray, method: str, bandwidth: float
) -> tuple[float, float, float]:
    """Seconds a call, temporary MiB, and the share of the bandwidth floor in the time."""
    poses = tuple(SE3(jnp.asarray(x)) for x in (db, relative))
    taken = seconds(lambda: jax.block_until_ready(fuse(*poses, method=method)))
    compiled = jax.jit(lambda a, b: fuse(a, b, method=method)).lower(*poses).compile()
    temporary = compiled.memory_analysis().temp_size_in_bytes / 2**20
    return taken, temporary, moved_bytes(*poses, method) / bandwidth / taken


def numpy_rates(rng: np.random.Generator, count: int) -> tuple[float, float] | None:
    """Queries a second of the NumPy loop and of batched NumPy."""
    if count > NUMPY_MAX_COUNT:
        return None
    db, relative = (x.astype(float) for x in simulated(rng, NUMPY_QUERIES["batched"], count))
    few = NUMPY_QUERIES["loop"]
    loop = seconds(lambda: [fuse_paper(*x) for x in zip(db[:few], relative[:few])], 2, 0.0)
    batched = seconds(lambda: batched_numpy(db, relative))
    return few / loop, NUMPY_QUERIES["batched"] / batched


def main(_) -> None:
    if hasattr(os, "sched_setaffinity"):  # before JAX makes its threads
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: _CORES.value])
    rng = np.random.default_rng(_SEED.value)
    bandwidth = copy_bandwidth()
    print(f"{jax.devices()[0].device_kind}, copy bandwidth {bandwidth / 1e9:.1f} GB/s")
    rows = []
    for count in map(int, _COUNTS.value):
        rates = numpy_rates(rng, count)
        if rates:
            print(f"N = {count}: NumPy loop {rates[0]:,.0f} queries/s, batched {rates[1]:,.0f}")
        for batch in map(int, _BATCHES.value):
            db, relative = simulated(rng, batch, count)
            for method in METHODS:
                taken, temporary, floor = measure(db, relative, method, bandwidth)
                ratios = [f"{batch / taken / rate:,.1f}" for rate in rates] if rates else ["", ""]
                rate = f"{batch / taken:,.0f}"
                row = [method, count, batch, f"{taken * 1e3:.3f}", rate, *ratios]
                rows.append([*row, f"{temporary:.1f}", f"{floor:.2%}"])
    headers = [
        "method",
        "N",
        "batch",
        "ms/call",
        "queries/s",
        "x loop",
        "x batched",
        "MiB",
        "floor",
    ]
    print(
        tabulate.tabulate(rows, headers, colalign=["left"] + ["right"] * 8, disable_numparse=True)
    )


if __name__ == "__main__":
    app.run(main)

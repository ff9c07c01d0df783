"""Fusion, both pose estimators, matching, encoding, retrieval and a whole query, by batch size."""

import functools
import time
from collections.abc import Callable, Iterator
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.device import device_inputs as inputs
from benchmarks.device.sizes import Sizes
from jaxreloc.compilation import compiler_options
from jaxreloc.geometry.absolute_pose import estimate_absolute_pose
from jaxreloc.geometry.fusion import Method, fuse
from jaxreloc.geometry.relative_pose import estimate_relative_pose
from jaxreloc.localization.localizer import Localizer
from jaxreloc.localization.map.encoding import encode_frames
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.neighbors.retrieval import most_similar
from jaxreloc.localization.networks.loading import pretrained_network

Row = dict[str, object]
DIM = 512
OUT_OF_MEMORY = "RESOURCE_EXHAUSTED"
QUERIES = 10


def rows(sizes: Sizes, in_time: Callable[[], bool]) -> Iterator[Row]:
    """One row a kernel and batch, as they are measured; the rest is said to be left out."""
    for kernel, batches, make in _kernels(sizes):
        for batch in batches:
            row = {"kernel": kernel, "batch": batch}
            if not in_time():
                yield row | {"note": "no time was left"}
                continue
            yield row | _measured(make, batch, sizes.seconds)
    yield from _whole_query(sizes, in_time)


def _measured(make: Callable[[int], Callable[[], object]], batch: int, seconds: float) -> Row:
    try:
        call = make(batch)
        start = time.perf_counter()
        jax.block_until_ready(call())
        compile_s = time.perf_counter() - start
        took = median_seconds(lambda: jax.block_until_ready(call()), seconds)
    except jax.errors.JaxRuntimeError as error:
        if OUT_OF_MEMORY not in str(error):
            raise
        return {"note": "out of memory"}
    return {"ms": 1e3 * took, "per_second": batch / took, "first_call_s": compile_s}


def median_seconds(call: Callable[[], object], seconds: float) -> float:
    """Of calls, three at least."""
    took = []
    while len(took) < 3 or sum(took) < seconds:
        start = time.perf_counter()
        call()
        took.append(time.perf_counter() - start)
    return float(np.median(took))


def _kernels(sizes: Sizes):
    for method in get_args(Method):
        yield f"fusion, {method}, N = 5", sizes.fusion, functools.partial(_fusion, method)
    relate = functools.partial(_relative_pose, sizes)
    yield "relative pose, 600 matches", sizes.relative_pose, relate
    solve = functools.partial(_absolute_pose, sizes)
    yield "absolute pose, 10 x 600 matches", sizes.absolute_pose, solve
    network = pretrained_network(np.array([[4, 3]]), long_side=sizes.canvas)
    features = _described(network, sizes)
    yield "encoding", sizes.encoding, functools.partial(_encoding, network, sizes)
    yield "matching", sizes.matching, functools.partial(_matching, network, features)
    name = f"retrieval of {sizes.descriptors}"
    yield name, sizes.retrieval, functools.partial(_retrieval, _Database(sizes.descriptors))


def _fusion(method: str, batch: int):
    poses = inputs.fusion_inputs(batch)
    return lambda: fuse(*poses, method=method)


def _relative_pose(sizes: Sizes, batch: int):
    matches = jax.device_put(inputs.relative_pose_inputs(batch))
    estimate = functools.partial(
        estimate_relative_pose,
        threshold=3 / 400,
        key=jax.random.key(0),
        config=sizes.relative,
    )
    compiled = jax.jit(estimate, compiler_options=compiler_options.wide_vectors())
    return lambda: compiled(*matches)


def _absolute_pose(sizes: Sizes, batch: int):
    given = inputs.absolute_pose_inputs(batch)
    estimate = functools.partial(
        estimate_absolute_pose, key=jax.random.key(0), config=sizes.absolute
    )
    compiled = jax.jit(jax.vmap(lambda x: estimate(**x)))
    return lambda: compiled(given)


def _described(network, sizes: Sizes):
    """Features and intrinsics of one picture."""
    (image,) = inputs.photographed_room(1, sizes.canvas, seed=9).images
    prepared, intrinsics = network.prepare(image, np.diag([sizes.canvas, sizes.canvas, 1.0]))
    return jax.device_get(network.encode(prepared[None])), intrinsics[None].astype(np.float32)


def _encoding(network, sizes: Sizes, batch: int):
    (image,) = inputs.photographed_room(1, sizes.canvas, seed=9).images
    prepared, _ = network.prepare(image, np.eye(3))
    images = jax.device_put(np.repeat(prepared[None], batch, axis=0))
    return lambda: network.encode(images)


def _matching(network, described, batch: int):
    features, intrinsics = described
    db = jax.device_put(jax.tree.map(lambda x: np.repeat(x, batch, axis=0), features))
    db_intrinsics = np.repeat(intrinsics, batch, axis=0)
    query = jax.device_put(features)
    similarity = jnp.ones(batch)
    return lambda: network.match_tracks(db, db_intrinsics, query, intrinsics, similarity)


class _Database:
    """Descriptors on the device, made when first asked for."""

    def __init__(self, count: int):
        self._count = count

    @functools.cached_property
    def descriptors(self) -> jax.Array:
        made = jax.random.normal(jax.random.key(0), (self._count, DIM))
        return made / jnp.linalg.norm(made, axis=1, keepdims=True)


def _retrieval(database: _Database, batch: int):
    queries = jnp.asarray(inputs.unit_vectors(batch, DIM, seed=10))
    return lambda: most_similar(queries, database.descriptors, num_neighbors=10)


def _whole_query(sizes: Sizes, in_time: Callable[[], bool]) -> Iterator[Row]:
    """One picture at a time, from pixels to the pose; decoding is not counted."""
    row = {"kernel": f"whole query, {sizes.canvas} px", "batch": 1}
    if not in_time():
        yield row | {"note": "no time was left"}
        return
    database = inputs.photographed_room(sizes.map_images, sizes.canvas, seed=7)
    queries = inputs.photographed_room(min(QUERIES, sizes.localized), sizes.canvas, seed=8)
    network = pretrained_network(database.image_sizes, long_side=sizes.canvas)
    scene_map = SceneMap.from_images(network, encode_frames(database, network))
    for mode in sizes.modes:
        localizer = Localizer(scene_map, mode=mode)
        start = time.perf_counter()
        localizer(queries.images[0], queries.intrinsics[0])
        first = time.perf_counter() - start
        stages: dict[str, list[float]] = {}
        took = []
        for image, intrinsics in zip(queries.images, queries.intrinsics, strict=True):
            start = time.perf_counter()
            found = localizer(image, intrinsics)
            took.append(time.perf_counter() - start)
            for stage, ms in found.stage_ms.items():
                stages.setdefault(stage, []).append(ms)
        by_stage = {f"{stage}_ms": float(np.median(ms)) for stage, ms in stages.items()}
        rate = {"ms": 1e3 * float(np.median(took)), "per_second": 1 / float(np.median(took))}
        yield row | {"kernel": f"{row['kernel']}, {mode}", "first_call_s": first} | rate | by_stage

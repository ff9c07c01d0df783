"""Matching by correlation, coarse to fine beside all pairs of cells: time, accuracy and memory.

  python -m benchmarks.speed.matching_speed [--rooms=2] [--pairs=60]

Rendered rooms of 512x384 pixels are encoded by EfficientNet-lite0 with ImageNet's weights. Pairs of
pictures that share at least a fifth of what they see are matched by both ways on one core, five
pairs at a time as a query does; true matches come from the rendered depth, and the relative pose
from the matches by `estimate_relative_pose`. The last line is what a map keeps of an image.
"""

import dataclasses
import functools
import os
import time

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import jax
import jax.numpy as jnp
import numpy as np
import tabulate
from absl import app, flags

from benchmarks.angles import between_deg, rotation_deg
from jaxreloc.compilation import compiler_options
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.geometry.relative_pose import estimate_relative_pose
from jaxreloc.models import build, first_variables
from jaxreloc.models.matching import coarse_to_fine, descriptors, rays, refinement
from jaxreloc.models.matching.coarse_to_fine import CellMatches, MatchSettings
from jaxreloc.models.matching.descriptors import FINE_STRIDE, CellDescriptors
from tfds_builders.rooms.generation import render_room
from tfds_builders.rooms.settings import RoomSettings

_ROOMS = flags.DEFINE_integer("rooms", 2, "rooms to render")
_PAIRS = flags.DEFINE_integer("pairs", 60, "pairs to match, a multiple of five")

HEIGHT, WIDTH = 384, 512
BATCH = 5
MIN_OVERLAP = 0.2
SETTINGS = MatchSettings()
INLIER_PX = 3.0
MODEL = {"backbone": "efficientnet_lite0", "head": "correlation", "pretrained": "default"}


@dataclasses.dataclass(frozen=True)
class Picture:
    """A rendered picture with what matching needs of it."""

    cells: CellDescriptors  # leading axis 1
    intrinsics: np.ndarray
    world_from_cam: np.ndarray
    depth: np.ndarray


def match_all_pairs(query: CellDescriptors, db: CellDescriptors) -> CellMatches:
    """Every fine cell against every fine cell, one pair."""
    query_grid, db_grid = (descriptors.fine_grid(x)[0] for x in (query, db))
    height, width, channels = db_grid.shape
    cosine = query_grid.reshape(-1, channels) @ db_grid.reshape(-1, channels).T
    likelihood = jnp.exp(SETTINGS.fine_temperature * (cosine - 1))
    best = jnp.argmax(cosine, axis=1)
    side = jnp.arange(-coarse_to_fine.FINE_RADIUS, coarse_to_fine.FINE_RADIUS + 1)
    offsets = jnp.stack(jnp.meshgrid(side, side, indexing="ij"), -1).reshape(1, -1, 2)
    near = jnp.stack(jnp.divmod(best, width), -1)[:, None] + offsets
    inside = jnp.all((near >= 0) & (near < jnp.array([[[height, width]]])), axis=-1)
    index = jnp.where(inside, near[..., 0] * width + near[..., 1], 0)
    weight = jnp.take_along_axis(likelihood, index, axis=1) * inside
    mass = jnp.sum(weight, axis=1)
    db_cells = jnp.sum(weight[..., None] * near, axis=1) / mass[:, None]
    mass = mass / jnp.sum(likelihood, axis=1)
    at_best = jnp.take_along_axis(likelihood, best[:, None], axis=1)[:, 0]
    reverse = at_best / jnp.sum(likelihood, axis=0)[best]
    _, first = jax.lax.top_k(mass * reverse, SETTINGS.max_matches)
    query_cells = jnp.stack(jnp.divmod(first, query_grid.shape[1]), -1)
    matches = CellMatches(
        query_cells=query_cells[:, ::-1].astype(jnp.float32),
        db_cells=db_cells[first, ::-1],
        confidence=(mass * reverse)[first],
        mass=mass[first],
        reverse=reverse[first],
    )
    return jax.tree.map(lambda x: x[None], matches)


def render_pictures(index: int) -> list[Picture]:
    """Half the pictures of a room, encoded."""
    settings = RoomSettings(width=WIDTH, height=HEIGHT, frames_per_path=10)
    room = render_room(settings, "test", index)
    network = build.build_network(MODEL)
    variables = first_variables(MODEL, network, jax.random.key(0))

    @functools.partial(jax.jit, compiler_options=compiler_options.convolutions())
    def describe(image):
        features = network.apply(variables, image[None], method="encode")
        return network.apply(variables, features, method="describe")

    def pictures(frames: PosedFrames) -> list[Picture]:
        return [
            Picture(
                jax.device_get(describe(frames.images[i])),
                frames.intrinsics[i],
                frames.world_from_cam[i],
                frames.depths[i],
            )
            for i in range(len(frames))
        ]

    return pictures(room.database) + pictures(room.query)


def true_pixels(query: Picture, db: Picture, pixels: np.ndarray) -> np.ndarray:
    """Where in `db` the points lie that `query` sees at `pixels`; far outside where behind it."""
    x, y = np.clip(np.rint(pixels).astype(int), 0, [WIDTH - 1, HEIGHT - 1]).T
    depth = query.depth[y, x].astype(np.float64)
    homogeneous = np.c_[pixels, np.ones(len(pixels))]
    points = homogeneous @ np.linalg.inv(query.intrinsics).T * depth[:, None]
    db_from_query = np.linalg.inv(db.world_from_cam) @ query.world_from_cam
    points = points @ db_from_query[:3, :3].T + db_from_query[:3, 3]
    projected = points @ db.intrinsics.T
    in_front = (depth > 0) & (projected[:, 2] > 0.05)
    return np.where(in_front[:, None], projected[:, :2] / np.maximum(projected[:, 2:], 0.05), 1e6)


def overlapping_pairs(pictures: list[Picture], rng: np.random.Generator, count: int):
    """Random (query, db) pictures; at least MIN_OVERLAP of the query's points lie in the other."""
    grid = np.stack(np.meshgrid(np.arange(8, WIDTH, 32), np.arange(8, HEIGHT, 32)), -1).reshape(
        -1, 2
    )
    pairs = []
    while len(pairs) < count:
        query, db = (pictures[i] for i in rng.choice(len(pictures), 2, replace=False))
        seen = true_pixels(query, db, grid.astype(float))
        inside = ((seen > 0) & (seen < [WIDTH, HEIGHT])).all(axis=1)
        baseline = np.linalg.norm(query.world_from_cam[:3, 3] - db.world_from_cam[:3, 3])
        if inside.mean() > MIN_OVERLAP and baseline > 0.05:
            pairs.append((query, db))
    return pairs


def measure(match, pairs) -> dict[str, float]:
    """Milliseconds for BATCH pairs, the share of matches within a cell, and pose errors."""
    compiled = jax.jit(lambda query, db: jax.lax.map(lambda pair: match(*pair), (query, db)))
    times_ms, within_cell, rotation_deg, direction_deg = [], [], [], []
    for start in range(0, len(pairs), BATCH):
        batch = pairs[start : start + BATCH]
        stacked = [
            jax.tree.map(lambda *x: np.stack(x), *(pair[side].cells for pair in batch))
            for side in (0, 1)
        ]
        if start == 0:
            jax.block_until_ready(compiled(*stacked))
        begin = time.perf_counter()
        matches = jax.block_until_ready(compiled(*stacked))
        times_ms.append(1e3 * (time.perf_counter() - begin))
        matches = jax.tree.map(lambda x: x[:, 0], matches)
        for k, (query, db) in enumerate(batch):
            pixels, found = (
                np.asarray(rays.cell_pixels(cells[k], FINE_STRIDE), np.float64)
                for cells in (matches.query_cells, matches.db_cells)
            )
            error_px = np.linalg.norm(found - true_pixels(query, db, pixels), axis=1)
            within_cell.append(np.mean(error_px < FINE_STRIDE))
        errors = pose_errors_deg(matches, batch)
        rotation_deg += errors[0]
        direction_deg += errors[1]
    return {
        "ms for 5 pairs": np.median(times_ms),
        "matches within a cell": np.mean(within_cell),
        "rotation, deg": np.median(rotation_deg),
        "direction, deg": np.median(direction_deg),
    }


def pose_errors_deg(matches: CellMatches, batch) -> tuple[list[float], list[float]]:
    """Rotation and direction errors of the poses that the matches give."""
    intrinsics = [
        jnp.asarray(np.stack([pair[side].intrinsics for pair in batch]), jnp.float32)
        for side in (0, 1)
    ]
    seen = rays.ray_matches(matches, *intrinsics)
    focal_px = np.array([np.sqrt(q.intrinsics[0, 0] * d.intrinsics[0, 0]) for q, d in batch])
    estimate = estimate_relative_pose(
        seen.x_query,
        seen.x_db,
        seen.confidence,
        threshold=INLIER_PX / focal_px,
        key=jax.random.key(0),
    )
    found = np.asarray(estimate.db_from_query.as_matrix(), np.float64)
    rotation, direction = [], []
    for pose, (query, db) in zip(found, batch, strict=True):
        true = np.linalg.inv(db.world_from_cam) @ query.world_from_cam
        rotation.append(rotation_deg(pose[:3, :3], true[:3, :3]))
        direction.append(between_deg(pose[:3, 3], true[:3, 3]))
    return rotation, direction


def main(argv: list[str]) -> None:
    del argv
    rng = np.random.default_rng(0)
    rooms = [render_pictures(index) for index in range(_ROOMS.value)]
    per_room = _PAIRS.value // len(rooms)
    pairs = [pair for room in rooms for pair in overlapping_pairs(room, rng, per_room)]
    eight_bits = [
        tuple(dataclasses.replace(x, cells=descriptors.quantise(x.cells)) for x in pair)
        for pair in pairs
    ]

    def match_restored(query, db):
        return coarse_to_fine.match(descriptors.restore(query), descriptors.restore(db))

    def match_refined(query, db):
        query, db = descriptors.restore(query), descriptors.restore(db)
        return refinement.refine(coarse_to_fine.match(query, db), query.detail, db.detail)

    rows = {
        "all pairs": measure(match_all_pairs, pairs),
        "coarse to fine": measure(coarse_to_fine.match, pairs),
        "coarse to fine, 8 bits": measure(match_restored, eight_bits),
        "coarse to fine, 8 bits, refined": measure(match_refined, eight_bits),
    }
    print(
        tabulate.tabulate(
            [{"": n, **row} for n, row in rows.items()], headers="keys", floatfmt=".3g"
        )
    )
    ratio = rows["all pairs"]["ms for 5 pairs"] / rows["coarse to fine, 8 bits"]["ms for 5 pairs"]
    print(f"coarse to fine is {ratio:.1f} times as fast as all pairs")
    kept = sum(x.nbytes for x in jax.tree.leaves(eight_bits[0][0].cells))
    floats = sum(x.nbytes for x in jax.tree.leaves(pairs[0][0].cells))
    print(
        f"a map keeps {kept / 1000:.0f} kB an image of {WIDTH}x{HEIGHT} "
        f"({floats / 1000:.0f} kB in float32)"
    )


if __name__ == "__main__":
    app.run(main)

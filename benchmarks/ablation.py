"""What each part of the correlation pipeline adds, on the same held-out rooms and queries.

  python -m benchmarks.ablation --library=FOLDER [--checkpoint=DIR] [--rooms=6] [--cache=FOLDER]
  python -m benchmarks.ablation --images=PHOTOS [--checkpoint=DIR]

For three input sizes and each estimator: medians over the queries' five retrieved neighbours
(rotation, direction and length of the relative pose), then the fused pose of each query. Queries
that are refused count as infinitely wrong. With --images, a folder of posed photographs of which every
fifth is a query.
"""

import functools
import os
import pathlib

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import jax
import jax.numpy as jnp
import jaxlie
import numpy as np
import tabulate
from absl import app, flags

from benchmarks import held_out
from benchmarks.held_out import Queries
from jaxreloc.data.datasets import split_frames
from jaxreloc.formats.posed_images import read_posed_images
from jaxreloc.geometry.fusion import fuse
from jaxreloc.localization import match_network, pretrained_network
from jaxreloc.localization.match_network import ESTIMATORS, PairRelations
from jaxreloc.models import saved_network
from jaxreloc.models.saved_network import LoadedNetwork
from jaxreloc.models.shipped_matcher import shipped_matcher
from jaxreloc.training.match_making import encode_scene

_LIBRARY = flags.DEFINE_string("library", None, "Prepared furniture library (synthetic_rooms).")
_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "A trained network instead of the shipped one.")
_SPLIT = flags.DEFINE_enum("split", "test", ["validation", "test"], "Of the rooms.")
_ROOMS = flags.DEFINE_integer("rooms", 6, "How many rooms.")
_IMAGES = flags.DEFINE_string("images", None, "Folder of posed photographs, instead of rooms.")
_CACHE = flags.DEFINE_string("cache", None, "Folder where the rooms' matches are kept.")

CANVASES = ((192, 256), (288, 384), (384, 512))
LONG_SIDES = (256, 384, 512)


def relate_all(
    loaded: LoadedNetwork, estimator: str, queries: Queries, *, refuse: bool = True
) -> PairRelations:
    """Relations of every query to its neighbours, as NumPy arrays with leading axis Q."""
    function = match_network.relate_matches if refuse else match_network.related
    relate = jax.jit(functools.partial(function, loaded.network, estimator=estimator))
    variables = jax.device_put(loaded.variables)
    rows = [
        jax.device_get(
            relate(
                variables, queries.matches(q), queries.db_intrinsics[q], queries.query_intrinsics[[q]]
            )
        )
        for q in range(len(queries))
    ]
    return jax.tree.map(lambda *x: np.stack(x), *rows)


def pair_errors(queries: Queries, relations: PairRelations) -> dict[str, np.ndarray]:
    """Errors of each pair [Q, N]: rotation and direction in degrees, position in metres."""
    true = queries.db_from_query()
    found = matrices(relations.db_from_query.wxyz_xyz)
    chord = np.linalg.norm(found[..., :3, :3] - true[..., :3, :3], axis=(-2, -1))
    t, t_true = found[..., :3, 3], true[..., :3, 3]
    across = np.linalg.norm(np.cross(t, t_true), axis=-1)
    return {
        "rotation": np.rad2deg(2 * np.arcsin(np.minimum(1, chord / np.sqrt(8)))),
        "direction": np.rad2deg(np.arctan2(across, np.sum(t * t_true, axis=-1))),
        "position": np.linalg.norm(t - t_true, axis=-1),
        "baseline": np.linalg.norm(t_true, axis=-1),
    }


def fused_errors(queries: Queries, relations: PairRelations) -> tuple[np.ndarray, np.ndarray]:
    """Position (metres) and rotation (degrees) errors [Q]; infinite where refused."""
    world_from_db = se3(queries.world_from_db)
    fused = fuse(world_from_db, relations.db_from_query, valid=relations.valid)
    found = np.asarray(fused.world_from_query.as_matrix(), np.float64)
    position = np.linalg.norm(found[:, :3, 3] - queries.world_from_query[:, :3, 3], axis=-1)
    chord = np.linalg.norm(found[:, :3, :3] - queries.world_from_query[:, :3, :3], axis=(-2, -1))
    rotation = np.rad2deg(2 * np.arcsin(np.minimum(1, chord / np.sqrt(8))))
    success = np.asarray(fused.success)
    return np.where(success, position, np.inf), np.where(success, rotation, np.inf)


def se3(poses: np.ndarray) -> jaxlie.SE3:
    """Poses [..., 4, 4]."""
    flat = jnp.asarray(poses.reshape(-1, 4, 4), jnp.float32)
    wxyz_xyz = jax.vmap(lambda m: jaxlie.SE3.from_matrix(m).wxyz_xyz)(flat)
    return jaxlie.SE3(wxyz_xyz.reshape(*poses.shape[:-2], 7))


def matrices(wxyz_xyz: np.ndarray) -> np.ndarray:
    return np.asarray(jaxlie.SE3(jnp.asarray(wxyz_xyz)).as_matrix(), np.float64)


def table_row(queries: Queries, relations: PairRelations) -> dict[str, str]:
    """The figures of one estimator on queries of their own rooms."""
    errors = pair_errors(queries, relations)
    moved = errors["baseline"] > 0.03
    position, rotation = fused_errors(queries, relations)
    return {
        "pair: rotation, deg": f"{np.median(errors['rotation']):.2f}",
        "direction, deg": f"{np.median(errors['direction'][moved]):.1f}",
        "position, m": f"{np.median(errors['position']):.3f}",
        "fused: cm": f"{100 * np.median(position):.1f}",
        "deg": f"{np.median(rotation):.2f}",
        "within 10 cm, 5 deg": f"{np.mean((position < 0.1) & (rotation < 5)):.0%}",
        "within 50 cm, 5 deg": f"{np.mean((position < 0.5) & (rotation < 5)):.0%}",
        "refused": f"{np.mean(np.isinf(position)):.0%}",
    }


def photographs(folder: str) -> dict[tuple[int, int], Queries]:
    """The queries of a folder by canvas."""
    frames = read_posed_images(folder)
    parts = [split_frames(frames, part) for part in ("database", "query")]
    queries = {}
    for long_side in LONG_SIDES:
        canvas = pretrained_network.canvas(frames.image_sizes, long_side)
        network = held_out.matcher(canvas)
        (database, db_frames), (query, query_frames) = (
            (encode_scene(part, network), part) for part in parts
        )
        queries[canvas] = held_out.match_queries(
            network, database, db_frames, query, query_frames, own=True
        )
    return queries


def main(argv: list[str]) -> None:
    del argv
    if _IMAGES.value:
        by_canvas = photographs(_IMAGES.value)
    else:
        cache = _CACHE.value and pathlib.Path(_CACHE.value)
        by_canvas = held_out.room_queries(
            _SPLIT.value, range(_ROOMS.value), CANVASES, _LIBRARY.value, cache
        )
    rows = []
    for canvas, queries in by_canvas.items():
        own = queries.select(queries.is_own)
        loaded = (
            saved_network.load_network(_CHECKPOINT.value)
            if _CHECKPOINT.value
            else shipped_matcher(canvas)
        )
        for estimator in ESTIMATORS:
            row = table_row(own, relate_all(loaded, estimator, own))
            rows.append({"input": f"{canvas[1]}x{canvas[0]}", "estimator": estimator} | row)
    source = _IMAGES.value or f"{_ROOMS.value} {_SPLIT.value} rooms"
    print(f"{len(own)} queries of {source}, five neighbours each")
    print(tabulate.tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    app.run(main)

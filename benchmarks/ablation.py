"""What each part of the correlation pipeline adds, on the same held-out rooms and queries.

  python -m benchmarks.ablation --library=FOLDER [--checkpoint=DIR] [--rooms=6] [--cache=FOLDER]
  python -m benchmarks.ablation --images=PHOTOS [--checkpoint=DIR]

For three input sizes and each estimator: medians over the queries' five retrieved neighbours
(rotation, direction and length of the relative pose), then the fused pose of each query. Queries
that are refused count as infinitely far off in medians and recalls; "wrong" are answers that are
off by a metre or 20 deg. With --images, a folder of posed photographs of which every fifth is a
query.
"""

import os
import pathlib

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import numpy as np
import tabulate
from absl import app, flags

from benchmarks import held_out
from benchmarks.held_out import Queries, fused_errors, pair_errors, relate_all
from jaxreloc.data.datasets import split_frames
from jaxreloc.formats.posed_images import read_posed_images
from jaxreloc.localization import pretrained_network
from jaxreloc.localization.match_network import ESTIMATORS, PairRelations
from jaxreloc.models import saved_network
from jaxreloc.models.shipped_matcher import shipped_matcher
from jaxreloc.training.match_making import encode_scene

_LIBRARY = flags.DEFINE_string("library", None, "Prepared furniture library (synthetic_rooms).")
_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "A trained network, not the shipped one.")
_SPLIT = flags.DEFINE_enum("split", "test", ["validation", "test"], "Of the rooms.")
_ROOMS = flags.DEFINE_integer("rooms", 6, "How many rooms.")
_IMAGES = flags.DEFINE_string("images", None, "Folder of posed photographs, instead of rooms.")
_CACHE = flags.DEFINE_string("cache", None, "Folder where the rooms' matches are kept.")

CANVASES = ((192, 256), (288, 384), (384, 512))
WRONG_M, WRONG_DEG = 1.0, 20.0
LONG_SIDES = (256, 384, 512)


def table_row(queries: Queries, relations: PairRelations) -> dict[str, str]:
    """The figures of one estimator on queries of their own rooms."""
    errors = pair_errors(queries, relations)
    moved = errors["baseline"] > 0.03
    position, rotation = fused_errors(queries, relations)
    wrong = (position > WRONG_M) | (rotation > WRONG_DEG)
    return {
        "pair: rotation, deg": f"{np.median(errors['rotation']):.2f}",
        "direction, deg": f"{np.median(errors['direction'][moved]):.1f}",
        "position, m": f"{np.median(errors['position']):.3f}",
        "fused: cm": f"{100 * np.median(position):.1f}",
        "deg": f"{np.median(rotation):.2f}",
        "within 10 cm, 5 deg": f"{np.mean((position < 0.1) & (rotation < 5)):.0%}",
        "within 50 cm, 5 deg": f"{np.mean((position < 0.5) & (rotation < 5)):.0%}",
        "wrong": f"{np.mean(np.isfinite(position) & wrong):.0%}",
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

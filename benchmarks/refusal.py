"""Queries of another room: how many are refused, and how many of one's own are kept.

  python -m benchmarks.refusal --library=FOLDER [--rooms=6] [--cache=FOLDER] [--images=PHOTOS]

Every query of the held-out rooms is related to its neighbours in its own room and in another. A
query is good if its pose, were none refused, is right to 50 cm and 10 deg. For thresholds of
`query_confidence` the curve says what share of the good ones is kept, and of the strangers refused;
the line marked * is the threshold in use. With --images, a folder of posed photographs, the same of
these: every fifth is a query, the others are its map, and a rendered room is the other one.
"""

import os
import pathlib

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import dataclasses

import jax
import numpy as np
import tabulate
from absl import app, flags

from benchmarks import held_out
from benchmarks.held_out import Queries, fused_errors, relate_all
from jaxreloc.data.datasets import split_frames
from jaxreloc.formats.posed_images import read_posed_images
from jaxreloc.localization import match_network
from jaxreloc.models.shipped_matcher import shipped_matcher
from jaxreloc.training.match_making import encode_scene
from tfds_builders.synthetic_rooms.generation import render_room
from tfds_builders.synthetic_rooms.settings import FURNISHED_LARGE

_LIBRARY = flags.DEFINE_string("library", None, "Prepared furniture library (synthetic_rooms).")
_ROOMS = flags.DEFINE_integer("rooms", 6, "How many test rooms.")
_CACHE = flags.DEFINE_string("cache", None, "Folder where the rooms' pictures are kept.")
_IMAGES = flags.DEFINE_string("images", None, "Folder of posed photographs.")
_ESTIMATOR = flags.DEFINE_string("estimator", None, "Instead of the default.")

CANVAS = (384, 512)
GOOD_M, GOOD_DEG = 0.5, 10.0
EVERY = 5


def photographs_beside_a_room(folder: str, library: str) -> Queries:
    """Photographs against their own map and against a room, and that room's against theirs."""
    frames = read_posed_images(folder)
    network = held_out.matcher(CANVAS)
    room = render_room(dataclasses.replace(FURNISHED_LARGE, library=library), "test", 0)
    parts = [split_frames(frames, part, query_every=EVERY) for part in ("database", "query")]
    database, query, room_database, room_query = (
        (encode_scene(part, network), part) for part in (*parts, room.database, room.query)
    )
    return held_out.concatenate(
        [
            held_out.match_queries(network, *database, *query, own=True),
            held_out.match_queries(network, *room_database, *query, own=False),
            held_out.match_queries(network, *database, *room_query, own=False),
        ]
    )


def curve(queries: Queries, estimator: str | None) -> str:
    """The table of one set of queries."""
    loaded = shipped_matcher(CANVAS)
    estimator = estimator or loaded.config["estimator"]
    relations = relate_all(loaded, estimator, queries, refuse=False)
    confidence = np.asarray(jax.vmap(match_network.query_confidence)(relations))
    own = queries.is_own
    position, rotation = fused_errors(queries, relations)
    good = own & (position < GOOD_M) & (rotation < GOOD_DEG)
    strangers = confidence[~own]
    in_use = match_network.MIN_CONFIDENCE[estimator]
    rows = [
        {
            "": "*" if threshold == in_use else "",
            "threshold": threshold,
            "strangers refused": np.mean(strangers <= threshold),
            "good kept": np.mean(confidence[good] > threshold),
            "own kept": np.mean(confidence[own] > threshold),
        }
        for threshold in sorted({in_use, *np.quantile(strangers, [0.5, 0.8, 0.9, 0.95, 0.98, 1.0])})
    ]
    counts = f"{own.sum()} own queries, {good.sum()} good; {len(strangers)} strangers; {estimator}"
    return f"{counts}\n{tabulate.tabulate(rows, headers='keys', tablefmt='github', floatfmt='.3f')}"


def main(argv: list[str]) -> None:
    del argv
    cache = _CACHE.value and pathlib.Path(_CACHE.value)
    rooms = held_out.room_queries("test", range(_ROOMS.value), (CANVAS,), _LIBRARY.value, cache)
    print(f"{_ROOMS.value} test rooms: {curve(rooms[CANVAS], _ESTIMATOR.value)}")
    if _IMAGES.value:
        queries = photographs_beside_a_room(_IMAGES.value, _LIBRARY.value)
        print(f"{_IMAGES.value}: {curve(queries, _ESTIMATOR.value)}")


if __name__ == "__main__":
    app.run(main)

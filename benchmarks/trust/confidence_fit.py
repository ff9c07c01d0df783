"""How much an answer from all matches can be trusted: refusal, focal lengths, covariance.

  python -m benchmarks.trust.confidence_fit --library=FOLDER [--rooms=6] [--cache=FOLDER]
  python -m benchmarks.trust.confidence_fit --library=FOLDER --split=validation --rooms=7 --fit
  python -m benchmarks.trust.confidence_fit --images=PHOTOS --query_every=2

Every query of held-out rooms is localized in its own room and in the room after, where it is not,
and every second one in its own room with focal lengths that are wrong by 1.5 or 2 times. An answer
is good if it is right to 50 cm and 10 deg, and wrong if it is off by a metre or 20 deg. For
thresholds of the confidence the first table says what share of a room's own queries is answered,
answered well and answered wrongly, and what share of strangers and of queries with a wrong focal
length is answered by more than 50 cm off; * marks the threshold in use.

The second table says how many of the true errors lie inside the ellipsoids that should hold 68% and
95% of them, for the position, the rotation and both, of answered queries that are good. Of
photographs (--images) there are only their own queries.

--fit prints the confidence model and the inflation of the covariance that these queries give, for
`jaxreloc.localization.all_matches`.
"""

import os

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import pathlib
from collections.abc import Iterator

import numpy as np
from absl import flags

from benchmarks.accuracy import held_out
from benchmarks.trust.judged_answers import (
    FOCAL,
    OWN,
    STRANGER,
    Judged,
    calibration,
    curve,
    fit,
    gathered,
    inflation,
)
from jaxreloc.compilation.compilation_cache import use_compilation_cache
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.formats.posed_images import read_posed_images
from jaxreloc.formats.query_split import split_frames
from jaxreloc.localization import all_matches
from jaxreloc.localization.localizer import Localizer
from jaxreloc.localization.map.encoding import encode_frames
from jaxreloc.localization.map.map_depth import with_depth
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.networks.loading import pretrained_network
from jaxreloc.localization.networks.match_network import MatchNetwork
from jaxreloc.localization.query_state import Localization
from jaxreloc.usage import run_script

_LIBRARY = flags.DEFINE_string("library", None, "Prepared furniture library (synthetic_rooms).")
_SPLIT = flags.DEFINE_enum("split", "test", ["validation", "test"], "Of the rooms.")
_ROOMS = flags.DEFINE_integer("rooms", 6, "How many rooms.", lower_bound=1)
_CACHE = flags.DEFINE_string("cache", None, "Folder where the rooms' pictures are kept.")
_IMAGES = flags.DEFINE_string("images", None, "Folder of posed photographs, instead of rooms.")
_EVERY = flags.DEFINE_integer("query_every", 5, "Of the photographs.", lower_bound=2)
_FIT = flags.DEFINE_bool("fit", False, "Print the model that these queries give.")

CANVAS = (384, 512)
FOCAL_ERRORS = (0.5, 1 / 1.5, 1.5, 2.0)  # given focal length over the true one


def judged_rooms() -> Judged:
    """Of the queries of `_ROOMS` rooms; the room after the last one is the last one's stranger."""
    cache = _CACHE.value and pathlib.Path(_CACHE.value)
    network = held_out.matcher(CANVAS)
    rows, here = [], None
    for index in range(_ROOMS.value + 1):
        room = held_out.load_room(_SPLIT.value, index, _LIBRARY.value, cache)
        there = _localizer(room.database, network), room.query
        if here is not None:
            rows += list(_asked(*here, OWN))
            rows += list(_asked(there[0], here[1], STRANGER))
            for factor in FOCAL_ERRORS:
                rows += list(_asked(*here, FOCAL, factor, step=2))
        here = there
    return gathered(rows)


def judged_photographs() -> Judged:
    frames = read_posed_images(_IMAGES.value)
    database, queries = (
        split_frames(frames, part, query_every=_EVERY.value) for part in ("database", "query")
    )
    localizer = _localizer(database, pretrained_network(database.image_sizes))
    return gathered(list(_asked(localizer, queries, OWN)))


def _localizer(database: PosedFrames, network: MatchNetwork) -> Localizer:
    scene_map = with_depth(SceneMap.from_images(network, encode_frames(database, network)))
    return Localizer(scene_map, quarter_turns=False)


def _asked(
    localizer: Localizer, queries: PosedFrames, kind: int, focal: float = 1.0, step: int = 1
) -> Iterator[tuple[int, Localization, np.ndarray]]:
    for q in range(0, len(queries), step):
        intrinsics = queries.intrinsics[q] * np.array([[focal], [focal], [1.0]])
        intrinsics[:2, 2] = queries.intrinsics[q][:2, 2]
        found = localizer.locate(localizer.retrieve(queries.images[q], intrinsics))
        yield kind, found, queries.world_from_cam[q]


def main(argv: list[str]) -> None:
    del argv
    use_compilation_cache()
    judged = judged_photographs() if _IMAGES.value else judged_rooms()
    model = all_matches.CONFIDENCE
    if _FIT.value:
        model = fit(judged)
        print(f"CONFIDENCE = {model}")
        print("inflation of rotation, position: {:.2f}, {:.2f}".format(*inflation(judged, model)))
    print(_IMAGES.value or f"{_ROOMS.value} {_SPLIT.value} rooms")
    print(curve(judged, model))
    print(calibration(judged, model))


if __name__ == "__main__":
    run_script(main)

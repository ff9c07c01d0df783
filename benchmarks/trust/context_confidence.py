"""How much an answer in context can be trusted, after all else was refused.

  python -m benchmarks.trust.context_confidence --data_dir=FOLDER [--split=validation] [--fit]

Every query of the rooms of `synthetic_rooms/furnished_hard` is localized in its own room and in the
room after, where it is not: held upright and as it was taken, in maps with depth. What is refused,
turned as well, is matched in context, and judged. An answer is good if it is right to 50 cm and 10
deg, and wrong if it is off by a metre or 20 deg. For thresholds of the confidence the table says
what share of all own queries would be answered so, and rightly and wrongly, and what share of all
strangers; * marks the threshold in use. --fit prints the confidence model that these queries give,
for `jaxreloc.localization.all_matches`.
"""

import os

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import itertools

import numpy as np
from absl import flags

from benchmarks.accuracy import held_out
from benchmarks.trust.judged_answers import OWN, STRANGER, curve, fit, gathered
from benchmarks.wide.hard_rooms import CANVAS, hard_frames, scene_names
from jaxreloc.compilation.compilation_cache import use_compilation_cache
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.localization import all_matches
from jaxreloc.localization.localizer import Localizer
from jaxreloc.localization.map.encoding import encode_frames
from jaxreloc.localization.map.map_depth import with_depth
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.methods.all_matches_method import AllMatches
from jaxreloc.localization.methods.method import Method
from jaxreloc.localization.networks.match_network import MatchNetwork
from jaxreloc.localization.query_state import Localization, Query
from jaxreloc.usage import run_script

_SHARED = {"allow_override": True}  # a test imports this beside modules with flags of these names
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Prepared datasets.", **_SHARED)
_SPLIT = flags.DEFINE_enum(
    "split", "validation", ["validation", "test"], "Of the rooms.", **_SHARED
)
_FIT = flags.DEFINE_bool("fit", False, "Print the model that these queries give.", **_SHARED)

WEIGHED = (3,)  # of the evidence, besides the focal length
THRESHOLD = 0.7
Answer = tuple[int, Localization, np.ndarray]  # kind, answer, truth


class RecordingLocalizer(Localizer):
    """Keeps what was answered in context, whether or not it is sure."""

    def locate(self, query: Query, method: Method | None = None) -> Localization:
        found = super().locate(query, method)
        if isinstance(method, AllMatches) and method.was_refused:
            self.answers_in_context.append(found)
        return found

    def refused(self, queries: PosedFrames) -> list[tuple[int, Localization]]:
        """The queries that no turn made sure, with the answer in context."""
        kept = []
        for i in range(len(queries)):
            self.answers_in_context: list[Localization] = []
            self(queries.images[i], queries.intrinsics[i])
            kept += [(i, found) for found in self.answers_in_context]
        return kept


def judged_rooms() -> tuple[list[Answer], dict[int, int]]:
    """The refused queries, and how many of each kind were asked."""
    where = _DATA_DIR.value
    scenes = scene_names(_SPLIT.value, where)
    network = held_out.matcher(CANVAS)
    rows, asked = [], {OWN: 0, STRANGER: 0}
    maps = [
        _localizer(hard_frames(scene, _SPLIT.value, where, upright=True), network)
        for scene in scenes
    ]
    for (i, scene), upright in itertools.product(enumerate(scenes), (True, False)):
        queries = hard_frames(scene, f"{_SPLIT.value}_query", where, upright=upright)
        for kind, localizer in ((OWN, maps[i]), (STRANGER, maps[(i + 1) % len(maps)])):
            asked[kind] += len(queries)
            found = localizer.refused(queries)
            rows += [(kind, answer, queries.world_from_cam[q]) for q, answer in found]
    return rows, asked


def _localizer(database: PosedFrames, network: MatchNetwork) -> RecordingLocalizer:
    scene_map = SceneMap.from_images(network, encode_frames(database, network))
    return RecordingLocalizer(with_depth(scene_map))


def main(argv: list[str]) -> None:
    del argv
    use_compilation_cache()
    rows, asked = judged_rooms()
    judged, model = gathered(rows), all_matches.CONFIDENCE_OF_REFUSED
    if _FIT.value:
        model = fit(judged, WEIGHED, doubted=True, threshold=THRESHOLD)
        print(f"CONFIDENCE_OF_REFUSED = {model}")
    own = asked[OWN]
    refused, found = np.sum(judged.kind == OWN) / own, np.sum(judged.good) / own
    print(f"{_SPLIT.value} rooms: {own} own queries, {asked[STRANGER]} strangers;", end=" ")
    print(f"{refused:.1%} refused without context, {found:.1%} found in it")
    print(curve(judged, model, asked))


if __name__ == "__main__":
    run_script(main)

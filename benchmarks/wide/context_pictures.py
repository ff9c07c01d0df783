"""Pictures of matches that context finds, and of what still fails, in rendered rooms.

  python -m benchmarks.wide.context_pictures --library=FOLDER [--cache=FOLDER] [--rooms=6]
      [--pairs=240] [--out=FILE]

Of the pairs that `wide_baseline` draws: the ones with the least overlap that are lost without
context (an error over LOST_DEG) and right in it (under RIGHT_DEG), and the ones with the most
overlap that stay lost. Each is drawn twice, without context above and in it below. A match is green
if it fits the true pose to FITS_PX, measured across the epipolar lines, else red.
"""

import os

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import dataclasses
import pathlib

import cv2
import numpy as np
from absl import flags

from benchmarks.accuracy import held_out
from benchmarks.accuracy.match_pictures import GREEN, RED, WHITE, stacked
from benchmarks.wide import wide_pairs
from benchmarks.wide.hard_rooms import CANVAS
from benchmarks.wide.pair_relators import Matcher, MatcherInContext
from benchmarks.wide.wide_baseline import pose_error_deg
from benchmarks.wide.wide_pairs import ImagePair
from jaxreloc import files
from jaxreloc.compilation.compilation_cache import use_compilation_cache
from jaxreloc.evaluation.report.matchers import sampson_error
from jaxreloc.localization.networks.match_network import MatchNetwork
from jaxreloc.usage import run_script

_SHARED = {"allow_override": True}  # a test imports this beside modules with flags of these names
_LIBRARY = flags.DEFINE_string("library", None, "Prepared furniture library.", **_SHARED)
_CACHE = flags.DEFINE_string("cache", None, "Folder where rendered rooms are kept.", **_SHARED)
_ROOMS = flags.DEFINE_integer("rooms", 6, "How many test rooms.", lower_bound=1, **_SHARED)
_PAIRS = flags.DEFINE_integer("pairs", 240, "Of all rooms.", lower_bound=1, **_SHARED)
_OUT = flags.DEFINE_string("out", "docs/experiments/context.jpg", "The picture.", **_SHARED)

RIGHT_DEG, LOST_DEG = 5.0, 20.0
FITS_PX = 3.0
SHOWN = 2  # of each kind
DRAWN = 120  # the likeliest matches
SCALE = 0.75


@dataclasses.dataclass(frozen=True)
class Judged:
    """A pair with its errors without context and in it, degrees."""

    pair: ImagePair
    plain_deg: float
    context_deg: float


def chosen(judged: list[Judged]) -> list[tuple[str, Judged]]:
    """Titles and pairs, in the order of the module's docstring."""
    found = [x for x in judged if x.plain_deg > LOST_DEG and x.context_deg < RIGHT_DEG]
    lost = [x for x in judged if min(x.plain_deg, x.context_deg) > LOST_DEG]
    found = sorted(found, key=lambda x: x.pair.overlap)[:SHOWN]
    lost = sorted(lost, key=lambda x: -x.pair.overlap)[:SHOWN]
    return [("found", x) for x in found] + [("STILL LOST", x) for x in lost]


def drawn(title: str, judged: Judged, network: MatchNetwork) -> np.ndarray:
    """Two rows of both images side by side, RGB, with the matches and a line of figures."""
    pair = judged.pair
    sides = [
        network.prepare(pair.first, pair.first_intrinsics),
        network.prepare(pair.second, pair.second_intrinsics),
    ]
    db, query = ((network.encode(image[None]), K[None].astype(np.float32)) for image, K in sides)
    similarity = network.similarity(db[0], query[0])
    rows = [
        ("without context", judged.plain_deg, network.match_tracks(*db, *query, similarity)),
        ("in context", judged.context_deg, network.match_tracks_in_context(*db, *query)),
    ]
    tiles = []
    for name, error_deg, tracks in rows:
        weights = np.asarray(tracks.weights[0])
        points = np.asarray(tracks.x_query), np.asarray(tracks.x_db[0])
        right = FITS_PX > sides[0][1][0, 0] * sampson_error(pair.first_from_second, *points)
        canvas = np.concatenate([image for image, _ in sides], axis=1)
        canvas = cv2.resize(canvas, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_AREA)
        likeliest = [k for k in np.argsort(-weights)[:DRAWN] if weights[k] > 0]
        for k in sorted(likeliest, key=lambda k: right[k]):
            ends = []
            for x, (_, K), shift in zip(points, sides[::-1], (CANVAS[1], 0), strict=True):
                pixel = x[k] * np.diag(K)[:2] + K[:2, 2] + [shift, 0]
                ends.append(tuple(np.rint((pixel + 0.5) * SCALE - 0.5).astype(int).tolist()))
            cv2.line(canvas, *ends, GREEN if right[k] else RED, 1, cv2.LINE_AA)
        share = weights[right].sum() / max(weights.sum(), 1e-6)
        text = (
            f"{title}, {name}: off by {error_deg:.1f} deg; {pair.overlap:.0%} shared, turned "
            f"{pair.turn_deg:.0f} deg; {share:.0%} of the weight fits"
        )
        caption = np.zeros((24, canvas.shape[1], 3), np.uint8)
        cv2.putText(caption, text, (6, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.42, WHITE, 1, cv2.LINE_AA)
        tiles.append(np.concatenate([caption, canvas]))
    return stacked(tiles)


def main(argv: list[str]) -> None:
    del argv
    use_compilation_cache()
    cache = _CACHE.value and pathlib.Path(_CACHE.value)
    pairs = wide_pairs.pairs_of_rooms("test", _ROOMS.value, _PAIRS.value, _LIBRARY.value, cache)
    relators = Matcher(), MatcherInContext()
    judged = [
        Judged(pair, *(pose_error_deg(relate(pair), pair.first_from_second) for relate in relators))
        for pair in pairs
    ]
    network = held_out.matcher(CANVAS)
    tiles = [drawn(title, x, network) for title, x in chosen(judged)]
    encoded = cv2.imencode(".jpg", stacked(tiles)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 60])[1]
    with files.replacing(pathlib.Path(_OUT.value)) as temporary:
        temporary.write_bytes(encoded.tobytes())
    print(f"{_OUT.value}: {len(tiles)} of {len(pairs)} pairs")


if __name__ == "__main__":
    run_script(main)

"""Relative poses of images that share little: AUC of the pose error, beside SIFT and XFeat.

  taskset -c 0 python -m benchmarks.wide.wide_baseline --library=FOLDER [--cache=FOLDER]
      [--split=test] [--rooms=10] [--pairs=1000]
  taskset -c 0 python -m benchmarks.wide.wide_baseline --images=PHOTOS
  taskset -c 0 python -m benchmarks.wide.wide_baseline --images=ROOT --list=PAIRS

--network=DIR has a trained network in place of what ships.

Pairs are those of held-out rooms whose images share 5% to 40%, all of a folder of posed images, or
those of a list as SuperGlue has them (ScanNet's, say; `wide_pairs.pairs_of_list`). The error of a
pair is the larger one of the rotation's angle and the angle between the translations; a pair
without an answer is infinitely far off. AUC@t is the area under the share of pairs with an error up
to x, for x from 0 to t degrees, over t. Milliseconds are medians of describing and relating both
images, on one thread.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import pathlib
import time
from collections.abc import Sequence

import numpy as np
import tabulate
from absl import flags
from jaxtyping import Float

from benchmarks.angles import between_deg, rotation_deg
from benchmarks.wide import wide_pairs
from benchmarks.wide.pair_relators import PairRelator, known_relators
from benchmarks.wide.wide_pairs import ImagePair
from jaxreloc.compilation.compilation_cache import use_compilation_cache
from jaxreloc.usage import UsageError, run_script

_SHARED = {"allow_override": True}  # a test imports this beside modules with flags of these names
_LIBRARY = flags.DEFINE_string("library", None, "Prepared furniture library.", **_SHARED)
_CACHE = flags.DEFINE_string("cache", None, "Folder where rendered rooms are kept.", **_SHARED)
_SPLIT = flags.DEFINE_enum("split", "test", ["validation", "test"], "Of the rooms.", **_SHARED)
_ROOMS = flags.DEFINE_integer("rooms", 10, "How many rooms.", lower_bound=1, **_SHARED)
_PAIRS = flags.DEFINE_integer("pairs", 1000, "Of all rooms.", lower_bound=1, **_SHARED)
_IMAGES = flags.DEFINE_string("images", None, "Folder of images, instead of rooms.", **_SHARED)
_NETWORK = flags.DEFINE_string("network", None, "Trained one with context.", **_SHARED)
_LIST = flags.DEFINE_string("list", None, "Pairs of these images with poses.", **_SHARED)

THRESHOLDS_DEG = (5, 10, 20)
OVERLAPS = ((0.05, 0.1), (0.1, 0.2), (0.2, 0.4))
TURNS_DEG = ((0, 30), (30, 60), (60, 180))


def pose_error_deg(
    found: Float[np.ndarray, "4 4"] | None, true: Float[np.ndarray, "4 4"]
) -> float:
    """The larger one of the rotation's error and the translation's in direction."""
    if found is None:
        return float("inf")
    rotation = rotation_deg(found[:3, :3], true[:3, :3])
    return float(max(rotation, between_deg(found[:3, 3], true[:3, 3])))


def auc(errors: Float[np.ndarray, "n"], threshold: float) -> float:
    """The mean over x in [0, threshold] of the share of errors up to x, joined by straight lines.

    As SuperGlue computes it: the share at the i-th smallest error is i / n, at 0 it is 0, and
    beyond the last error under the threshold it stays.
    """
    errors = np.sort(errors)
    share = np.arange(1, len(errors) + 1) / len(errors)
    inside = errors < threshold
    last = share[inside][-1] if inside.any() else 0.0
    x = np.concatenate([[0.0], errors[inside], [threshold]])
    y = np.concatenate([[0.0], share[inside], [last]])
    return float(np.trapezoid(y, x) / threshold)


def run(
    pairs: Sequence[ImagePair], relator: PairRelator
) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"]]:
    """The error of each pair in degrees, and its milliseconds; what compiles comes before."""
    shapes, errors, ms = set(), [], []
    for pair in pairs:
        shape = pair.first.shape, pair.second.shape
        if shape not in shapes:
            relator(pair)
            shapes.add(shape)
        start = time.perf_counter()
        found = relator(pair)
        ms.append(1e3 * (time.perf_counter() - start))
        errors.append(pose_error_deg(found, pair.first_from_second))
    return np.array(errors), np.array(ms)


def figures(errors: Float[np.ndarray, "n"]) -> str:
    """The AUC at each threshold, in percent."""
    if not len(errors):
        return ""
    return " / ".join(f"{100 * auc(errors, threshold):.0f}" for threshold in THRESHOLDS_DEG)


def table(
    pairs: Sequence[ImagePair],
    answers: dict[str, tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"]]],
) -> str:
    """Of all pairs, in bins of overlap where it is known, and of the angle between the cameras."""
    overlap = np.array([pair.overlap for pair in pairs])
    turn = np.array([pair.turn_deg for pair in pairs])
    bins = {"all": np.ones(len(pairs), bool)}
    if np.isfinite(overlap).all():
        for low, high in OVERLAPS:
            bins[f"{low:.0%} to {high:.0%} shared"] = (overlap >= low) & (overlap <= high)
    for low, high in TURNS_DEG:
        bins[f"turned by {low} to {high} deg"] = (turn >= low) & (turn < high)
    rows = [
        [name, int(chosen.sum()), *(figures(errors[chosen]) for errors, _ in answers.values())]
        for name, chosen in bins.items()
    ]
    rows.append(["no answer", "", *(f"{np.isinf(e).mean():.0%}" for e, _ in answers.values())])
    rows.append(["ms a pair", "", *(f"{np.median(ms):.0f}" for _, ms in answers.values())])
    return tabulate.tabulate(rows, ["pairs", "", *answers], "github", disable_numparse=True)


def read_pairs() -> tuple[str, list[ImagePair]]:
    """What the flags name, in words, and the pairs.

    Raises:
      UsageError: flags contradict each other, or what they name cannot be read.
    """
    if _LIST.value and not _IMAGES.value:
        raise UsageError("--list names images under --images; give it, too")
    if _LIST.value:
        return _LIST.value, wide_pairs.pairs_of_list(_LIST.value, _IMAGES.value)
    if _IMAGES.value:
        return _IMAGES.value, wide_pairs.pairs_of_folder(_IMAGES.value)
    cache = pathlib.Path(_CACHE.value) if _CACHE.value else None
    rooms = _SPLIT.value, _ROOMS.value, _PAIRS.value, _LIBRARY.value, cache
    return f"{_ROOMS.value} {_SPLIT.value} rooms", wide_pairs.pairs_of_rooms(*rooms)


def main(argv: list[str]) -> None:
    del argv
    use_compilation_cache()
    source, pairs = read_pairs()
    answers = {relator.name: run(pairs, relator) for relator in known_relators(_NETWORK.value)}
    print(f"{source}: {len(pairs)} pairs, AUC@{'/'.join(map(str, THRESHOLDS_DEG))} in percent")
    print(table(pairs, answers))


if __name__ == "__main__":
    run_script(main)

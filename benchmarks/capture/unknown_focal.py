"""What it costs not to know a query's focal length: both answers beside each other.

  taskset -c 0 python -m benchmarks.capture.unknown_focal --images=PHOTOS [--poses=FILE]
      [--query_every=5] [--each_once] [--factors=1,0.7,1.4]

Every so many-th photograph is a query of a map of the others; with --each_once, that is done as
often as there are ways to begin to count, so that each is a query once.
A query of known focal length has its own intrinsics. One of unknown focal length has none: the
search begins where the map's cameras are, times each of `--factors`. Medians count a query without
an answer as infinitely far off; the last column is the error of the focal length that was found.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import dataclasses
import sys
from collections.abc import Iterator

import numpy as np
import tabulate
from absl import flags

from jaxreloc.compilation.compilation_cache import use_compilation_cache
from jaxreloc.evaluation import metrics
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.formats.posed_images import read_posed_images
from jaxreloc.localization.assumed_camera import UNKNOWN_DEVIATION
from jaxreloc.localization.localizer import Localizer
from jaxreloc.localization.map.encoding import encode_frames
from jaxreloc.localization.map.map_depth import with_depth
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.networks.loading import pretrained_network
from jaxreloc.localization.query_state import Localization
from jaxreloc.usage import run_script

_SHARED = {"allow_override": True}  # a test imports this beside modules with flags of these names
_IMAGES = flags.DEFINE_string("images", None, "Folder of photographs.", **_SHARED)
_POSES = flags.DEFINE_string("poses", None, "Their poses, where they lie apart.", **_SHARED)
_EVERY = flags.DEFINE_integer(
    "query_every", 5, "Every so many-th photograph is a query.", lower_bound=2, **_SHARED
)
_EACH = flags.DEFINE_bool("each_once", False, "Each photograph is a query once.", **_SHARED)
_FACTORS = flags.DEFINE_list(
    "factors", ["1"], "Of the map's focal length, to begin the search at.", **_SHARED
)


def splits(frames: PosedFrames) -> Iterator[tuple[list[int], list[int]]]:
    """Rows of a database and of its queries."""
    rows = range(len(frames))
    for first in range(_EVERY.value) if _EACH.value else (_EVERY.value - 1,):
        queries = list(rows[first :: _EVERY.value])
        yield [k for k in rows if k not in queries], queries


def ways(localizer: Localizer, image: np.ndarray, K: np.ndarray) -> dict[str, Localization]:
    """The answers with known focal length, and without by where the search begins."""
    height, width = image.shape[:2]
    found = {"known": localizer(image, K)}
    for factor in map(float, _FACTORS.value):
        start = localizer.assumed_camera.intrinsics(width, height, is_start=True).copy()
        start[:2, :2] *= factor
        name = f"unknown, from {factor:g} times the map's"
        found[name] = localizer(image, start, focal_deviation=UNKNOWN_DEVIATION)
    return found


def main(argv: list[str]) -> None:
    del argv
    use_compilation_cache()
    frames = (
        read_posed_images(_POSES.value, images=_IMAGES.value)
        if _POSES.value
        else read_posed_images(_IMAGES.value)
    )
    network = pretrained_network(frames.image_sizes)
    encoded = encode_frames(frames, network)
    answers, truth = [], []
    for database, queries in splits(frames):
        part = selected(encoded, database)
        localizer = Localizer(with_depth(SceneMap.from_images(network, part)))
        for i in queries:
            answers.append(ways(localizer, frames.images[i], frames.intrinsics[i]))
            truth.append(i)
            print(f"{frames.names[i]}: {said(answers[-1])}", file=sys.stderr, flush=True)
    rows = [row(name, [x[name] for x in answers], frames, truth) for name in answers[0]]
    print(f"{frames.scene}: {len(truth)} queries")
    print(tabulate.tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True))


def selected(encoded, rows):
    """Some of the encoded images."""
    take = np.array(rows)
    return dataclasses.replace(
        encoded,
        names=tuple(encoded.names[i] for i in rows),
        pictures=[encoded.pictures[i] for i in rows],
        features=tuple(np.asarray(x)[take] for x in encoded.features),
        **{
            name: getattr(encoded, name)[take]
            for name in (
                *("world_from_cam", "intrinsics", "image_sizes"),
                *("network_intrinsics", "descriptors"),
            )
        },
    )


def said(found: dict[str, Localization]) -> str:
    """An answer's confidence, and the focal length that was found."""
    parts = []
    for x in found.values():
        focal = f" {x.focal_px:.0f} px +- {x.focal_deviation:.1%}" if x.focal_px else ""
        parts.append(f"{x.confidence:.3f}{focal}")
    return "; ".join(parts)


def row(name: str, answers: list[Localization], frames: PosedFrames, rows: list[int]):
    poses = np.stack([x.world_from_query for x in answers])
    success = np.array([x.success for x in answers])
    errors = metrics.pose_errors(poses, frames.world_from_cam[rows], success)
    summary = metrics.summarize(errors)
    focal = [
        abs(x.focal_px / frames.intrinsics[i, 0, 0] - 1)
        for x, i in zip(answers, rows, strict=True)
        if x.success and x.focal_px
    ]
    ms = np.median([sum(x.stage_ms.values()) for x in answers])
    return {
        "focal length": name,
        "median cm": f"{100 * summary.median_position_m:.2f}",
        "deg": f"{summary.median_rotation_deg:.3f}",
        "answered": f"{np.sum(success)}",
        "focal length off by": f"{np.median(focal):.2%}" if focal else "",
        "ms": f"{ms:.0f}",
    }


if __name__ == "__main__":
    run_script(main)

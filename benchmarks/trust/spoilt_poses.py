"""Whether `jaxreloc map check` finds poses that were spoilt on purpose.

  python -m benchmarks.trust.spoilt_poses --images=PHOTOS [--spoilt=10] [--trials=3]
  python -m benchmarks.trust.spoilt_poses --library=FOLDER [--split=test] [--rooms=2]

In each trial some images of a map are given wrong poses, in equal parts

  turned    by 3 to 30 degrees about any axis through the centre
  moved     by 5% to 50% of the distance of what the image shows, in any direction
  swapped   two images have each other's pose, which lie at least as far apart as the least of these

and the map is triangulated and checked as `map build` and `map check` do. A hit is a spoilt image
that is called a wrong pose, a false alarm an image that was not spoilt. A trial of its own has
nothing spoilt.
"""

import os

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import collections
import dataclasses
import pathlib
from collections.abc import Iterator, Mapping

import numpy as np
from absl import flags
from jaxtyping import Float64
from scipy.spatial.transform import Rotation
from tabulate import tabulate

from benchmarks.accuracy.held_out import load_room, matcher
from jaxreloc.compilation.compilation_cache import use_compilation_cache
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.formats.posed_images import read_posed_images
from jaxreloc.localization.care.map_check import MIN_IMAGES, check_map
from jaxreloc.localization.care.scene_depth import SceneDepth
from jaxreloc.localization.map.encoding import EncodedImages, encode_frames
from jaxreloc.localization.map.map_depth import with_depth
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.networks.loading import canvas
from jaxreloc.usage import UsageError, run_script

_SHARED = {"allow_override": True}  # a test imports this beside modules with flags of these names
_IMAGES = flags.DEFINE_string(
    "images", None, "Folder of posed photographs, instead of rooms.", **_SHARED
)
_LIBRARY = flags.DEFINE_string(
    "library", None, "Prepared furniture library (synthetic_rooms).", **_SHARED
)
_SPLIT = flags.DEFINE_enum(
    "split", "validation", ["validation", "test"], "Of the rooms.", **_SHARED
)
_ROOMS = flags.DEFINE_integer("rooms", 2, "How many rooms.", lower_bound=1, **_SHARED)
_CACHE = flags.DEFINE_string("cache", None, "Folder that keeps rendered rooms.", **_SHARED)
_SPOILT = flags.DEFINE_integer("spoilt", 10, "Images with wrong poses in a trial.", lower_bound=1)
_TRIALS = flags.DEFINE_integer("trials", 3, "Of each scene.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Of what is spoilt, and how.", **_SHARED)

KINDS = ("turned", "moved", "swapped")
TURNED_DEG = 3.0, 30.0
MOVED = 0.05, 0.5  # of the depth


def spoil(
    rng: np.random.Generator,
    world_from_cam: Float64[np.ndarray, "M 4 4"],
    depth: float,
    count: int,
) -> tuple[Float64[np.ndarray, "M 4 4"], Mapping[int, str]]:
    """Poses of which `count` are wrong, and the kind of each of these by its row."""
    poses, kinds = world_from_cam.copy(), {}
    rows = list(rng.permutation(len(poses)))
    while len(kinds) < count:
        kind = KINDS[len(kinds) // 2 % len(KINDS)]
        row = rows.pop()
        kinds[row] = kind
        if kind == "turned":
            axis = _direction(rng)
            angle = np.deg2rad(np.exp(rng.uniform(*np.log(TURNED_DEG))))
            poses[row, :3, :3] = Rotation.from_rotvec(angle * axis).as_matrix() @ poses[row, :3, :3]
        elif kind == "moved":
            poses[row, :3, 3] += depth * np.exp(rng.uniform(*np.log(MOVED))) * _direction(rng)
        else:
            far = [x for x in rows if _angle(world_from_cam[[row, x]], depth) > MOVED[0]]
            other = far[0]
            rows.remove(other)
            kinds[other] = kind
            poses[[row, other]] = world_from_cam[[other, row]]
    return poses, kinds


def _angle(pair: Float64[np.ndarray, "2 4 4"], depth: float) -> float:
    """How far two poses lie apart, as `map_check` measures it."""
    a, b = pair
    turned = Rotation.from_matrix(a[:3, :3].T @ b[:3, :3]).magnitude()
    return float(np.hypot(turned, np.linalg.norm(a[:3, 3] - b[:3, 3]) / depth))


def _direction(rng: np.random.Generator) -> Float64[np.ndarray, "3"]:
    x = rng.normal(size=3)
    return x / np.linalg.norm(x)


def scenes() -> Iterator[PosedFrames]:
    if _IMAGES.value:
        yield read_posed_images(_IMAGES.value)
        return
    cache = pathlib.Path(_CACHE.value) if _CACHE.value else None
    for index in range(_ROOMS.value):
        room = load_room(_SPLIT.value, index, _LIBRARY.value, cache)
        yield dataclasses.replace(room.database, scene=f"{_SPLIT.value}-{index:03d}")


def trials(frames: PosedFrames, rng: np.random.Generator) -> Iterator[list[object]]:
    """A row of the table for each trial."""
    if len(frames) < _SPOILT.value + MIN_IMAGES:
        raise UsageError(f"--spoilt={_SPOILT.value} of {len(frames)} images; give fewer")
    network = matcher(canvas(frames.image_sizes))
    encoded: EncodedImages = encode_frames(frames, network)
    true = with_depth(SceneMap.from_images(network, encoded))
    depth = SceneDepth(true)(range(len(true)))
    yield _row(frames.scene, true, {})
    for _ in range(_TRIALS.value):
        poses, kinds = spoil(rng, encoded.world_from_cam, depth, _SPOILT.value)
        spoilt = dataclasses.replace(encoded, world_from_cam=poses)
        yield _row(frames.scene, with_depth(SceneMap.from_images(network, spoilt)), kinds)


def _row(scene: str, scene_map: SceneMap, kinds: Mapping[int, str]) -> list[object]:
    checked = check_map(scene_map)
    called = {scene_map.names.index(x.name) for x in checked.of_kind("wrong pose")}
    unconnected = {scene_map.names.index(x.name) for x in checked.of_kind("unconnected")}
    hits = collections.Counter(kinds[row] for row in called & set(kinds))
    all_of = collections.Counter(kinds.values())
    print(
        scene,
        "missed:",
        [(scene_map.names[row], kinds[row]) for row in set(kinds) - called],
        "false:",
        [x for x in checked.of_kind("wrong pose") if scene_map.names.index(x.name) not in kinds],
        flush=True,
    )
    return [
        scene,
        len(scene_map),
        len(kinds),
        len(called & set(kinds)),
        *(f"{hits[kind]}/{all_of[kind]}" if kinds else "" for kind in KINDS),
        len(called - set(kinds)),
        len(unconnected),
    ]


def main(_: list[str]) -> None:
    use_compilation_cache()
    rng = np.random.default_rng(_SEED.value)
    rows = [row for frames in scenes() for row in trials(frames, rng)]
    total = [sum(row[i] for row in rows) for i in (1, 2, 3)]
    found = f"{total[2] / max(total[1], 1):.0%}"
    false, intact = sum(row[-2] for row in rows), total[0] - total[1]
    headers = ["scene", "images", "spoilt", "found", *KINDS, "false alarms", "unconnected"]
    print(tabulate(rows, headers, tablefmt="github"))
    print(f"{total[2]} of {total[1]} found ({found}), {false} false alarms among {intact} images")


if __name__ == "__main__":
    run_script(main)

"""How exactly `jaxreloc map merge` brings one half of a map to the other.

  python -m benchmarks.trust.merged_maps --images=PHOTOS
  python -m benchmarks.trust.merged_maps --library=FOLDER [--split=test] [--rooms=2]

A scene's images are mapped in two parts, the second in other axes and another unit, and merged:

  alternating   every second image is of the second map
  overlapping   the first and the last five eighths of the images, in their order
  apart         the first and the last half

The table has the scale that was found over the true one, and how far the poses of the second part
then lie from the true ones: degrees, and centres in percent of the distance of what is seen.
"""

import os

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import dataclasses
import pathlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from absl import flags
from scipy.spatial.transform import Rotation
from tabulate import tabulate

from benchmarks.accuracy.held_out import matcher
from benchmarks.trust.spoilt_poses import median_depth, scenes
from jaxreloc.compilation.compilation_cache import use_compilation_cache
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.localization.care.map_alignment import Similarity
from jaxreloc.localization.care.map_merge import merge_maps
from jaxreloc.localization.jobs.building import triangulate_map
from jaxreloc.localization.map.encoding import encode_frames
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.networks.loading import canvas
from jaxreloc.localization.networks.match_network import MatchNetwork
from jaxreloc.usage import UsageError, run_script

_SEED = flags.DEFINE_integer("axes_seed", 0, "Of the second map's axes.")


def parts_of(count: int) -> Mapping[str, tuple[Sequence[int], Sequence[int]]]:
    """The images of both maps."""
    return {
        "alternating": (range(0, count, 2), range(1, count, 2)),
        "overlapping": (range(count * 5 // 8), range(count * 3 // 8, count)),
        "apart": (range(count // 2), range(count // 2, count)),
    }


def _map(
    folder: pathlib.Path, frames: PosedFrames, network: MatchNetwork, given: Similarity
) -> pathlib.Path:
    """On disk, in other axes."""
    moved = dataclasses.replace(frames, world_from_cam=given.of_poses(frames.world_from_cam))
    SceneMap.create(folder, network, [encode_frames(moved, network)])
    triangulate_map(folder)
    return folder


def merges(frames: PosedFrames, rng: np.random.Generator) -> Iterator[list[object]]:
    """A row of the table for each way of taking a scene apart."""
    network = matcher(canvas(frames.image_sizes))
    same = Similarity(1.0, np.eye(3), np.zeros(3))
    for kind, (first, second) in parts_of(len(frames)).items():
        rotation = Rotation.random(random_state=rng).as_matrix()
        other = Similarity(float(np.exp(rng.uniform(-1, 1))), rotation, 10 * rng.normal(size=3))
        with tempfile.TemporaryDirectory() as folder:
            base = pathlib.Path(folder)
            a = _map(base / "a", frames.select(first), network, same)
            b = _map(base / "b", frames.select(second), network, other)
            depth = median_depth(SceneMap.open(a))
            try:
                said = merge_maps(a, b, base / "c")
            except UsageError as error:
                print(error)
                yield [frames.scene, kind, len(first), len(second), "refused"]
                continue
            print(said, flush=True)
            merged = SceneMap.open(base / "c")
            found = merged.world_from_db[len(first) :]
            scale = np.linalg.norm(np.diff(found[:, :3, 3], axis=0), axis=1).sum()
            true = frames.world_from_cam[list(second)]
            scale /= np.linalg.norm(np.diff(true[:, :3, 3], axis=0), axis=1).sum()
            off = np.linalg.inv(true) @ found
            degrees = np.rad2deg(Rotation.from_matrix(off[:, :3, :3]).magnitude())
            percent = 100 * np.linalg.norm(off[:, :3, 3], axis=1) / depth
            yield [
                frames.scene,
                kind,
                len(first),
                len(second),
                f"{scale:.4f}",
                f"{np.median(degrees):.3f}",
                f"{np.median(percent):.2f}",
                f"{percent.max():.2f}",
            ]


def main(_: list[str]) -> None:
    use_compilation_cache()
    rng = np.random.default_rng(_SEED.value)
    rows = [row for frames in scenes() for row in merges(frames, rng)]
    headers = ["scene", "parts", "first", "second", "scale", "degrees", "centre %", "largest"]
    print(tabulate(rows, headers, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    run_script(main)

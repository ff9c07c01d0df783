"""Poses from photographs alone beside the known ones: how many, and how far off.

  taskset -c 0 python -m benchmarks.capture.sfm_accuracy --images=PHOTOS [--poses=FILE]
      [--matches=sift,network]

The cameras that structure from motion finds are brought to the known ones by the best similarity.
Errors are in the unit of the known poses, and relative to the cameras' median distance from their
middle. With `network`, COLMAP maps the matches of the network that ships instead of SIFT's.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import functools
import pathlib
import tempfile
import time

import numpy as np
import tabulate
from absl import flags

from benchmarks.angles import rotation_deg
from benchmarks.capture import matched_database
from jaxreloc.capture import from_photographs
from jaxreloc.capture.photographs import find_photographs
from jaxreloc.capture.sfm import mapping, pairing
from jaxreloc.capture.sfm.quiet_colmap import pycolmap
from jaxreloc.capture.sfm.work_folder import WorkFolder
from jaxreloc.capture.stages import Stages
from jaxreloc.capture.structure import find_structure, unposed_frames
from jaxreloc.compilation.compilation_cache import use_compilation_cache
from jaxreloc.formats.common.collector import BadFrames
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.formats.posed_images import read_posed_images
from jaxreloc.localization.networks.loading import pretrained_network
from jaxreloc.usage import run_script

_SHARED = {"allow_override": True}  # a test imports this beside modules with flags of these names
_IMAGES = flags.DEFINE_string("images", None, "Folder of photographs.", **_SHARED)
_POSES = flags.DEFINE_string("poses", None, "Their poses, where they lie apart.", **_SHARED)
_MATCHES = flags.DEFINE_list("matches", ["sift"], "sift, network, or both.", **_SHARED)


def by_name(frames: PosedFrames) -> dict[str, np.ndarray]:
    """world_from_cam by the end of each name."""
    names = (pathlib.PurePosixPath(name).name for name in frames.names)
    return dict(zip(names, frames.world_from_cam, strict=True))


def figures(found: PosedFrames, known: dict[str, np.ndarray]) -> dict[str, str]:
    """A row's columns."""
    poses = by_name(found)
    shared = [name for name in poses if name in known]
    found_poses, true = (np.stack([x[name] for name in shared]) for x in (poses, known))
    fit = pycolmap.estimate_sim3d(found_poses[:, :3, 3], true[:, :3, 3])
    rotation = fit.rotation.matrix()
    centres = fit.scale * found_poses[:, :3, 3] @ rotation.T + fit.translation
    errors = np.linalg.norm(centres - true[:, :3, 3], axis=1)
    degrees = rotation_deg(rotation @ found_poses[:, :3, :3], true[:, :3, :3])
    middle = np.median(true[:, :3, 3], axis=0)
    size = np.median(np.linalg.norm(true[:, :3, 3] - middle, axis=1))
    return {
        "registered": f"{len(found)}",
        "rms error": f"{np.sqrt(np.mean(errors**2)):.4f}",
        "largest": f"{errors.max():.4f}",
        "rms relative": f"{np.sqrt(np.mean(errors**2)) / size:.2%}",
        "median deg": f"{np.median(degrees):.2f}",
    }


def found_by(kind: str, photographs, work: WorkFolder) -> PosedFrames:
    """The frames of the largest model."""
    work.start(photographs)
    if kind == "network":
        unposed = unposed_frames(photographs)
        network = pretrained_network(unposed.image_sizes)
        matched_database.fill(work, photographs, unposed, network)
        mapping.find_models(work, lambda count: None)
    pairs = functools.partial(pairing.all_pairs, len(photographs))
    bad = BadFrames(_IMAGES.value, skip=False)
    with Stages(dict.fromkeys(from_photographs.STAGES, 1.0)) as stages:
        found = find_structure(work, photographs, pairs, bad, stages)
    return found.frames


def main(argv: list[str]) -> None:
    del argv
    use_compilation_cache()
    known = (
        read_posed_images(_POSES.value, images=_IMAGES.value)
        if _POSES.value
        else read_posed_images(_IMAGES.value)
    )
    photographs = find_photographs(_IMAGES.value)
    rows = []
    for kind in _MATCHES.value:
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            found = found_by(kind, photographs, WorkFolder(pathlib.Path(folder)))
        seconds = time.perf_counter() - start
        row = {"matches of": kind} | figures(found, by_name(known)) | {"seconds": f"{seconds:.0f}"}
        rows.append(row)
    print(f"{known.scene}: {len(photographs)} photographs")
    print(tabulate.tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    run_script(main)

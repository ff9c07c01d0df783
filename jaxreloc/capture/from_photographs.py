"""A map of photographs or a video without poses: `jaxreloc map build`."""

import contextlib
import dataclasses
import functools
import pathlib
import sys
import time
from collections.abc import Iterator, Sequence

import numpy as np

from jaxreloc import interrupts
from jaxreloc.capture import coverage, metric_scale
from jaxreloc.capture.keyframes import keyframes
from jaxreloc.capture.metric_scale import Distance, Metric
from jaxreloc.capture.photographs import Photograph, find_photographs, note_cameras
from jaxreloc.capture.sfm import pairing
from jaxreloc.capture.sfm.work_folder import work_folder
from jaxreloc.capture.stages import Stages
from jaxreloc.capture.structure import Structure, find_structure, unposed_frames
from jaxreloc.formats.common.collector import BadFrames
from jaxreloc.localization.jobs import building
from jaxreloc.localization.jobs.query_images import VIDEO_SUFFIXES
from jaxreloc.localization.map.encoding import EncodedImages
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.networks.loading import LONG_SIDE
from jaxreloc.localization.networks.pose_network import PoseNetwork
from jaxreloc.usage import UsageError

# Seconds that each stage takes on one core: of a photograph, of a pair.
SECONDS = {"features": 0.6, "comparing": 0.3, "mapping": 0.3, "encoding": 0.3}
SECONDS |= {"triangulating": 0.7}
STAGES = ("keyframes", "features", "comparing", "matching", "mapping", "encoding", "triangulating")
PAIR_SECONDS = 0.05
LISTED = 20  # photographs without a pose that are named


def build_map_from_photographs(
    source: str | pathlib.Path,
    out: str | pathlib.Path,
    network_path: str | pathlib.Path | None = None,
    *,
    distance: Sequence[str] = (),
    skip_bad_frames: bool = False,
    long_side: int = LONG_SIDE,
    index: bool = False,
) -> Iterator[str]:
    """Makes a new map; yields lines that say what became of the photographs.

    What COLMAP makes lies in `out`.sfm, from which another run goes on.

    Args:
      source: a folder of photographs, or a video.
      network_path, long_side, index: as in `building.build_map`.
      distance: two photographs and how many metres apart they were taken, which gives the unit.
      skip_bad_frames: leaves out what is no picture, instead of raising.

    Raises:
      UsageError: a file is no picture, the photographs do not hang together, the unit cannot be
        found, the map exists, or FAISS is absent and an index is asked for.
    """
    out, source = pathlib.Path(out).expanduser(), pathlib.Path(source).expanduser()
    building.check_new(out, index=index)
    measured = Distance.parse(distance) if distance else None
    print(f"{source}: no poses; they are found from the pictures", file=sys.stderr)
    start = time.perf_counter()
    with contextlib.ExitStack() as stack:
        work = stack.enter_context(work_folder(out))
        stages = stack.enter_context(Stages(dict.fromkeys(STAGES, 1.0)))
        stack.enter_context(interrupts.saying(lambda: f"{work.path}: the next run goes on there"))
        is_video = source.suffix.lower() in VIDEO_SUFFIXES
        if is_video:
            stages.start("keyframes")
            folder = keyframes(source, work.path, stages.at)
        photographs = find_photographs(
            folder if is_video else source, skip_bad_frames=skip_bad_frames
        )
        _check_distance(measured, photographs)
        note_cameras(source, photographs)
        sizes = np.array([x.header.size for x in photographs])
        network = building.network_for(sizes, network_path, long_side)
        stages.expect(_expected(len(photographs)))
        bad = BadFrames(source, skip=skip_bad_frames)
        structure = find_structure(
            work, photographs, lambda: _pairs(photographs, network, is_video, stages), bad, stages
        )
        frames = structure.frames
        progress = functools.partial(stages.ticking, total=len(frames))
        stages.start("encoding")
        parts = list(building.encode_in_parts(frames, network, progress=progress))
        metric = find_metric(structure, SceneMap.from_images(network, *parts), measured)
        moved = [_moved(part, metric) for part in parts]
        SceneMap.create(out, network, moved, metric.geographic_origin, metric.source)
        stages.start("triangulating")
        building.complete(out, index=index, progress=progress)
    yield from report(structure, len(photographs))
    yield metric.said
    yield f"{building.describe_map(out)}; {time.perf_counter() - start:.0f} s"


def _expected(count: int) -> dict[str, float]:
    """Seconds of each stage for so many photographs."""
    many = count > pairing.ALL_OF
    each = SECONDS if many else SECONDS | {"comparing": 0.0}
    pairs = count * pairing.SIMILAR if many else count * (count - 1) / 2
    return {stage: count * x for stage, x in each.items()} | {"matching": PAIR_SECONDS * pairs}


def _pairs(
    photographs: Sequence[Photograph], network: PoseNetwork, in_order: bool, stages: Stages
) -> list[tuple[int, int]]:
    """Which photographs are to be matched: of many, those that the network finds similar."""
    count = len(photographs)
    if count <= pairing.ALL_OF:
        return pairing.all_pairs(count)
    stages.start("comparing")
    progress = functools.partial(stages.ticking, total=count)
    parts = building.encode_in_parts(unposed_frames(photographs), network, progress=progress)
    descriptors = np.concatenate([part.descriptors for part in parts]).astype(np.float32)
    return pairing.similar_pairs(descriptors, in_order=in_order)


def find_metric(
    structure: Structure, scene_map: SceneMap, distance: Distance | None
) -> Metric:
    """The unit, and the axes where these are known.

    Args:
      scene_map: of the frames, in the model's unit.

    Raises:
      UsageError: nothing tells the unit.
    """
    poses = structure.frames.world_from_cam
    if distance is not None:
        centres = dict(zip(structure.frames.names, poses[:, :3, 3], strict=True))
        return metric_scale.by_distance(distance, centres)
    by_gps = metric_scale.by_gps(structure.positions, poses)
    return by_gps or metric_scale.by_network(scene_map, structure.partners())


def report(structure: Structure, total: int) -> Iterator[str]:
    """How many photographs have a pose, which have none and why, and where more would help."""
    missing = structure.unregistered
    yield f"{len(structure.frames)} of {total} photographs have a pose"
    for unregistered in missing[:LISTED]:
        yield f"  {unregistered}"
    if len(missing) > LISTED:
        yield f"  and {len(missing) - LISTED} more"
    weak = coverage.weak_links(structure.frames.names, structure.pairs)
    if weak:
        shown = ", ".join(weak[:LISTED])
        yield f"  connected to fewer than two others: {shown}; photograph more around there"


def _moved(part: EncodedImages, metric: Metric) -> EncodedImages:
    moved = metric.world_from_model.of_poses(part.world_from_cam)
    return dataclasses.replace(part, world_from_cam=moved)


def _check_distance(distance: Distance | None, photographs: Sequence[Photograph]) -> None:
    names = {x.name for x in photographs}
    for name in () if distance is None else (distance.a, distance.b):
        if name not in names:
            raise UsageError(
                f"--distance: there is no photograph {name}; there is {min(names)}, say"
            )

"""A map of photographs or a video without poses: `jaxreloc map build`."""

import dataclasses
import functools
import pathlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from jaxreloc.capture import coverage, metric_scale
from jaxreloc.capture.keyframes import keyframes
from jaxreloc.capture.metric_scale import Distance, Metric
from jaxreloc.capture.photographs import Photograph, check_enough, find_photographs, note_cameras
from jaxreloc.capture.sfm import mapping, pairing, sift_features
from jaxreloc.capture.sfm.mapping import Pair
from jaxreloc.capture.sfm.sift_features import quoted
from jaxreloc.capture.sfm.work_folder import WorkFolder, work_folder
from jaxreloc.capture.stages import Stages
from jaxreloc.formats.common.camera_models import Camera
from jaxreloc.formats.common.collector import BadFrames, FrameCollector
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.formats.readers.colmap import named_poses
from jaxreloc.images import ImageFiles, read_image
from jaxreloc.localization.jobs import building
from jaxreloc.localization.jobs.query_images import VIDEO_SUFFIXES
from jaxreloc.localization.map import map_files
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
ADVICE = (
    "photograph in steps of half a metre to the side, so that each picture shows most of what the "
    "one before shows"
)
LISTED = 20  # photographs without a pose that are named


@dataclasses.dataclass(frozen=True)
class Structure:
    """What structure from motion has made of the photographs."""

    frames: PosedFrames  # in the model's unit
    positions: tuple[tuple[float, float, float] | None, ...]  # of the frames, by EXIF
    pairs: tuple[Pair, ...]  # of our names, the surest first
    unregistered: tuple[coverage.Unregistered, ...]

    def partners(self) -> list[list[int]]:
        """The frames that show most of what each frame shows, by their number."""
        row = {name: i for i, name in enumerate(self.frames.names)}
        found: list[list[int]] = [[] for _ in row]
        for pair in self.pairs:
            if pair.a in row and pair.b in row:
                found[row[pair.a]].append(row[pair.b])
                found[row[pair.b]].append(row[pair.a])
        return found


def build_map_from_photographs(
    source: str | pathlib.Path,
    out: str | pathlib.Path,
    network_path: str | pathlib.Path | None = None,
    *,
    distance: Sequence[str] = (),
    skip_bad_frames: bool = False,
    long_side: int = LONG_SIDE,
) -> Iterator[str]:
    """Makes a new map; yields lines that say what became of the photographs.

    What COLMAP makes lies in `out`.sfm, from which another run goes on.

    Args:
      source: a folder of photographs, or a video.
      network_path, long_side: as in `building.build_map`.
      distance: two photographs and how many metres apart they were taken, which gives the unit.
      skip_bad_frames: leaves out what is no picture, instead of raising.

    Raises:
      UsageError: a file is no picture, the photographs do not hang together, the unit cannot be
        found, or the map exists.
    """
    out, source = pathlib.Path(out).expanduser(), pathlib.Path(source).expanduser()
    map_files.check_new(out)
    measured = Distance.parse(distance) if distance else None
    print(f"{source}: no poses; they are found from the pictures", file=sys.stderr)
    start = time.perf_counter()
    with work_folder(out) as work, Stages(dict.fromkeys(STAGES, 1.0)) as stages:
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
        building.triangulate_map(out, progress)
    yield from report(structure, len(photographs))
    yield metric.said
    yield f"{building.describe_map(out)}; {time.perf_counter() - start:.0f} s"


def _expected(count: int) -> dict[str, float]:
    """Seconds of each stage for so many photographs."""
    many = count > pairing.ALL_OF
    each = SECONDS if many else SECONDS | {"comparing": 0.0}
    pairs = count * pairing.SIMILAR if many else count * (count - 1) / 2
    return {stage: count * x for stage, x in each.items()} | {"matching": PAIR_SECONDS * pairs}


def unposed_frames(photographs: Sequence[Photograph]) -> PosedFrames:
    """The photographs with poses and cameras that mean nothing."""
    sizes = np.array([x.header.size for x in photographs])
    return PosedFrames(
        scene="",
        names=tuple(x.name for x in photographs),
        world_from_cam=np.tile(np.eye(4), (len(photographs), 1, 1)),
        intrinsics=np.stack([Camera.centred(max(size), *size).intrinsics for size in sizes]),
        image_sizes=sizes,
        images=ImageFiles(tuple(x.path for x in photographs)),
    )


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


def find_structure(
    work: WorkFolder,
    photographs: Sequence[Photograph],
    choose: Callable[[], Sequence[tuple[int, int]]],
    bad: BadFrames,
    stages: Stages,
) -> Structure:
    """Poses by COLMAP; what the work folder has is not made again.

    Args:
      choose: gives the pairs of photographs to match, once features are found.

    Raises:
      UsageError: a picture breaks off, or no FEWEST of them hang together.
    """
    work.start(photographs)
    names = {quoted(x.name): x.name for x in photographs}
    if not work.has_models:
        stages.start("features")
        sift_features.extract(work.database, photographs, bad, stages.ticking)
        bad.report()
        known = sift_features.num_features(work.database)
        check_enough(bad.source, [x for x in photographs if quoted(x.name) in known])
        quoted_names = [quoted(x.name) for x in photographs]
        wanted = [(quoted_names[i], quoted_names[j]) for i, j in choose()]
        stages.start("matching")
        wanted = [(a, b) for a, b in wanted if a in known and b in known]
        mapping.match(work, wanted, stages.at)
        stages.start("mapping")
        verified = mapping.verified_pairs(work.database)
        if not verified:
            raise UsageError(
                f"{bad.source}: no two of {len(known)} photographs show the same; {ADVICE}"
            )
        mapping.find_models(work, lambda count: stages.at(count / len(photographs)))
    groups = list(mapping.read_groups(work).items())
    if not groups:
        raise _no_model(work, bad.source)
    verified = [
        Pair(names[x.a], names[x.b], x.num_inliers) for x in mapping.verified_pairs(work.database)
    ]
    frames = _frames(groups[0][0], photographs, bad.source)
    counts = {names[x]: n for x, n in sift_features.num_features(work.database).items()}
    others = [[names[x] for x in group] for _, group in groups[1:]]
    sharp = {}
    if len(frames) < len(counts):
        sharp = {x.name: coverage.sharpness(read_image(x.path)) for x in photographs}
    position = {x.name: x.header.position for x in photographs}
    return Structure(
        frames,
        tuple(position[name] for name in frames.names),
        tuple(verified),
        tuple(coverage.explain(frames.names, others, counts, verified, sharp)),
    )


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
        yield f"  held by fewer than two others: {shown}; photograph more around there"


def _frames(
    model: pathlib.Path, photographs: Sequence[Photograph], source: str | pathlib.Path
) -> PosedFrames:
    """Of the upright pictures, which COLMAP's cameras are of."""
    by_name = {quoted(x.name): x for x in photographs}
    collector = FrameCollector(pathlib.Path(source).resolve().name, model)
    for pose in named_poses(model, collector.bad):
        photograph = by_name[pose.name]
        camera = pose.camera(photograph.path)
        collector.add(photograph.name, photograph.path, pose.world_from_cam, camera)
    return collector.finish()


def _moved(part: EncodedImages, metric: Metric) -> EncodedImages:
    return dataclasses.replace(part, world_from_cam=metric.of_cameras(part.world_from_cam))


def _check_distance(distance: Distance | None, photographs: Sequence[Photograph]) -> None:
    names = {x.name for x in photographs}
    for name in () if distance is None else (distance.a, distance.b):
        if name not in names:
            raise UsageError(
                f"--distance: there is no photograph {name}; there is {min(names)}, say"
            )


def _no_model(work: WorkFolder, source: str | pathlib.Path) -> UsageError:
    """In words, why nothing could be mapped."""
    kind = mapping.motion_between(work.database)
    if kind is mapping.Motion.NONE:
        why = "all photographs show the same view, from which nothing can be triangulated"
    elif kind is mapping.Motion.TURNED:
        why = "the photographs are of one place, from which the camera only turned, or of one wall"
    else:
        why = "the photographs overlap too little to hang together"
    return UsageError(f"{source}: {why}; {ADVICE}")

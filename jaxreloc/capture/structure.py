"""Structure from motion of photographs: who has a pose, and why the others have none."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from jaxreloc.capture import coverage
from jaxreloc.capture.photographs import Photograph, check_enough
from jaxreloc.capture.sfm import mapping, sift_features
from jaxreloc.capture.sfm.mapping import Pair
from jaxreloc.capture.sfm.sift_features import quoted
from jaxreloc.capture.sfm.work_folder import WorkFolder
from jaxreloc.capture.stages import Stages
from jaxreloc.formats.common.camera_models import Camera
from jaxreloc.formats.common.collector import BadFrames, FrameCollector
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.formats.readers.colmap import named_poses
from jaxreloc.images import ImageFiles, read_image, sharpness
from jaxreloc.usage import UsageError

ADVICE = (
    "photograph in steps of half a metre to the side, so that each picture shows most of what the "
    "one before shows"
)


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
        sharp = {x.name: sharpness(read_image(x.path)) for x in photographs}
    position = {x.name: x.header.position for x in photographs}
    return Structure(
        frames,
        tuple(position[name] for name in frames.names),
        tuple(verified),
        tuple(coverage.explain(frames.names, others, counts, verified, sharp)),
    )


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

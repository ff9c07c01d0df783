"""Two maps of one place as one: images of the second are localized in the first.

Each image that is found has a pose in both maps, and these poses give the similarity that takes the
second map to the first (`map_alignment`).
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from jaxreloc.formats.frames import PosedFrames
from jaxreloc.localization.care.kept_pictures import kept_picture
from jaxreloc.localization.care.leave_one_out import KeptLocalizer
from jaxreloc.localization.care.map_alignment import Alignment, Similarity, align
from jaxreloc.localization.care.scene_depth import SceneDepth
from jaxreloc.localization.jobs import building
from jaxreloc.localization.map import map_files
from jaxreloc.localization.map.encoding import (
    EncodedImages,
    Progress,
    encode_frames,
    in_memory,
)
from jaxreloc.localization.map.map_manifest import Manifest, read_manifest
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.networks.matcher import Matcher
from jaxreloc.usage import UsageError

ASKED = 200  # images of the second map, at most
MIN_AGREEING = 4  # images
MIN_SHARE = 0.5  # of those that were found
MAX_SCALE_DEVIATION = 0.03  # relative


def merge_maps(
    first: pathlib.Path,
    second: pathlib.Path,
    out: pathlib.Path,
    progress: Progress = lambda images: images,
) -> str:
    """Writes a new map of the images of both; returns a line that says how they lie.

    It is in the axes and the unit of the first; of the second, if only that one has a geographic
    origin. Features and depths are kept, unless another network made them.

    Args:
      progress: wraps the iteration over the images that are localized, as tqdm does.

    Raises:
      UsageError: the evidence is thin, the maps do not fit, or `out` exists.
    """
    map_files.check_new(out)
    a, b = _Side.open(first), _Side.open(second)
    if b.scene_map.geographic_origin is not None and a.scene_map.geographic_origin is None:
        a, b = b, a
    is_same_network = a.manifest.network_sha256 == b.manifest.network_sha256
    if not is_same_network or a.scene_map.feature_format != b.scene_map.feature_format:
        b = _encoded_again(b, a)
    names = _new_names(a.scene_map.names, b.scene_map.names, b.folder.resolve().name)
    alignment, evidence = _aligned(a, b, progress)
    parts = [*a.parts, *(_moved(part, alignment.similarity, names) for part in b.parts)]
    origin = a.scene_map.geographic_origin
    merged = map(in_memory, parts)
    SceneMap.create(out, a.scene_map.network, merged, origin, a.scene_map.scale)
    building.complete(out)
    is_renamed = tuple(names.values()) != b.scene_map.names
    renamed = f"; its names begin with {b.folder.resolve().name}/" if is_renamed else ""
    count = len(a.scene_map) + len(b.scene_map)
    return f"{out}: {count} images; {evidence}{renamed}"


@dataclasses.dataclass(frozen=True)
class _Side:
    """One of the two maps."""

    folder: pathlib.Path
    manifest: Manifest
    scene_map: SceneMap
    parts: Sequence[EncodedImages]

    @classmethod
    def open(cls, folder: pathlib.Path) -> "_Side":
        manifest = read_manifest(folder)
        scene_map, parts = SceneMap.open(folder), map_files.read_parts(folder, manifest)
        if read_manifest(folder) != manifest:
            raise UsageError(f"{folder}: {map_files.CHANGED}")
        return cls(folder, manifest, scene_map, parts)


class _KeptPictures(Sequence):
    """The pictures of a map, decoded as they are asked for."""

    def __init__(self, scene_map: SceneMap):
        self._map = scene_map

    def __len__(self) -> int:
        return len(self._map)

    def __getitem__(self, row: int) -> np.ndarray:
        return kept_picture(self._map, row)[0]


def _encoded_again(b: _Side, a: _Side) -> _Side:
    """The second map as the first one's network makes it of the pictures that are kept.

    Raises:
      UsageError: these are small ones to be shown only.
    """
    networks = a.scene_map.network, b.scene_map.network
    if not all(isinstance(network, Matcher) for network in networks):
        raise UsageError(
            f"{b.folder}: was made by another network than {a.folder}, and keeps no pictures to be "
            "encoded again; build it again with the same network"
        )
    old = b.scene_map
    pictures = _KeptPictures(old)
    frames = PosedFrames(
        scene=b.folder.name,
        names=old.names,
        world_from_cam=old.world_from_db,
        intrinsics=np.stack([kept_picture(old, row)[1] for row in range(len(old))]),
        image_sizes=np.array([pictures[row].shape[1::-1] for row in range(len(old))]),
        images=pictures,
    )
    encoded = dataclasses.replace(
        encode_frames(frames, a.scene_map.network, feature_format=a.scene_map.feature_format),
        intrinsics=old.intrinsics,
        image_sizes=old.image_sizes,
    )
    origin = old.geographic_origin
    scene_map = SceneMap.from_images(a.scene_map.network, encoded, geographic_origin=origin)
    return dataclasses.replace(b, scene_map=scene_map, parts=[encoded])


def _aligned(a: _Side, b: _Side, progress: Progress) -> tuple[Alignment, str]:
    """How b lies in a, and what speaks for it in words; UsageError if that does not suffice."""
    rows = b.scene_map.some_images(ASKED)
    localizer = KeptLocalizer(a.scene_map, b.scene_map)
    found = zip(rows, localizer.localize_all(rows, progress=progress), strict=True)
    known = {row: x for row, x in found if x.success}
    alignment = None
    if len(known) >= MIN_AGREEING:
        depth_of = SceneDepth(a.scene_map)
        alignment = align(
            np.stack([x.world_from_query for x in known.values()]),
            b.scene_map.world_from_db[list(known)],
            np.array([depth_of(x.neighbors) for x in known.values()]),
            is_metric=_is_metric(a.scene_map) and _is_metric(b.scene_map),
        )
    return alignment, _evidence(b.folder, len(rows), len(known), alignment)


def _evidence(
    second: pathlib.Path, asked: int, found: int, alignment: Alignment | None
) -> str:
    """In words; UsageError if it does not suffice."""
    agreeing = 0 if alignment is None else int(alignment.agrees.sum())
    said = f"{found} of {asked} images of {second} are found in the other map, {agreeing} agree"
    if agreeing < max(MIN_AGREEING, MIN_SHARE * found):
        raise UsageError(
            f"{said} on where the maps lie; too few to merge them, add pictures that show both"
        )
    if alignment.scale_deviation > MAX_SCALE_DEVIATION:
        raise UsageError(
            f"{said}, but they lie too close together to tell the scale (right to "
            f"{alignment.scale_deviation:.0%}); add pictures that show both"
        )
    scale = f"scale {alignment.similarity.scale:.4g}"
    if alignment.scale_deviation:
        scale += f" (right to {alignment.scale_deviation:.1%})"
    return f"{said} to {np.rad2deg(alignment.error):.2g} degrees; {scale}"


def _is_metric(scene_map: SceneMap) -> bool:
    """Its unit is the metre, by a depth camera or by its place on the earth."""
    measured = scene_map.depth is not None and scene_map.depth.measured
    return measured or scene_map.geographic_origin is not None


def _new_names(
    a_names: Sequence[str], b_names: Sequence[str], prefix: str
) -> Mapping[str, str]:
    """Of the second map's images, with the map's name in front where one is in the first, too."""
    is_doubled = set(b_names) & set(a_names)
    names = {name: f"{prefix}/{name}" if is_doubled else name for name in b_names}
    if doubled := sorted(set(names.values()) & set(a_names)):
        raise UsageError(f"{doubled[0]}: is in both maps; rename the folder of one map")
    return names


def _moved(
    part: EncodedImages, similarity: Similarity, names: Mapping[str, str]
) -> EncodedImages:
    """In the axes and the unit of the first map."""
    depth = part.depth
    if depth is not None:
        unit = (depth.unit * similarity.scale).astype(np.float32)
        depth = dataclasses.replace(depth, unit=unit)
    return dataclasses.replace(
        part,
        names=tuple(names[name] for name in part.names),
        world_from_cam=similarity.of_poses(part.world_from_cam),
        depth=depth,
    )


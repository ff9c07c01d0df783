"""Building and changing maps: `jaxreloc map`."""

import collections
import contextlib
import logging
import pathlib
import time
from collections.abc import Iterable, Iterator

import jax
import numpy as np
from jaxtyping import Int

from jaxreloc.formats.common.geodesy import GeographicOrigin
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.formats.posed_images import read_posed_images
from jaxreloc.localization.map import map_files
from jaxreloc.localization.map.encoding import (
    CellDepth,
    EncodedImages,
    Progress,
    encode_frames,
    joined,
)
from jaxreloc.localization.map.large import catalogue, kept_index
from jaxreloc.localization.map.map_depth import triangulate
from jaxreloc.localization.map.map_manifest import read_manifest
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.networks.loading import LONG_SIDE, load_network, pretrained_network
from jaxreloc.localization.networks.matcher import Matcher
from jaxreloc.localization.networks.pose_network import PoseNetwork
from jaxreloc.progress_bars import progress_bar
from jaxreloc.usage import UsageError

logger = logging.getLogger(__name__)
PARTS = (
    ("feature_*.npy", "descriptors of cells"),
    ("descriptors.npy", "descriptors of whole images"),
    ("*.jpg", "pictures"),
    ("depth*.npy", "depths of cells"),
)
SEGMENT_SIZE = 1024  # images that are in memory together while they are encoded


def build_map(
    images: str | pathlib.Path,
    out: str | pathlib.Path,
    network_path: str | pathlib.Path | None = None,
    *,
    poses: str | pathlib.Path | None = None,
    skip_bad_frames: bool = False,
    long_side: int = LONG_SIDE,
    geographic_origin: GeographicOrigin | None = None,
    index: bool = False,
) -> str:
    """Encodes posed images into a new map; returns a line that says what it holds.

    Args:
      images: the folder, in any of `posed_images.FORMATS` unless the poses lie apart.
      network_path: a workdir or the folder of a saved network; None takes the network that needs
        no training (`pretrained_network`).
      poses: a file or model of poses apart from the images (`separate_poses`).
      skip_bad_frames: leaves bad frames out with one warning, instead of raising at the first.
      long_side: of the images (pixels) in the network that needs no training.
      geographic_origin: of the poses, whose axes are East, North, Up there.
      index: makes an index for approximate retrieval, which else comes at `kept_index.PAYS` images.

    Raises:
      UsageError: a file is not what it should be, the map exists, or FAISS is absent and an index
        is asked for.
    """
    out = pathlib.Path(out).expanduser()
    check_new(out, index=index)
    frames = read_frames(images, poses, skip_bad_frames)
    network = network_for(frames.image_sizes, network_path, long_side)
    start = time.perf_counter()
    SceneMap.create(out, network, encode_in_parts(frames, network), geographic_origin)
    complete(out, index=index)
    rate = len(frames) / (time.perf_counter() - start)
    return f"{describe_map(out)}; {rate:.1f} images/s"


def check_new(out: pathlib.Path, *, index: bool) -> None:
    """Raises UsageError unless a map can be made at `out`, with an index if it is asked for."""
    map_files.check_new(out)
    if index:
        kept_index.check_library("--index", "leave --index out")


def complete(
    folder: pathlib.Path, *, index: bool = False, progress: Progress | None = None
) -> None:
    """Adds what a new or grown map has beside its images; see `keep_up`, `triangulate_map`."""
    keep_index(folder, asked=index)  # by which neighbours are found
    triangulate_map(folder, progress)
    keep_up(folder, index=index)


def network_for(
    image_sizes: Int[np.ndarray, "n 2"],
    network_path: str | pathlib.Path | None,
    long_side: int,
) -> PoseNetwork:
    """The network that is named, or else the one that needs no training; see `build_map`."""
    if network_path is None:
        return pretrained_network(image_sizes, long_side=long_side)
    return load_network(network_path)


def add_to_map(
    map_path: str | pathlib.Path,
    images: str | pathlib.Path,
    *,
    poses: str | pathlib.Path | None = None,
    skip_bad_frames: bool = False,
) -> str:
    """Encodes more posed images with the map's own network and adds them."""
    folder = pathlib.Path(map_path).expanduser()
    scene_map = SceneMap.open(folder)
    frames = read_frames(images, poses, skip_bad_frames)
    start = time.perf_counter()
    add_frames(folder, frames, scene_map)
    rate = len(frames) / (time.perf_counter() - start)
    return f"{describe_map(folder)}; added {len(frames)}, {rate:.1f} images/s"


def add_frames(folder: pathlib.Path, frames: PosedFrames, scene_map: SceneMap) -> None:
    """Adds posed images to the map in `folder`, which is open as `scene_map`.

    Raises:
      UsageError: an image of one of their names is in the map, it cannot be written, or it has an
        index and FAISS is absent.
    """
    map_files.check_new_names(folder, frames.names)
    if kept_index.has_index(folder):
        index = folder / kept_index.FOLDER
        kept_index.check_library(f"{index}: the index grows with the map and", "delete that folder")
    map_files.add(folder, encode_in_parts(frames, scene_map.network, scene_map.feature_format))
    complete(folder)


def triangulate_map(map_path: str | pathlib.Path, progress: Progress | None = None) -> int:
    """Adds the depth of those images that have none; returns how many these were.

    A map answers without it too, less precisely. What an interrupted call has done stays, segment
    by segment. The depth of images that were there before others were added is kept as it is.
    """
    folder = pathlib.Path(map_path).expanduser()
    segments = read_manifest(folder).segments
    scene_map = SceneMap.open(folder)
    if read_manifest(folder).segments != segments:
        raise UsageError(f"{folder}: {map_files.CHANGED}")
    if not isinstance(scene_map.network, Matcher) or len(scene_map) < 2:
        return 0
    missing = sum(x.num_kept for x in segments if not x.depth)
    first = 0
    with _ticking(missing, "triangulating", progress) as ticking:
        for segment in segments:
            kept = np.setdiff1d(np.arange(segment.num_images), segment.removed)
            rows = range(first, first + len(kept))
            first += len(kept)
            if segment.depth:
                continue
            depth = triangulate(scene_map, rows, progress=ticking)
            codes = np.zeros((segment.num_images, *depth.codes[0].shape), np.uint16)
            unit = np.ones(segment.num_images, np.float32)
            codes[kept], unit[kept] = depth.codes, depth.unit
            map_files.add_depth(folder, segment, CellDepth(codes, unit))
    return missing


def index_map(map_path: str | pathlib.Path, num_parts: int | None = None) -> str:
    """Makes the index of a map on disk; returns a line that says what it is.

    Raises:
      UsageError: it is no map, FAISS is absent, or there are fewer segments than parts.
    """
    folder = pathlib.Path(map_path).expanduser()
    start = time.perf_counter()
    count = kept_index.write_index(folder, num_parts)
    size = sum(path.stat().st_size for path in (folder / kept_index.FOLDER).iterdir())
    seconds = time.perf_counter() - start
    return f"{folder}: index of {count} file(s), {size / 1e6:.1f} MB, {seconds:.1f} s"


def keep_up(folder: pathlib.Path, *, index: bool = False) -> None:
    """Brings what a large map has beside its segments up to them, after each change.

    Args:
      index: makes one, also where the map is small.

    Raises:
      UsageError: an index is asked for, and FAISS is absent.
    """
    keep_index(folder, asked=index)
    manifest = read_manifest(folder)
    has_depth = {bool(segment.depth) for segment in manifest.segments}
    catalogue.remove_catalogue(folder)
    if manifest.num_kept >= catalogue.MIN_IMAGES and len(has_depth) == 1:
        catalogue.write_catalogue(
            folder, manifest, joined(map_files.read_parts(folder, manifest))
        )


def keep_index(folder: pathlib.Path, *, asked: bool = False) -> None:
    """Brings the index of a large map up to its segments; see `keep_up`.

    Args:
      asked: makes one, also where the map is small.
    """
    if kept_index.has_index(folder):
        kept_index.grow_index(folder)
    elif asked or read_manifest(folder).num_kept >= kept_index.PAYS:
        try:
            kept_index.write_index(folder)
        except UsageError as error:
            if asked:
                raise
            logger.warning("%s: every query compares all images (%s)", folder, error)


def remove_from_map(map_path: str | pathlib.Path, names: Iterable[str]) -> str:
    """Takes images out of the map by name."""
    folder = pathlib.Path(map_path).expanduser()
    names = set(names)
    map_files.remove(folder, names)
    keep_up(folder)
    return f"{describe_map(folder)}; removed {len(names)}"


def describe_map(folder: pathlib.Path) -> str:
    """One line: the number of images, and what each takes on disk."""
    manifest = read_manifest(folder)
    stored = sum(segment.num_images for segment in manifest.segments)
    removed = sum(len(segment.removed) for segment in manifest.segments)
    size = sum(bytes_by_part(folder).values())
    network_size = map_files.network_file(folder, manifest).stat().st_size
    return (
        f"{folder}: {stored - removed} images of {size / 1e3:.0f} kB each, "
        f"and {network_size / 1e6:.1f} MB of network"
    )


def bytes_by_part(folder: pathlib.Path) -> dict[str, float]:
    """What the files of each kind take, bytes an image, the largest first."""
    stored = sum(segment.num_images for segment in read_manifest(folder).segments)
    sizes = collections.Counter()
    for path in (folder / map_files.SEGMENTS).rglob("*"):
        if path.is_file():
            kinds = (kind for pattern, kind in PARTS if path.match(pattern))
            sizes[next(kinds, "poses, cameras and checksums")] += path.stat().st_size
    return {part: size / stored for part, size in sizes.most_common()}


def read_frames(
    images: str | pathlib.Path, poses: str | pathlib.Path | None, skip_bad_frames: bool
) -> PosedFrames:
    """The posed images that `build_map` takes; their pictures are not read yet."""
    if poses is None:
        return read_posed_images(images, skip_bad_frames=skip_bad_frames)
    return read_posed_images(poses, images=images, skip_bad_frames=skip_bad_frames)


def encode_in_parts(
    frames: PosedFrames,
    network: PoseNetwork,
    feature_format: jax.tree_util.PyTreeDef | None = None,
    progress: Progress | None = None,
) -> Iterator[EncodedImages]:
    """The frames in parts that fit into memory, under one progress bar."""
    with _ticking(len(frames), "encoding", progress) as ticking:
        for start in range(0, len(frames), SEGMENT_SIZE):
            rows = range(start, min(start + SEGMENT_SIZE, len(frames)))
            yield encode_frames(
                frames.select(rows), network, feature_format=feature_format, progress=ticking
            )


@contextlib.contextmanager
def _ticking(total: int, what: str, progress: Progress | None) -> Iterator[Progress]:
    """What counts the items that pass: a bar of its own, unless `progress` does."""
    if progress is not None:
        yield progress
        return
    with progress_bar(what=what, total=total) as bar:

        def ticking(items: Iterable) -> Iterator:
            for item in items:
                yield item
                bar.update()

        yield ticking

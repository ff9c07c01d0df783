"""`jaxreloc map build --engine=ray`: the map of one process, made by many."""

import dataclasses
import functools
import os
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import jaxreloc
from jaxreloc import files, interrupts
from jaxreloc.formats.common.geodesy import GeographicOrigin
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.images import set_max_pixels
from jaxreloc.localization.jobs import building
from jaxreloc.localization.jobs.partial_map import PIECE_SIZE, PartialMap, Piece
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.networks.loading import LONG_SIDE, load_network
from jaxreloc.models.weights import saved_network
from jaxreloc.progress_bars import progress_bar
from jaxreloc.scale import pieces
from jaxreloc.scale.cluster import as_path, connected
from jaxreloc.scale.remote_images import RemoteImages, opened


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
    max_pixels: int | None = None,
    address: str | None = None,
    workers: int | None = None,
    piece_size: int = PIECE_SIZE,
    segment_size: int = building.SEGMENT_SIZE,
) -> str:
    """As `building.build_map`, on the cluster at `address`, or on all cores of this machine.

    The images' folder, if they are in one, and that of `out` are seen by all machines. A build that
    was cut off goes on when it is asked for again.

    Args:
      max_pixels: of a picture; None: as by default.
      workers: at most; None: one a GPU, or else a core.
      piece_size, segment_size: images that are described, and written, together.

    Raises:
      UsageError: as there, or as `cluster.connected`.
    """
    out, sizes = as_path(out), (piece_size, segment_size)
    building.check_new(out, index=index)
    with opened(images) as (source, remote):
        frames = building.read_frames(source, poses, skip_bad_frames)
        network = building.network_for(frames.image_sizes, network_path, long_side)
        partial = PartialMap(out, len(frames), *sizes)
        start = time.perf_counter()
        of_network = network_path, long_side
        settings = _settings(frames, str(images), of_network, geographic_origin, sizes)
        with partial.opened(settings):
            partial.save_network(network)
            shared = [partial.folder, *([] if remote else [source])]
            with connected(address, shared=shared) as fitting:
                run = functools.partial(
                    _run, partial=partial, workers=workers or fitting, max_pixels=max_pixels
                )
                run(_Describer, (frames, remote), partial.missing_pieces(), "describing")
                run(_Joiner, frames, partial.missing_segments(), "writing")
                partial.write_manifest(network, geographic_origin)
                building.keep_up(partial.map, index=index)  # by which neighbours are found
                run(_Triangulator, None, partial.missing_depths(network), "triangulating")
            partial.add_depths()
            building.keep_up(partial.map, index=index)
            partial.finish()
    rate = len(frames) / (time.perf_counter() - start)
    return f"{building.describe_map(out)}; {rate:.1f} images/s"


def _settings(
    frames: PosedFrames,
    images: str,
    network: Sequence[object],
    geographic_origin: GeographicOrigin | None,
    sizes: tuple[int, int],
) -> dict[str, Any]:
    """What a map is made of."""
    return {
        "images": files.printable(images),
        "count": len(frames),
        "network": [str(x) for x in network],
        "network_sha256": saved_network.digest_of_file(network[0]),
        "poses_sha256": frames.digest(),
        "geographic_origin": geographic_origin and dataclasses.asdict(geographic_origin),
        "sizes": list(sizes),
        "version": jaxreloc.__version__,
    }


def _run(
    worker: type,
    frames: object,
    todo: Sequence[Piece | int],
    what: str,
    *,
    partial: PartialMap,
    workers: int,
    max_pixels: int | None,
) -> None:
    def kept() -> str:
        return f"{partial.folder}: the same command goes on from there"

    plain = [dataclasses.astuple(x) if isinstance(x, Piece) else x for x in todo]
    done = pieces.done(worker, (partial, frames, max_pixels), plain, workers)
    with interrupts.saying(kept):
        for _ in progress_bar(done, what, "piece", total=len(plain)):
            pass


class _Describer:
    """Describes pieces; the network compiles once in each."""

    def __init__(
        self,
        partial: PartialMap,
        images: tuple[PosedFrames, RemoteImages | None],
        max_pixels: int | None,
    ):
        if max_pixels is not None:
            set_max_pixels(max_pixels)
        self._partial, (self._frames, remote) = partial, images
        if remote is not None:
            remote.install()
        self._network = load_network(partial.map)

    def __call__(self, piece: Sequence[int]) -> int:
        piece = Piece(*piece)
        self._partial.describe(piece, self._frames, self._network)
        return piece.count


class _Joiner:
    """Makes segments of pieces."""

    def __init__(self, partial: PartialMap, frames: PosedFrames, max_pixels: int | None):
        del max_pixels
        self._partial, self._frames = partial, frames

    def __call__(self, segment: int) -> int:
        self._partial.join(segment, self._frames)
        return segment


class _Triangulator:
    """Finds the depths of pieces; opens the map once in each."""

    def __init__(self, partial: PartialMap, frames: None, max_pixels: int | None):
        del frames, max_pixels
        self._partial = partial
        self._scene_map = SceneMap.open(partial.map)

    def __call__(self, piece: Sequence[int]) -> int:
        piece = Piece(*piece)
        threads = int(os.environ.get("PJRT_NPROC", 0)) or None
        self._partial.triangulate(piece, self._scene_map, threads)
        return piece.count

"""A map that is built piece by piece, by many processes that see one folder.

    OUT.partial/settings.json          what the map is made of; other settings make another map
    OUT.partial/pieces/000000/000000/  what is known of PIECE_SIZE images, as a segment of a map
    OUT.partial/depth/000000/000000.npz
    OUT.partial/map/                   the map, which becomes OUT when it is whole

A piece appears by rename and is the same whoever makes it, so that it may be made twice, and what
there is need not be made again. The pieces are joined into the segments that one process would have
written.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
from collections.abc import Iterator

import numpy as np

from jaxreloc import files
from jaxreloc.formats.common.geodesy import GeographicOrigin
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.localization.jobs.building import SEGMENT_SIZE
from jaxreloc.localization.map import map_files
from jaxreloc.localization.map.encoding import (
    CellDepth,
    EncodedImages,
    encode_frames,
    in_memory,
    joined,
)
from jaxreloc.localization.map.file_digests import FILE_NAME as DIGESTS
from jaxreloc.localization.map.map_depth import triangulate
from jaxreloc.localization.map.map_manifest import Manifest, Segment, read_manifest, write_manifest
from jaxreloc.localization.map.map_segments import DEPTH_DIGESTS, read_segment, write_segment
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.networks.matcher import Matcher
from jaxreloc.localization.networks.pose_network import PoseNetwork
from jaxreloc.usage import UsageError

PIECE_SIZE = 32  # images
SETTINGS = "settings.json"


@dataclasses.dataclass(frozen=True)
class Piece:
    """Images of a segment that are described together."""

    segment: int
    number: int  # within the segment
    first: int  # of its images, among all
    count: int

    @property
    def rows(self) -> range:
        """Of its images, among all."""
        return range(self.first, self.first + self.count)


def pieces_of(
    num_images: int, piece_size: int = PIECE_SIZE, segment_size: int = SEGMENT_SIZE
) -> list[Piece]:
    """All pieces in order; none reaches over the end of a segment."""
    pieces = []
    for segment, start in enumerate(range(0, num_images, segment_size)):
        end = min(start + segment_size, num_images)
        for number, first in enumerate(range(start, end, piece_size)):
            pieces.append(Piece(segment, number, first, min(piece_size, end - first)))
    return pieces


@dataclasses.dataclass(frozen=True)
class PartialMap:
    """The folder of a map that is being built; each method but `opened` may be called anywhere.

    Attributes:
      out: where the map is to be.
      num_images: of the map.
    """

    out: pathlib.Path
    num_images: int
    piece_size: int = PIECE_SIZE
    segment_size: int = SEGMENT_SIZE

    @property
    def folder(self) -> pathlib.Path:
        """Where all is until the map is whole."""
        return partial_folder(self.out)

    @property
    def map(self) -> pathlib.Path:
        """The map in the making; it can be opened once `write_manifest` was called."""
        return self.folder / "map"

    @property
    def pieces(self) -> list[Piece]:
        """All of them."""
        return pieces_of(self.num_images, self.piece_size, self.segment_size)

    def pieces_by_segment(self) -> list[list[Piece]]:
        """In order."""
        grouped: dict[int, list[Piece]] = {}
        for piece in self.pieces:
            grouped.setdefault(piece.segment, []).append(piece)
        return list(grouped.values())

    @contextlib.contextmanager
    def opened(self, settings: dict[str, object]) -> Iterator[None]:
        """Begins, or goes on where a build with the same settings has stopped.

        Raises:
          UsageError: there is a map already, another program builds it, or one was begun with
            other settings.
        """
        map_files.check_new(self.out)
        handle = files.lock_folder(
            self.folder,
            busy="another program is building it; wait for it",
            remedy="choose another --out",
        )
        try:
            (self.map / map_files.SEGMENTS).mkdir(parents=True, exist_ok=True)
            files.check_same(
                self.folder / SETTINGS,
                json.dumps(settings, sort_keys=True, indent=1),
                f"{self.folder}: is of a build of other images, or with other flags; give the "
                "same, or remove the folder",
            )
            yield
        finally:
            os.close(handle)

    def missing_pieces(self) -> list[Piece]:
        """Those that are to be described."""
        whole = {number for number in range(self._num_segments) if self._has_segment(number)}
        return [x for x in self.pieces if x.segment not in whole and not self._path(x).is_dir()]

    def describe(self, piece: Piece, frames: PosedFrames, network: PoseNetwork) -> None:
        """Describes the images of a piece, unless somebody has.

        Args:
          frames: of the whole map.
        """
        path = self._path(piece)
        if path.is_dir() or self._has_segment(piece.segment):
            return
        images = encode_frames(frames.select(piece.rows), network)
        try:
            write_segment(path.parent, piece.number, images)
        except UsageError:
            if not path.is_dir():  # else another worker was faster
                raise

    def missing_segments(self) -> list[int]:
        """Those that are to be joined."""
        return [number for number in range(self._num_segments) if not self._has_segment(number)]

    def join(self, number: int, frames: PosedFrames) -> None:
        """Makes a segment of its pieces, unless somebody has."""
        if self._has_segment(number):
            return
        pieces = self.pieces_by_segment()[number]
        parts = [self._read(piece) for piece in pieces]
        rows = range(pieces[0].first, pieces[-1].first + pieces[-1].count)
        # Poses come from their source: what is read from a file is brought back to a rotation.
        images = dataclasses.replace(in_memory(joined(parts)), **_identities(frames.select(rows)))
        try:
            write_segment(self.map / map_files.SEGMENTS, number, images)
        except UsageError:
            if not self._has_segment(number):
                raise
        shutil.rmtree(self.folder / "pieces" / f"{number:06d}", ignore_errors=True)

    def save_network(self, network: PoseNetwork) -> pathlib.Path:
        """Writes the map's network once: two writings of one network may differ in their bytes."""
        path = self.map / map_files.NETWORK_FILE
        if not path.exists():
            network.save(self.map)
        return path

    def write_manifest(
        self, network: PoseNetwork, geographic_origin: GeographicOrigin | None
    ) -> None:
        """Makes the segments a map, once all are there; one that has been made stays."""
        if (self.map / map_files.MANIFEST).exists():
            return
        path = self.save_network(network)
        sizes = [sum(x.count for x in pieces) for pieces in self.pieces_by_segment()]
        parent = self.map / map_files.SEGMENTS
        segments = [
            written_segment(parent, number, count) for number, count in enumerate(sizes)
        ]
        write_manifest(self.map, Manifest(files.sha256(path), tuple(segments), geographic_origin))

    def missing_depths(self, network: PoseNetwork) -> list[Piece]:
        """The pieces whose cells' depth is to be triangulated."""
        if not isinstance(network, Matcher) or self.num_images < 2:
            return []
        known = {int(x.name) for x in read_manifest(self.map).segments if x.depth}
        return [
            x for x in self.pieces if x.segment not in known and not self._depth_path(x).exists()
        ]

    def triangulate(self, piece: Piece, scene_map: SceneMap, threads: int | None = None) -> None:
        """Finds the depth of a piece's images, unless somebody has.

        Args:
          scene_map: of `map`.
        """
        path = self._depth_path(piece)
        if path.exists():
            return
        depth = triangulate(scene_map, piece.rows, threads=threads)
        with files.replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, codes=np.asarray(depth.codes), unit=depth.unit)

    def add_depths(self) -> None:
        """Gives the segments the depths of all their pieces."""
        for pieces, segment in zip(self.pieces_by_segment(), read_manifest(self.map).segments):
            if segment.depth or not self._depth_path(pieces[0]).exists():
                continue
            parts = [np.load(self._depth_path(piece), allow_pickle=False) for piece in pieces]
            codes, unit = (np.concatenate([part[x] for part in parts]) for x in ("codes", "unit"))
            map_files.add_depth(self.map, segment, CellDepth(codes, unit))

    def finish(self) -> None:
        """The map appears whole; nothing else is left."""
        try:
            os.rename(self.map, self.out)
        except OSError as error:
            raise UsageError(
                f"{self.out}: cannot be written ({error.strerror}); the map is in {self.map}"
            ) from error
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _num_segments(self) -> int:
        return -(-self.num_images // self.segment_size)

    def _path(self, piece: Piece) -> pathlib.Path:
        return self.folder / "pieces" / f"{piece.segment:06d}" / f"{piece.number:06d}"

    def _depth_path(self, piece: Piece) -> pathlib.Path:
        return self.folder / "depth" / f"{piece.segment:06d}" / f"{piece.number:06d}.npz"

    def _has_segment(self, number: int) -> bool:
        return (self.map / map_files.SEGMENTS / f"{number:06d}").is_dir()

    def _read(self, piece: Piece) -> EncodedImages:
        path = self._path(piece)
        return read_segment(path.parent, written_segment(path.parent, piece.number, piece.count))


def partial_folder(out: pathlib.Path) -> pathlib.Path:
    """Where a map that is to be `out` is while it is built."""
    return out.with_name(out.name + ".partial")


def written_segment(parent: pathlib.Path, number: int, num_images: int) -> Segment:
    """What a manifest says of a segment that is on disk and has no row removed."""
    name = f"{number:06d}"
    digests = [
        files.sha256(path) if path.exists() else None
        for path in (parent / name / DIGESTS, parent / name / DEPTH_DIGESTS)
    ]
    # Depths that come with the pictures are a depth camera's.
    return Segment(name, num_images, (), "measured" if digests[1] else "", *digests)


def _identities(frames: PosedFrames) -> dict[str, object]:
    """The fields of `EncodedImages` that no network makes."""
    names = ("names", "world_from_cam", "intrinsics", "image_sizes")
    return {name: getattr(frames, name) for name in names}

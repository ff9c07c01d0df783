"""The database side of a scene: what is computed once, before the first query."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Hashable, Iterable, Sequence

import jax
import jaxlie
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Float64, Int, PyTree

from jaxreloc.compilation.kept_programs import Program
from jaxreloc.formats.common.geodesy import GeographicOrigin, in_map
from jaxreloc.formats.frames import Chain
from jaxreloc.localization.map import map_files
from jaxreloc.localization.map.encoding import CellDepth, EncodedImages
from jaxreloc.localization.map.large.catalogue import read_catalogue
from jaxreloc.localization.map.large.kept_index import index_generation, open_index
from jaxreloc.localization.map.map_manifest import Manifest, MapScale
from jaxreloc.localization.map.pictures import Pictures
from jaxreloc.localization.neighbors.retrieval import ExactIndex, Index, near
from jaxreloc.localization.networks.loading import load_network
from jaxreloc.localization.networks.pose_network import PoseNetwork
from jaxreloc.usage import UsageError

_as_se3 = Program(jaxlie.SE3.from_matrix, "as_se3")


@dataclasses.dataclass(frozen=True)
class SceneMap:
    """Poses, retrieval descriptors and pair features of M database images.

    Single precision suffices for poses near the origin only, which geographic coordinates are not:
    all computation is in a frame of the same axes around the cameras, `local`.
    """

    network: PoseNetwork  # made the descriptors and the features
    names: tuple[str, ...]
    world_from_db: Float64[np.ndarray, "M 4 4"]
    origin: Float64[np.ndarray, "3"]  # of the local frame, in the world
    local_from_db: jaxlie.SE3  # batch axis M
    intrinsics: Float[np.ndarray, "M 3 3"]  # of the stored image
    image_sizes: Int[np.ndarray, "M 2"]  # width, height
    network_intrinsics: Float[np.ndarray, "M 3 3"]  # of the network's input image
    descriptor_rows: Sequence[np.ndarray] | Float[np.ndarray, "M dim"]  # L2-normalised
    features: Sequence["Rows"]  # leaves of what the pair head takes
    pictures: Pictures
    depth: CellDepth | None = None  # of the cells that the network matches
    geographic_origin: GeographicOrigin | None = None  # where the axes are East, North, Up
    scale: MapScale | None = None  # None: the poses came with their unit
    kept_index: Index | None = None  # of all its images, on disk

    def __len__(self) -> int:
        return len(self.names)

    @functools.cached_property
    def descriptors(self) -> Float[Array, "M dim"]:
        """Of all images, in memory once they are asked for."""
        return jax.device_put(np.asarray(self.descriptor_rows).astype(np.float32))

    @functools.cached_property
    def index(self) -> Index:
        """Finds the most similar images: the index on disk, else the exact one."""
        return self.kept_index or ExactIndex(self.descriptors)

    def some_images(self, at_most: int) -> Int[np.ndarray, "n"]:
        """Evenly chosen ones."""
        return np.unique(np.linspace(0, len(self) - 1, min(len(self), at_most)).astype(int))

    @classmethod
    def from_images(
        cls,
        network: PoseNetwork,
        *parts: EncodedImages,
        geographic_origin: GeographicOrigin | None = None,
        scale: MapScale | None = None,
        kept_index: Index | None = None,
    ) -> "SceneMap":
        """A map of all the images of `parts`."""
        world_from_cam = np.concatenate([part.world_from_cam for part in parts])
        origin = np.median(world_from_cam[:, :3, 3], axis=0)
        local = world_from_cam.copy()
        local[:, :3, 3] -= origin
        return cls(
            network=network,
            names=tuple(name for part in parts for name in part.names),
            world_from_db=world_from_cam,
            origin=origin,
            local_from_db=_as_se3(local.astype(np.float32)),
            intrinsics=np.concatenate([part.intrinsics for part in parts]),
            image_sizes=np.concatenate([part.image_sizes for part in parts]),
            network_intrinsics=np.concatenate([part.network_intrinsics for part in parts]),
            descriptor_rows=parts[0].descriptors
            if len(parts) == 1
            else np.concatenate([part.descriptors for part in parts]),
            features=[
                Rows(leaves) for leaves in zip(*(part.features for part in parts), strict=True)
            ],
            pictures=Pictures(Chain(tuple(part.pictures for part in parts))),
            depth=_joined_depth(parts),
            geographic_origin=geographic_origin,
            scale=scale,
            kept_index=kept_index,
        )

    @classmethod
    def open(cls, folder: str | os.PathLike) -> "SceneMap":
        """A map on disk; pair features stay there, mapped into memory.

        Raises:
          UsageError: it is no map, of another version, or damaged.
        """
        folder = pathlib.Path(folder).expanduser()

        def read(
            manifest: Manifest,
        ) -> tuple[Manifest, PoseNetwork, list[EncodedImages], Index | None]:
            network = load_network(map_files.network_file(folder, manifest))
            listed = read_catalogue(folder, manifest)
            parts = map_files.read_parts(folder, manifest) if listed is None else [listed]
            if listed is None:
                _check_arrays(network, parts, str(folder))
            return manifest, network, parts, open_index(folder, manifest)

        manifest, network, parts, index = map_files.read_between_changes(folder, read)
        return cls.from_images(
            network,
            *parts,
            geographic_origin=manifest.geographic_origin,
            scale=manifest.scale,
            kept_index=index,
        )

    @staticmethod
    def create(
        folder: str | os.PathLike,
        network: PoseNetwork,
        parts: Iterable[EncodedImages],
        geographic_origin: GeographicOrigin | None = None,
        scale: MapScale | None = None,
    ) -> None:
        """Writes a new map of all the images of `parts`, which appears whole or not at all.

        Raises:
          UsageError: the folder exists or cannot be written.
        """
        map_files.create(pathlib.Path(folder), network.save, parts, geographic_origin, scale)

    @staticmethod
    def generation(folder: str | os.PathLike) -> Hashable | None:
        """Another value after the map on disk was changed; None where there is no map."""
        folder = pathlib.Path(folder).expanduser()
        manifest = map_files.generation(folder)
        return None if manifest is None else (manifest, index_generation(folder))

    def images_near(self, place: Sequence[float]) -> Bool[np.ndarray, "M"]:
        """Which images were taken within a radius.

        Args:
          place: x, y, z and the radius, in the axes and the unit of the map.

        Raises:
          UsageError: none was, or these are no such numbers.
        """
        centre, radius = np.asarray(place[:3], np.float64), float(place[3])
        if not (np.isfinite(place).all() and radius > 0):
            raise UsageError(f"near is {tuple(place)}; give x, y, z and a radius over 0")
        centres = self.world_from_db[:, :3, 3]
        allowed = near(centres, centre, radius)
        if not allowed.any():
            nearest = np.linalg.norm(centres - centre, axis=1).min()
            raise UsageError(
                f"no image of the map was taken within {radius:g} of "
                f"{', '.join(f'{x:g}' for x in centre)} (near); the next one is {nearest:.3g} "
                "away, enlarge the radius"
            )
        return allowed

    def near_gps(self, place: Sequence[float]) -> tuple[float, float, float, float]:
        """What `images_near` takes, at the cameras' median height.

        Args:
          place: latitude and longitude in degrees (WGS 84), and the radius in metres.

        Raises:
          UsageError: the map has no geographic origin, or there is no such place.
        """
        latitude, longitude, radius = (float(x) for x in place)
        if self.geographic_origin is None:
            raise UsageError(
                "the map has no geographic origin, which a place by GPS needs; give the place in "
                "the axes of the map (near), or build it with --geographic_origin=LAT,LON,HEIGHT"
            )
        height = self.geographic_origin.height_m
        ground = GeographicOrigin(latitude, longitude, height).check("near_gps")
        x, y, _ = in_map(ground, self.geographic_origin).tolist()
        return x, y, float(np.median(self.world_from_db[:, 2, 3])), radius

    def in_world(self, local: Float[np.ndarray, "4 4"]) -> Float64[np.ndarray, "4 4"]:
        """A pose of the local frame in the world."""
        pose = np.array(local, np.float64)
        pose[:3, 3] += self.origin
        return pose

    def neighbor_depth(
        self, neighbors: Int[np.ndarray, "N"]
    ) -> Float32[np.ndarray, "N h w 2"] | None:
        """Inverse depths and deviations of the cells of `neighbors`; None if the map has none."""
        return None if self.depth is None else self.depth.take(neighbors)

    @property
    def feature_format(self) -> jax.tree_util.PyTreeDef:
        """Of `PoseNetwork.feature_formats`."""
        return _format_of(self.network, len(self.features))

    def neighbor_features(
        self, neighbors: Int[np.ndarray, "N"]
    ) -> tuple[PyTree, Float[np.ndarray, "N 3 3"]]:
        """Features and intrinsics of the database images `neighbors`, leading axis N."""
        leaves = [rows.take(neighbors) for rows in self.features]
        features = jax.tree.unflatten(self.feature_format, leaves)
        return features, self.network_intrinsics[neighbors]

    def similarity(
        self, rows: Int[np.ndarray, "N"], query_features: PyTree
    ) -> Float32[np.ndarray, "N"]:
        """How much of a query (leading axis 1) some images show; the network is a `Matcher`."""
        features, _ = self.neighbor_features(rows)
        return np.asarray(self.network.similarity(features, query_features))


def _format_of(network: PoseNetwork, num_leaves: int) -> jax.tree_util.PyTreeDef | None:
    formats = network.feature_formats
    return next((each for each in formats if each.num_leaves == num_leaves), None)


def _joined_depth(parts: Sequence[EncodedImages]) -> CellDepth | None:
    """Of all images; those of a part without depth are unknown."""
    shapes = _depth_shapes(parts)
    if len(shapes) != 1:
        return None
    unknown = np.zeros((1, *shapes.pop()), np.uint16)
    depths = [
        part.depth
        or CellDepth(np.repeat(unknown, len(part), axis=0), np.ones(len(part), np.float32))
        for part in parts
    ]
    return CellDepth(
        Chain(tuple(depth.codes for depth in depths)),
        np.concatenate([depth.unit for depth in depths]),
        measured=all(depth.measured for depth in depths),
    )


def _depth_shapes(parts: Sequence[EncodedImages]) -> set[tuple[int, int]]:
    return {part.depth.codes[0].shape[:2] for part in parts if part.depth is not None}


def _check_arrays(network: PoseNetwork, parts: Sequence[EncodedImages], source: str) -> None:
    """Raises UsageError unless the parts hold what a network makes, and the same kinds of it."""
    row_shapes = [
        [x[0].shape for x in (part.descriptors, part.network_intrinsics, *part.features)]
        for part in parts
    ]
    is_known = _format_of(network, len(parts[0].features)) is not None
    if len(_depth_shapes(parts)) > 1:
        raise UsageError(f"{source}: depths differ in shape; build the map again")
    if row_shapes != [row_shapes[0]] * len(parts) or not is_known:
        raise UsageError(f"{source}: arrays are missing or differ in shape; build the map again")
    for part in parts:
        if not (np.isfinite(part.descriptors).all() and np.isfinite(part.network_intrinsics).all()):
            raise UsageError(f"{source}: has NaN or infinite values; build the map again")


class Rows:
    """Several arrays as one, row after row; only the rows asked for are read."""

    def __init__(self, parts: Sequence[np.ndarray]):
        self._parts = parts
        self._starts = np.cumsum([0, *(len(part) for part in parts)])

    def take(self, index: Int[np.ndarray, "N"]) -> np.ndarray:
        """The rows at `index`, in that order."""
        part = np.searchsorted(self._starts, index, side="right") - 1
        row = index - self._starts[part]
        return np.stack([self._parts[p][r] for p, r in zip(part, row, strict=True)])

"""`Localizer`: one image in, one camera pose out."""

import concurrent.futures
import dataclasses
import functools
import os
import pathlib
import time
from collections.abc import Sequence
from typing import Protocol

import jax
import jaxlie
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree, UInt8

from jaxreloc.formats.images import decode_image, read_image
from jaxreloc.geometry.fusion import FusedPose, FusionConfig
from jaxreloc.localization.cameras import AssumedCamera, check_intrinsics
from jaxreloc.localization.clock import StageClock
from jaxreloc.localization.relations import PairRelations, fuse_relations
from jaxreloc.localization.retrieval import (
    RANKED_PER_NEIGHBOR,
    ExactIndex,
    Index,
    default_baseline,
    diverse,
)
from jaxreloc.localization.scene_map import SceneMap

BATCH_SIZE = 16


@dataclasses.dataclass(frozen=True)
class Query:
    """An image to localize with its retrieved database images."""

    image: UInt8[np.ndarray, "h w 3"]  # as given
    intrinsics: Float[np.ndarray, "3 3"]  # of `image`
    network_intrinsics: Float[np.ndarray, "1 3 3"]  # of the network's input
    features: PyTree  # of the pair head, leading axis 1
    neighbors: Int[np.ndarray, "N"]  # database indices, most similar first, then candidates
    is_neighbor: Bool[np.ndarray, "N"]  # false on padding
    clock: StageClock


class Relator(Protocol):
    """Predicts the relative pose of the query to each of its neighbours."""

    def __call__(self, query: Query) -> PairRelations:
        """With batch axis N, padding included."""


@dataclasses.dataclass(frozen=True)
class Localization:
    """Where the query camera is, and how well that is known.

    `world_from_query` is rigid, in OpenCV camera axes and the database's metres. It means
    nothing where `success` is false.
    """

    world_from_query: Float[np.ndarray, "4 4"]
    success: bool
    confidence: float  # from 0 to 1, 0 where nothing could be fused; see `relations`
    location_inliers: Bool[np.ndarray, "N"]
    rotation_inliers: Bool[np.ndarray, "N"]
    position_covariance: Float[np.ndarray, "3 3"]  # world axes, square metres
    rotation_std: float  # radians
    neighbors: Int[np.ndarray, "N"]
    stage_ms: dict[str, float]


class Localizer:
    """Retrieves, relates and fuses against one scene map.

    Whatever the size of an image, it is brought to one shape, so that everything compiles once, in
    `warm_up` or in the first query. A localizer keeps nothing of a query and may be called from
    several threads.

    Args:
      scene_map: the database, with the network that made its features.
      num_neighbors: N, the retrieved images a query.
      fusion_method: "robust" or "paper".
      min_baseline: the distance that neighbours keep from each other, in the unit of the map's
        poses (see `retrieval.diverse`); None takes `retrieval.default_baseline` of the map, and 0
        the most similar images.
      index: finds the most similar images; None compares all of them.
    """

    def __init__(
        self,
        scene_map: SceneMap,
        *,
        num_neighbors: int = 5,
        fusion_method: str = "robust",
        min_baseline: float | None = None,
        index: Index | None = None,
    ):
        self.scene_map = scene_map
        self.network = scene_map.network
        self.num_neighbors = num_neighbors
        self.index = ExactIndex(scene_map.descriptors) if index is None else index
        self._centres = np.asarray(scene_map.world_from_db.translation())
        self.min_baseline = (
            default_baseline(self._centres) if min_baseline is None else min_baseline
        )
        self.assumed_camera = AssumedCamera(scene_map)
        self._fuse = functools.partial(
            _fuse_neighbors, method=fusion_method, config=self.network.fusion_config
        )

    def __call__(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        intrinsics: Float[np.ndarray, "3 3"] | None = None,
        candidates: Int[np.ndarray, "C"] | None = None,
    ) -> Localization:
        """Localizes one image by the network: one backbone pass and a head pass a neighbour.

        Args:
          image: RGB, of any size.
          intrinsics: of that image, in pixels; (0, 0) is the centre of the top-left pixel. None
            takes the image to be of a camera like the map's, with a warning.
          candidates: database images to consider besides the retrieved ones, at most
            `num_neighbors`, such as those that agreed on the frame before in a video. Not None
            doubles the number of head passes.

        Raises:
          ValueError: it is no such image, or these are not its intrinsics.
        """
        return self.locate(self.retrieve(image, intrinsics, candidates), self.relate)

    def localize_all(
        self,
        images: Sequence[UInt8[np.ndarray, "h w 3"]],
        intrinsics: Sequence[Float[np.ndarray, "3 3"]] | None = None,
        *,
        batch_size: int = BATCH_SIZE,
    ) -> list[Localization]:
        """Localizes any number of images, of any sizes, in batches of one shape.

        Images are taken from their sequence a batch at a time, so that it may read them then.
        The answers are those of calling the localizer on each image; `stage_ms` is an image's
        share of its batch.

        Args:
          intrinsics: of each image; None as in `__call__`.
        """
        intrinsics = [None] * len(images) if intrinsics is None else intrinsics
        if len(images) != len(intrinsics):
            raise ValueError(f"{len(images)} images, but {len(intrinsics)} intrinsics")
        found = []
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
            for start in range(0, len(images), batch_size):
                batch = range(start, min(start + batch_size, len(images)))
                found += self._localize_batch(
                    [images[i] for i in batch], [intrinsics[i] for i in batch], batch_size, threads
                )
        return found

    def warm_up(self, *, candidates: bool = False, batch_size: int | None = None) -> float:
        """Compiles what a query needs, by localizing a thumbnail of the map.

        Args:
          candidates: for queries with candidates, as a video's are.
          batch_size: for `localize_all` with that batch size.

        Returns:
          The latency then: the milliseconds of a query, in a batch if `batch_size` is given.
        """
        image = _decode(self.scene_map.thumbnails[0])
        height, width = image.shape[:2]
        intrinsics = np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1]])
        none = np.zeros(0, int) if candidates else None
        for _ in range(2):
            start = time.perf_counter()
            if batch_size is None:
                self(image, intrinsics, none)
            else:
                images, cameras = [image] * batch_size, [intrinsics] * batch_size
                self.localize_all(images, cameras, batch_size=batch_size)
            elapsed_ms = 1e3 * (time.perf_counter() - start)
        return elapsed_ms / (batch_size or 1)

    def retrieve(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        intrinsics: Float[np.ndarray, "3 3"] | None = None,
        candidates: Int[np.ndarray, "C"] | None = None,
    ) -> Query:
        """Encodes the image and finds its neighbours; see `__call__`."""
        clock = StageClock()
        with clock.stage("prepare"):
            intrinsics = self._checked_intrinsics(image, intrinsics)
            network_image, network_intrinsics = self.network.prepare(image, intrinsics)
        with clock.stage("backbone"):
            features = self.network.encode(network_image[None])
            descriptor = jax.block_until_ready(self.network.descriptor(features))
        with clock.stage("retrieval"):
            neighbors = self._neighbors(descriptor)[0]
            is_neighbor = np.ones(len(neighbors), bool)
            if candidates is not None:
                neighbors, is_neighbor = _with_candidates(neighbors, candidates)
        return Query(
            image=image,
            intrinsics=intrinsics,
            network_intrinsics=network_intrinsics[None].astype(np.float32),
            features=features,
            neighbors=neighbors,
            is_neighbor=is_neighbor,
            clock=clock,
        )

    def relate(self, query: Query) -> PairRelations:
        """The network's answer for each neighbour."""
        return self.network.relate(
            *self.scene_map.neighbor_features(query.neighbors),
            query.features,
            query.network_intrinsics,
        )

    def copy_nearest(self, query: Query) -> Localization:
        """The most similar image's pose, as it stands: the baseline of pure retrieval."""
        inliers = np.arange(len(query.neighbors)) == 0
        return Localization(
            world_from_query=_pose_matrix(self.scene_map.world_from_db, query.neighbors[0]),
            success=True,
            confidence=0.0,
            location_inliers=inliers,
            rotation_inliers=inliers,
            position_covariance=np.full((3, 3), np.inf),
            rotation_std=np.inf,
            neighbors=query.neighbors,
            stage_ms=query.clock.stage_ms,
        )

    def locate(self, query: Query, relator: Relator) -> Localization:
        """Relates the query to its neighbours by `relator` and fuses the relative poses."""
        clock = query.clock.copy()
        with clock.stage("relate"):
            related = jax.block_until_ready(relator(query))
        with clock.stage("fusion"):
            (found,) = self._fuse_related([query], [related])
        return dataclasses.replace(found, stage_ms=clock.stage_ms)

    def _localize_batch(
        self,
        images: Sequence[UInt8[np.ndarray, "h w 3"]],
        intrinsics: Sequence[Float[np.ndarray, "3 3"] | None],
        batch_size: int,
        threads: concurrent.futures.Executor,
    ) -> list[Localization]:
        """Up to `batch_size` images, padded to as many with the last one."""
        clock, padding = StageClock(), batch_size - len(images)
        with clock.stage("prepare"):
            intrinsics = list(map(self._checked_intrinsics, images, intrinsics))
            prepared = list(map(self.network.prepare, images, intrinsics))
            network_images, network_intrinsics = zip(*prepared, *[prepared[-1]] * padding)
        with clock.stage("backbone"):
            features = self.network.encode(np.stack(network_images))
            descriptors = jax.block_until_ready(self.network.descriptor(features))
            features = _unstack(features, batch_size)
        with clock.stage("retrieval"):
            neighbors = self._neighbors(descriptors)
        queries = [
            Query(
                image=images[i],
                intrinsics=intrinsics[i],
                network_intrinsics=network_intrinsics[i][None].astype(np.float32),
                features=features[i],
                neighbors=neighbors[i],
                is_neighbor=np.ones(len(neighbors[i]), bool),
                clock=clock,
            )
            for i in range(len(images))
        ]
        with clock.stage("relate"):
            related = list(threads.map(lambda x: jax.block_until_ready(self.relate(x)), queries))
        with clock.stage("fusion"):
            found = self._fuse_related(
                queries + [queries[-1]] * padding, related + [related[-1]] * padding
            )
        stage_ms = {stage: ms / len(images) for stage, ms in clock.stage_ms.items()}
        return [dataclasses.replace(x, stage_ms=stage_ms) for x in found[: len(images)]]

    def _checked_intrinsics(
        self, image: UInt8[np.ndarray, "h w 3"], intrinsics: Float[np.ndarray, "3 3"] | None
    ) -> Float[np.ndarray, "3 3"]:
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise ValueError(
                f"an image is RGB, uint8 of shape [h, w, 3], not {image.dtype} of {image.shape}"
            )
        height, width = image.shape[:2]
        if intrinsics is None:
            return self.assumed_camera.intrinsics(width, height)
        check_intrinsics(intrinsics, width, height)
        return np.asarray(intrinsics, np.float64)

    def _neighbors(self, descriptors: Float[Array, "B dim"]) -> list[Int[np.ndarray, "N"]]:
        """The neighbours of each query."""
        count = self.num_neighbors * (RANKED_PER_NEIGHBOR if self.min_baseline else 1)
        rankings, _ = self.index.search(descriptors, count)
        return [
            diverse(ranking, self._centres, self.num_neighbors, self.min_baseline)
            for ranking in rankings
        ]

    def _fuse_related(
        self, queries: Sequence[Query], related: Sequence[PairRelations]
    ) -> list[Localization]:
        """Fuses the relative poses of each query; padding is left out of the answers."""
        world_from_query, fused, confidence = jax.device_get(
            self._fuse(
                self.scene_map.world_from_db,
                np.stack([query.neighbors for query in queries]),
                jax.tree.map(lambda *x: np.stack([np.asarray(y) for y in x]), *related),
                np.stack([query.is_neighbor for query in queries]),
            )
        )
        return [
            Localization(
                world_from_query=world_from_query[i].astype(np.float64),
                success=bool(fused.success[i]),
                confidence=float(confidence[i]),
                location_inliers=fused.location_inliers[i][query.is_neighbor],
                rotation_inliers=fused.rotation_inliers[i][query.is_neighbor],
                position_covariance=fused.position_covariance[i],
                rotation_std=float(fused.rotation_std[i]),
                neighbors=query.neighbors[query.is_neighbor],
                stage_ms=query.clock.stage_ms,
            )
            for i, query in enumerate(queries)
        ]


def _with_candidates(
    retrieved: Int[np.ndarray, "N"], candidates: Int[np.ndarray, "C"]
) -> tuple[Int[np.ndarray, "2*N"], Bool[np.ndarray, "2*N"]]:
    """The retrieved images and the new ones of the candidates, padded to a fixed length."""
    new = np.setdiff1d(candidates, retrieved)[: len(retrieved)]
    padding = np.zeros(len(retrieved) - len(new), retrieved.dtype)
    neighbors = np.concatenate([retrieved, new.astype(retrieved.dtype), padding])
    return neighbors, np.arange(len(neighbors)) < len(retrieved) + len(new)


def _pose_matrix(poses: jaxlie.SE3, i: int) -> Float[np.ndarray, "4 4"]:
    return np.asarray(jaxlie.SE3(poses.wxyz_xyz[i]).as_matrix(), np.float64)


def _decode(jpeg: bytes | pathlib.Path) -> UInt8[np.ndarray, "h w 3"]:
    return decode_image(jpeg, "thumbnail") if isinstance(jpeg, bytes) else read_image(jpeg)


@functools.partial(jax.jit, static_argnums=1)
def _unstack(tree: PyTree, count: int) -> list[PyTree]:
    """Element by element of the leading axis, which stays as an axis of 1."""
    return [jax.tree.map(lambda x: x[i : i + 1], tree) for i in range(count)]


@functools.partial(jax.jit, static_argnames=("method", "config"))
def _fuse_neighbors(
    world_from_db: jaxlie.SE3,
    neighbors: Int[Array, "*batch N"],
    relations: PairRelations,
    is_neighbor: Bool[Array, "*batch N"],
    method: str,
    config: FusionConfig,
) -> tuple[Float[Array, "*batch 4 4"], FusedPose, Float[Array, "*batch"]]:
    world_from_neighbors = jax.tree.map(lambda x: x[neighbors], world_from_db)
    fused, confidence = fuse_relations(
        world_from_neighbors, relations, is_neighbor=is_neighbor, method=method, config=config
    )
    return fused.world_from_query.as_matrix(), fused, confidence

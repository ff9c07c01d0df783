"""`Localizer`: one image in, one camera pose out."""

import concurrent.futures
import dataclasses
import functools
import itertools
import os
import pathlib
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import jax
import jaxlie
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree, UInt8

from jaxreloc.formats.images import decode_image, read_image
from jaxreloc.geometry.fusion import FusedPose, FusionConfig
from jaxreloc.localization.cameras import AssumedCamera, check_intrinsics
from jaxreloc.localization.clock import StageClock
from jaxreloc.localization.quarter_turns import MIN_CONFIDENCE, QUARTER_TURNS, View, turned_views
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

    view: View
    network_intrinsics: Float[np.ndarray, "1 3 3"]  # of the network's input
    features: PyTree  # of the pair head, leading axis 1
    neighbors: Int[np.ndarray, "N"]  # database indices, most similar first, then candidates
    is_neighbor: Bool[np.ndarray, "N"]  # false on padding
    candidates: Int[np.ndarray, "C"] | None  # as given
    clock: StageClock

    @property
    def image(self) -> UInt8[np.ndarray, "h w 3"]:
        """At full size."""
        return self.view.image

    @property
    def intrinsics(self) -> Float[np.ndarray, "3 3"]:
        """Of `image`."""
        return self.view.intrinsics


class Relator(Protocol):
    """Predicts the relative pose of the query to each of its neighbours."""

    def __call__(self, query: Query) -> PairRelations:
        """With batch axis N, padding included."""


@dataclasses.dataclass(frozen=True)
class Localization:
    """Where the query camera is, and how well that is known.

    `world_from_query` is rigid, in OpenCV camera axes and the database's metres. It means
    nothing where `success` is false. It is the pose of the picture as given, also where
    `turn_deg` says that the network saw it turned (counterclockwise).
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
    refused: bool = False  # no success, by a network that knows how likely its poses are right
    turn_deg: int = 0  # 0, 90, 180 or 270


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
      quarter_turns: a query that is refused is looked at again, turned by 90, 180 and 270 degrees,
        retrieval included, and the most confident answer is taken if it is sure enough
        (`quarter_turns.MIN_CONFIDENCE`, which is more than for the picture as given).
        The network hardly matches what is turned by 60 degrees or more, as in a picture of a phone
        on its side whose file does not say so. A refused query takes four times as long. Networks
        that do not know how likely a pose is right refuse nothing, and see no picture turned.
    """

    def __init__(
        self,
        scene_map: SceneMap,
        *,
        num_neighbors: int = 5,
        fusion_method: str = "robust",
        min_baseline: float | None = None,
        index: Index | None = None,
        quarter_turns: bool = True,
    ):
        self.scene_map = scene_map
        self.network = scene_map.network
        self.num_neighbors = num_neighbors
        self.quarter_turns = quarter_turns
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

        A refused image takes as much again for each quarter turn.

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
        return self.localize(self.retrieve(image, intrinsics, candidates))

    def localize_all(
        self,
        images: Sequence[UInt8[np.ndarray, "h w 3"]],
        intrinsics: Sequence[Float[np.ndarray, "3 3"]] | None = None,
        *,
        batch_size: int = BATCH_SIZE,
    ) -> list[Localization]:
        """Localizes any number of images, of any sizes, in batches of one shape.

        Images are taken from their sequence a batch at a time, so that it may read them then;
        refused ones are taken once more. The answers are those of calling the localizer on each
        image; `stage_ms` is an image's share of its batches.

        Args:
          intrinsics: of each image; None as in `__call__`.
        """
        intrinsics = [None] * len(images) if intrinsics is None else intrinsics
        if len(images) != len(intrinsics):
            raise ValueError(f"{len(images)} images, but {len(intrinsics)} intrinsics")

        def given(i: int) -> View:
            return self._view(images[i], intrinsics[i])

        found = list(self._locate_batches(map(given, range(len(images))), batch_size))
        again = [i for i, x in enumerate(found) if x.refused and self.quarter_turns]
        turned = (view for i in again for view in turned_views(given(i)))
        located = self._locate_batches(turned, batch_size)
        for i, *answers in zip(again, *[located] * len(QUARTER_TURNS)):
            found[i] = _best_of_turns(found[i], answers)
        return found

    def warm_up(self, *, candidates: bool = False, batch_size: int | None = None) -> float:
        """Compiles what a query needs, by localizing a thumbnail of the map.

        Args:
          candidates: for queries with candidates, as a video's are.
          batch_size: for `localize_all` with that batch size.

        Returns:
          The latency then: the milliseconds of a query that is not refused, in a batch if
          `batch_size` is given.
        """
        image = _decode(self.scene_map.thumbnails[0])
        height, width = image.shape[:2]
        intrinsics = np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1]])
        view, none = View(image, intrinsics), np.zeros(0, int) if candidates else None
        for _ in range(2):
            start = time.perf_counter()
            if batch_size is None:
                self.locate(self._retrieve(view, none), self.relate)
            else:
                list(self._locate_batches([view] * batch_size, batch_size))
            elapsed_ms = 1e3 * (time.perf_counter() - start)
        return elapsed_ms / (batch_size or 1)

    def retrieve(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        intrinsics: Float[np.ndarray, "3 3"] | None = None,
        candidates: Int[np.ndarray, "C"] | None = None,
    ) -> Query:
        """Encodes the image and finds its neighbours; see `__call__`."""
        return self._retrieve(self._view(image, intrinsics), candidates)

    def _retrieve(self, view: View, candidates: Int[np.ndarray, "C"] | None = None) -> Query:
        clock = StageClock()
        with clock.stage("prepare"):
            network_image, network_intrinsics = self.network.prepare(view.image, view.intrinsics)
        with clock.stage("backbone"):
            features = self.network.encode(network_image[None])
            descriptor = jax.block_until_ready(self.network.descriptor(features))
        with clock.stage("retrieval"):
            neighbors = self._neighbors(descriptor)[0]
            is_neighbor = np.ones(len(neighbors), bool)
            if candidates is not None:
                neighbors, is_neighbor = _with_candidates(neighbors, candidates)
        return Query(
            view=view,
            network_intrinsics=network_intrinsics[None].astype(np.float32),
            features=features,
            neighbors=neighbors,
            is_neighbor=is_neighbor,
            candidates=candidates,
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

    def localize(self, query: Query) -> Localization:
        """The network's answer to a query as given; if refused, to its quarter turns."""
        found = self.locate(query, self.relate)
        if not (found.refused and self.quarter_turns):
            return found
        turned = [self._retrieve(view, query.candidates) for view in turned_views(query.view)]
        return _best_of_turns(found, [self.locate(x, self.relate) for x in turned])

    def locate(self, query: Query, relator: Relator) -> Localization:
        """Relates the query to its neighbours by `relator` and fuses the relative poses."""
        clock = query.clock.copy()
        with clock.stage("relate"):
            related = jax.block_until_ready(relator(query))
        with clock.stage("fusion"):
            (found,) = self._fuse_related([query], [related])
        return dataclasses.replace(found, stage_ms=clock.stage_ms)

    def _locate_batches(self, views: Iterable[View], batch_size: int) -> Iterator[Localization]:
        views = iter(views)
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
            while batch := list(itertools.islice(views, batch_size)):
                yield from self._locate_batch(batch, batch_size, threads)

    def _locate_batch(
        self, views: Sequence[View], batch_size: int, threads: concurrent.futures.Executor
    ) -> list[Localization]:
        """Up to `batch_size` views, padded to as many with the last one."""
        clock, padding = StageClock(), batch_size - len(views)
        with clock.stage("prepare"):
            prepared = [self.network.prepare(view.image, view.intrinsics) for view in views]
            network_images, network_intrinsics = zip(*prepared, *[prepared[-1]] * padding)
        with clock.stage("backbone"):
            features = self.network.encode(np.stack(network_images))
            descriptors = jax.block_until_ready(self.network.descriptor(features))
            features = _unstack(features, batch_size)
        with clock.stage("retrieval"):
            neighbors = self._neighbors(descriptors)
        queries = [
            Query(
                view=view,
                network_intrinsics=network_intrinsics[i][None].astype(np.float32),
                features=features[i],
                neighbors=neighbors[i],
                is_neighbor=np.ones(len(neighbors[i]), bool),
                candidates=None,
                clock=clock,
            )
            for i, view in enumerate(views)
        ]
        with clock.stage("relate"):
            related = list(threads.map(lambda x: jax.block_until_ready(self.relate(x)), queries))
        with clock.stage("fusion"):
            found = self._fuse_related(
                queries + [queries[-1]] * padding, related + [related[-1]] * padding
            )
        stage_ms = {stage: ms / len(views) for stage, ms in clock.stage_ms.items()}
        return [dataclasses.replace(x, stage_ms=stage_ms) for x in found[: len(views)]]

    def _view(
        self, image: UInt8[np.ndarray, "h w 3"], intrinsics: Float[np.ndarray, "3 3"] | None
    ) -> View:
        """The image as given; see `__call__` for what is checked."""
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise ValueError(
                f"an image is RGB, uint8 of shape [h, w, 3], not {image.dtype} of {image.shape}"
            )
        height, width = image.shape[:2]
        if intrinsics is None:
            return View(image, self.assumed_camera.intrinsics(width, height))
        check_intrinsics(intrinsics, width, height)
        return View(image, np.asarray(intrinsics, np.float64))

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
                world_from_query=query.view.pose_as_given(world_from_query[i]),
                success=bool(fused.success[i]),
                confidence=float(confidence[i]),
                location_inliers=fused.location_inliers[i][query.is_neighbor],
                rotation_inliers=fused.rotation_inliers[i][query.is_neighbor],
                position_covariance=fused.position_covariance[i],
                rotation_std=float(fused.rotation_std[i]),
                neighbors=query.neighbors[query.is_neighbor],
                stage_ms=query.clock.stage_ms,
                refused=relations.confidence_model is not None and not fused.success[i],
                turn_deg=query.view.turn_deg,
            )
            for i, (query, relations) in enumerate(zip(queries, related, strict=True))
        ]


def _best_of_turns(refused: Localization, turned: Sequence[Localization]) -> Localization:
    """The most confident answer to the turned picture, if there is one; all tries' time."""
    answered = [x for x in turned if x.success and x.confidence > MIN_CONFIDENCE]
    best = max(answered, key=lambda x: x.confidence, default=refused)
    tries = (refused, *turned)
    stage_ms = {stage: sum(x.stage_ms[stage] for x in tries) for stage in refused.stage_ms}
    return dataclasses.replace(best, stage_ms=stage_ms)


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

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
import jax.numpy as jnp
import jaxlie
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int, PyTree, UInt8

from jaxreloc.geometry.fusion import FusedPose, FusionConfig
from jaxreloc.images import decode_image, read_image
from jaxreloc.localization.all_matches import (
    CONFIDENCE,
    MatchedPose,
    pose_from_all_matches,
)
from jaxreloc.localization.assumed_camera import AssumedCamera, check_intrinsics
from jaxreloc.localization.clock import StageClock
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.neighbors.reranking import RERANKED, most_alike
from jaxreloc.localization.neighbors.retrieval import (
    RANKED_PER_NEIGHBOR,
    ExactIndex,
    Index,
    default_baseline,
    diverse,
)
from jaxreloc.localization.networks.matcher import Matcher
from jaxreloc.localization.networks.relations import PairRelations, fuse_relations
from jaxreloc.localization.quarter_turns import MIN_CONFIDENCE, QUARTER_TURNS, View, turned_views
from jaxreloc.usage import check_choice

BATCH_SIZE = 16
METHODS = ("all_matches", "robust", "paper")
NUM_NEIGHBORS = {"all_matches": 10, "robust": 5, "paper": 5}
GIVEN_POSES = 2  # hypotheses that a caller may add
LAST_STAGES = ("relate", "fusion")
TOO_FEW = "too few matches agree"
# By which another focal length has to suit the matches better, to be told of.
MIN_FOCAL_GAIN = 0.05


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
    similarity: Float[np.ndarray, "N"] | None = None  # of the neighbours, where they are matched
    expected: Float[np.ndarray, "G 4 4"] | None = None  # world_from_query, as given

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

    `covariance` is of (rotation vector in world axes, centre): the true rotation is
    exp(w) R. `scale_source` says where the metres come from. With
    `focal_factor` other than 1, the matches suit that multiple of the given focal length better.
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
    covariance: Float[np.ndarray, "6 6"] | None = None
    scale_source: str = "database_poses"  # or "database_depth", "network"
    reason: str = ""  # why there is no pose
    focal_factor: float = 1.0
    evidence: Float[np.ndarray, "E"] | None = None  # what the confidence is made from


class Localizer:
    """Retrieves, relates and fuses against one scene map.

    Whatever the size of an image, it is brought to one shape, so that everything compiles once, in
    `warm_up` or in the first query. A localizer keeps nothing of a query and may be called from
    several threads.

    Args:
      scene_map: the database, with the network that made its features.
      num_neighbors: N, the images that a query is related to; None takes NUM_NEIGHBORS.
      method: of METHODS. "all_matches" makes one pose of all matches, and is the default for
        networks that match; "robust" and "paper" fuse the relative poses of pairs.
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
        num_neighbors: int | None = None,
        method: str | None = None,
        min_baseline: float | None = None,
        index: Index | None = None,
        quarter_turns: bool = True,
    ):
        self.scene_map = scene_map
        self.network = scene_map.network
        matches = isinstance(self.network, Matcher)
        self.method = method or ("all_matches" if matches else "robust")
        check_choice("method", self.method, METHODS if matches else METHODS[1:])
        self.num_neighbors = num_neighbors or NUM_NEIGHBORS[self.method]
        self.quarter_turns = quarter_turns
        self.index = ExactIndex(scene_map.descriptors) if index is None else index
        self._centres = np.asarray(scene_map.local_from_db.translation())
        self.min_baseline = (
            default_baseline(self._centres) if min_baseline is None else min_baseline
        )
        self.assumed_camera = AssumedCamera(scene_map)
        self._fuse = functools.partial(
            _fuse_neighbors,
            method="paper" if self.method == "paper" else "robust",
            config=self.network.fusion_config,
        )

    def __call__(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        intrinsics: Float[np.ndarray, "3 3"] | None = None,
        candidates: Int[np.ndarray, "C"] | None = None,
        expected: Float[np.ndarray, "G 4 4"] | None = None,
    ) -> Localization:
        """Localizes one image.

        A refused image takes as much again for each quarter turn.

        Args:
          image: RGB, of any size.
          intrinsics: of that image, in pixels; (0, 0) is the centre of the top-left pixel. None
            takes the image to be of a camera like the map's, with a warning.
          candidates: database images to consider besides the retrieved ones, at most
            `num_neighbors`, such as those that agreed on the frame before in a video. Where
            relative poses are fused, not None doubles their number.
          expected: up to GIVEN_POSES of world_from_query, such as the last one of a video: more
            hypotheses of "all_matches", which decide nothing by themselves.

        Raises:
          ValueError: it is no such image, or these are not its intrinsics.
        """
        return self.localize(self.retrieve(image, intrinsics, candidates, expected))

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
                self.locate(self._retrieve(view, none))
            else:
                list(self._locate_batches([view] * batch_size, batch_size))
            elapsed_ms = 1e3 * (time.perf_counter() - start)
        return elapsed_ms / (batch_size or 1)

    def retrieve(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        intrinsics: Float[np.ndarray, "3 3"] | None = None,
        candidates: Int[np.ndarray, "C"] | None = None,
        expected: Float[np.ndarray, "G 4 4"] | None = None,
    ) -> Query:
        """Encodes the image and finds its neighbours; see `__call__`."""
        return self._retrieve(self._view(image, intrinsics), candidates, expected)

    def _retrieve(
        self,
        view: View,
        candidates: Int[np.ndarray, "C"] | None = None,
        expected: Float[np.ndarray, "G 4 4"] | None = None,
    ) -> Query:
        clock = StageClock()
        with clock.stage("prepare"):
            network_image, network_intrinsics = self.network.prepare(view.image, view.intrinsics)
        with clock.stage("backbone"):
            features = self.network.encode(network_image[None])
            descriptor = jax.block_until_ready(self.network.descriptor(features))
        with clock.stage("retrieval"):
            ranking = self._rankings(descriptor)[0]
            neighbors, is_neighbor, similarity = self._choose(ranking, features, candidates)
        return Query(
            view=view,
            network_intrinsics=network_intrinsics[None].astype(np.float32),
            features=features,
            neighbors=neighbors,
            is_neighbor=is_neighbor,
            candidates=candidates,
            clock=clock,
            similarity=similarity,
            expected=expected,
        )

    def relate(self, query: Query) -> PairRelations:
        """The network's answer for each neighbour."""
        return self.network.relate(
            *self.scene_map.neighbor_features(query.neighbors),
            query.features,
            query.network_intrinsics,
        )

    def localize(self, query: Query) -> Localization:
        """The network's answer to a query as given; if refused, to its quarter turns."""
        found = self.locate(query)
        if not (found.refused and self.quarter_turns):
            return found
        turned = [self._retrieve(view, query.candidates) for view in turned_views(query.view)]
        return _best_of_turns(found, [self.locate(x) for x in turned])

    def locate(self, query: Query, relator: Relator | None = None) -> Localization:
        """The pose by the localizer's method, or by fusing the relative poses of `relator`."""
        clock = query.clock.copy()
        if relator is None and self.method == "all_matches":
            found = self._from_all_matches(query, clock)
        else:
            with clock.stage("relate"):
                related = jax.block_until_ready((relator or self.relate)(query))
            with clock.stage("fusion"):
                (found,) = self._fuse_related([query], [related])
        return dataclasses.replace(found, stage_ms=clock.stage_ms)

    def _from_all_matches(self, query: Query, clock: StageClock) -> Localization:
        neighbors, scene_map = query.neighbors, self.scene_map
        with clock.stage("relate"):
            matches = jax.block_until_ready(
                self.network.match_tracks(
                    *scene_map.neighbor_features(neighbors),
                    query.features,
                    query.network_intrinsics,
                    query.similarity,
                )
            )
        with clock.stage("fusion"):
            given, usable = self._given(query)
            found = jax.device_get(
                pose_from_all_matches(
                    jaxlie.SE3(scene_map.local_from_db.wxyz_xyz[neighbors]),
                    matches,
                    scene_map.neighbor_depth(neighbors),
                    jaxlie.SE3(given),
                    usable,
                )
            )
        return self._localization(query, found)

    def _given(self, query: Query) -> tuple[Float32[np.ndarray, "G 7"], Bool[np.ndarray, "G"]]:
        """The expected poses in local axes, padded to GIVEN_POSES."""
        given = np.zeros((GIVEN_POSES, 7), np.float32)
        given[:, 0] = 1.0
        expected = [] if query.expected is None else query.expected[:GIVEN_POSES]
        for i, pose in enumerate(expected):
            local = np.array(pose, np.float64)
            local[:3, :3] = local[:3, :3] @ query.view.view_from_given.T
            local[:3, 3] -= self.scene_map.origin
            given[i] = jaxlie.SE3.from_matrix(jnp.asarray(local, jnp.float32)).wxyz_xyz
        return given, np.arange(GIVEN_POSES) < len(expected)

    def _localization(self, query: Query, found: MatchedPose) -> Localization:
        pose = found.pose
        confidence = float(found.confidence)
        success = bool(pose.success) and confidence > CONFIDENCE.threshold
        local = np.asarray(pose.world_from_query.as_matrix(), np.float64)
        covariance = np.asarray(pose.covariance, np.float64)
        depth = self.scene_map.depth
        return Localization(
            world_from_query=query.view.pose_as_given(self.scene_map.in_world(local)),
            success=success,
            confidence=confidence,
            location_inliers=found.agreeing,
            rotation_inliers=found.agreeing,
            position_covariance=covariance[3:, 3:],
            rotation_std=float(np.sqrt(np.trace(covariance[:3, :3]) / 3)),
            neighbors=query.neighbors,
            stage_ms=query.clock.stage_ms,
            refused=not success,
            turn_deg=query.view.turn_deg,
            covariance=covariance,
            scale_source="database_depth" if depth and depth.measured else "database_poses",
            reason="" if success else _reason(found),
            evidence=found.evidence,
            focal_factor=float(pose.focal_factor) if pose.focal_gain > MIN_FOCAL_GAIN else 1.0,
        )

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
            rankings = self._rankings(descriptors)
            chosen = list(
                threads.map(self._choose, rankings, features, [None] * len(rankings))
            )
        queries = [
            Query(
                view=view,
                network_intrinsics=network_intrinsics[i][None].astype(np.float32),
                features=features[i],
                neighbors=chosen[i][0],
                is_neighbor=chosen[i][1],
                candidates=None,
                clock=clock,
                similarity=chosen[i][2],
            )
            for i, view in enumerate(views)
        ]
        if self.method == "all_matches":
            return self._locate_each(queries, threads)
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

    def _locate_each(
        self, queries: Sequence[Query], threads: concurrent.futures.Executor
    ) -> list[Localization]:
        """Queries of one batch, whose clock they share, by as many threads as there are."""
        start = time.perf_counter()
        found = list(threads.map(self.locate, queries))
        elapsed_ms = 1e3 * (time.perf_counter() - start)
        busy_ms = sum(sum(x.stage_ms[stage] for stage in LAST_STAGES) for x in found)
        share = elapsed_ms / max(busy_ms, 1e-9)  # threads wait for each other
        return [
            dataclasses.replace(
                x,
                stage_ms={
                    stage: ms * share if stage in LAST_STAGES else ms / len(queries)
                    for stage, ms in x.stage_ms.items()
                },
            )
            for x in found
        ]

    def _rankings(self, descriptors: Float[Array, "B dim"]) -> Int[np.ndarray, "B ranked"]:
        """Database images by falling similarity of the descriptor."""
        if self.method == "all_matches":
            count = max(RERANKED, self.num_neighbors)
        else:
            count = self.num_neighbors * (RANKED_PER_NEIGHBOR if self.min_baseline else 1)
        return self.index.search(descriptors, count)[0]

    def _choose(
        self,
        ranking: Int[np.ndarray, "ranked"],
        features: PyTree,
        candidates: Int[np.ndarray, "C"] | None,
    ) -> tuple[Int[np.ndarray, "N"], Bool[np.ndarray, "N"], Float[np.ndarray, "N"] | None]:
        """The neighbours from the ranking and the candidates, and their similarity if known."""
        if self.method == "all_matches":
            if candidates is not None:
                ranking = _replacing_last(ranking, candidates)
            neighbors, similarity = most_alike(
                self.scene_map, features, ranking, self.num_neighbors
            )
            return neighbors, np.ones(len(neighbors), bool), similarity
        neighbors = diverse(ranking, self._centres, self.num_neighbors, self.min_baseline)
        if candidates is None:
            return neighbors, np.ones(len(neighbors), bool), None
        return (*_with_candidates(neighbors, candidates), None)

    def _fuse_related(
        self, queries: Sequence[Query], related: Sequence[PairRelations]
    ) -> list[Localization]:
        """Fuses the relative poses of each query; padding is left out of the answers."""
        world_from_query, fused, confidence = jax.device_get(
            self._fuse(
                self.scene_map.local_from_db,
                np.stack([query.neighbors for query in queries]),
                jax.tree.map(lambda *x: np.stack([np.asarray(y) for y in x]), *related),
                np.stack([query.is_neighbor for query in queries]),
            )
        )
        return [
            Localization(
                world_from_query=query.view.pose_as_given(
                    self.scene_map.in_world(world_from_query[i])
                ),
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
                covariance=_block_covariance(fused.rotation_std[i], fused.position_covariance[i]),
                scale_source=_scale_source(fused.location_inliers[i]),
                reason="" if fused.success[i] else TOO_FEW,
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


def _replacing_last(
    ranking: Int[np.ndarray, "ranked"], candidates: Int[np.ndarray, "C"]
) -> Int[np.ndarray, "ranked"]:
    """The ranking with the new ones of the candidates in its last places."""
    new = np.setdiff1d(candidates, ranking)[: len(ranking) // 2]
    return np.concatenate([ranking[: len(ranking) - len(new)], new.astype(ranking.dtype)])


def _block_covariance(
    rotation_std: float, position_covariance: Float[np.ndarray, "3 3"]
) -> Float[np.ndarray, "6 6"]:
    """Of a fused pose, whose rotation and centre are estimated apart."""
    covariance = np.zeros((6, 6))
    covariance[:3, :3] = rotation_std**2 * np.eye(3)
    covariance[3:, 3:] = position_covariance
    return covariance


def _scale_source(inliers: Bool[np.ndarray, "N"]) -> str:
    """A network's length is all there is where one neighbour alone tells of the location."""
    return "network" if np.sum(inliers) == 1 else "database_poses"


def _reason(found: MatchedPose) -> str:
    """In words, why a query was refused."""
    if found.pose.focal_gain > MIN_FOCAL_GAIN and found.agreeing.any():
        return (
            "the matches contradict the focal length; "
            f"{float(found.pose.focal_factor):g} times it suits them better"
        )
    return TOO_FEW


def _decode(jpeg: bytes | pathlib.Path) -> UInt8[np.ndarray, "h w 3"]:
    return decode_image(jpeg, "thumbnail") if isinstance(jpeg, bytes) else read_image(jpeg)


@functools.partial(jax.jit, static_argnums=1)
def _unstack(tree: PyTree, count: int) -> list[PyTree]:
    """Element by element of the leading axis, which stays as an axis of 1."""
    return [jax.tree.map(lambda x: x[i : i + 1], tree) for i in range(count)]


@functools.partial(jax.jit, static_argnames=("method", "config"))
def _fuse_neighbors(
    local_from_db: jaxlie.SE3,
    neighbors: Int[Array, "*batch N"],
    relations: PairRelations,
    is_neighbor: Bool[Array, "*batch N"],
    method: str,
    config: FusionConfig,
) -> tuple[Float[Array, "*batch 4 4"], FusedPose, Float[Array, "*batch"]]:
    world_from_neighbors = jax.tree.map(lambda x: x[neighbors], local_from_db)
    fused, confidence = fuse_relations(
        world_from_neighbors, relations, is_neighbor=is_neighbor, method=method, config=config
    )
    return fused.world_from_query.as_matrix(), fused, confidence

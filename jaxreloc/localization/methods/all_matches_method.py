"""The method `all_matches`: one pose of all matches of the most similar neighbours."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import cv2
import jax
import jax.numpy as jnp
import jaxlie
import numpy as np
from jaxtyping import Bool, Float, Float32, Int, PyTree

from jaxreloc.compilation.kept_programs import Program
from jaxreloc.geometry.absolute_pose import AbsolutePoseConfig
from jaxreloc.localization.all_matches import (
    CONFIDENCE,
    MatchedPose,
    judge_of_refused,
    pose_from_all_matches,
    refined_by_pictures,
)
from jaxreloc.localization.assumed_camera import intrinsics_of_size
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.methods.method import Neighbors
from jaxreloc.localization.neighbors.reranking import RERANKED, most_alike
from jaxreloc.localization.networks.matcher import ContextMatcher
from jaxreloc.localization.patch_precision import Pictures, PrecisionConfig
from jaxreloc.localization.query_state import TOO_FEW, Localization, Query
from jaxreloc.models.matching import rays
from jaxreloc.models.matching.rays import RayTracks

CONTEXT_NEIGHBORS = 6  # with which a refused query is matched in context
GIVEN_POSES = 2  # hypotheses that a caller may add
# By which another focal length has to suit the matches better, to be told of.
MIN_FOCAL_GAIN = 0.05
FOCAL_TOLERANCE = 1.1  # to be as the map's
# To be the map's own camera, for pictures of one size. Of the focal lengths that are found in
# validation rooms, 95% are off by 1.3% or less.
OWN_CAMERA = 1.02

_as_matrix = Program(jaxlie.SE3.as_matrix, "as_matrix")


@dataclasses.dataclass(frozen=True)
class Mode:
    """How much work goes into a query; without `precision` its picture is not looked at again.

    Attributes:
      context: a query is matched again in context where the network can: if it is "refused",
        "always", or "never".
    """

    num_neighbors: int
    pose: AbsolutePoseConfig = AbsolutePoseConfig()
    precision: PrecisionConfig | None = PrecisionConfig()
    context: Literal["never", "refused", "always"] = "refused"

    def of_neighbors(self, count: int | None) -> "Mode":
        """The same with so many neighbours; None changes nothing."""
        return dataclasses.replace(self, num_neighbors=count or self.num_neighbors)


MODES = {
    "default": Mode(10),
    "fast": Mode(5, AbsolutePoseConfig(candidates=4), None, context="never"),
    "precise": Mode(10, precision=PrecisionConfig(cells=1000, patches=4096, rounds=6)),
    "thorough": Mode(10, context="always"),
}


@dataclasses.dataclass(frozen=True)
class AllMatches:
    """See `Method`; the map's network is a `Matcher`.

    Attributes:
      matches_in_context: with the best neighbours alone, if only refused queries are.
      was_refused: the queries were refused without context.
    """

    scene_map: SceneMap
    mode: Mode = MODES["default"]
    matches_in_context: bool = False
    was_refused: bool = False
    fusion = "robust"

    def in_context(self, *, was_refused: bool) -> "AllMatches | None":
        """What matches such a query again in context; None where nothing does."""
        network, spends = self.scene_map.network, self.mode.context
        can = isinstance(network, ContextMatcher) and network.has_context
        if not can or spends == "never" or (spends == "refused" and not was_refused):
            return None
        return self._again[was_refused]

    @functools.cached_property
    def _again(self) -> dict[bool, "AllMatches"]:
        return {
            was_refused: dataclasses.replace(
                self, matches_in_context=True, was_refused=was_refused
            )
            for was_refused in (False, True)
        }

    @property
    def finds_focal_length(self) -> bool:
        """A query's, where it is not known; by depths alone."""
        return self.scene_map.depth is not None

    @property
    def num_neighbors(self) -> int:
        """Those that a query is matched with."""
        return self.mode.num_neighbors

    @property
    def num_ranked(self) -> int:
        """A coarse match chooses among more than are taken."""
        return max(RERANKED, self.num_neighbors)

    def choose(
        self,
        ranking: Int[np.ndarray, "ranked"],
        features: PyTree,
        candidates: Int[np.ndarray, "C"] | None,
        allowed: Bool[np.ndarray, "M"] | None = None,
    ) -> Neighbors:
        """Those that show most of what the query shows; candidates compete with the others."""
        if candidates is not None:
            ranking = _replacing_last(ranking, candidates)
        index, similarity = most_alike(
            self.scene_map, features, ranking, self.num_neighbors, allowed
        )
        is_neighbor = np.ones(len(index), bool) if allowed is None else allowed[index]
        return Neighbors(index, is_neighbor, similarity)

    def relate(self, query: Query) -> RayTracks:
        """The matches with all neighbours; in context, those of the best ones alone may weigh."""
        count = len(query.neighbors)
        if self.matches_in_context and self.mode.context == "refused":
            query = query.of_neighbors(slice(CONTEXT_NEIGHBORS))
        network = self.scene_map.network
        images = (
            *self.scene_map.neighbor_features(query.neighbors),
            query.features,
            query.network_intrinsics,
        )
        if self.matches_in_context:
            tracks = network.match_tracks_in_context(*images)
            # Of padding the similarity is 0, which the context does not know of.
            tracks = tracks.replace(weights=tracks.weights * query.is_neighbor[:, None])
            tracks = rays.with_empty_images(tracks, count)
        else:
            tracks = network.match_tracks(*images, query.similarity)
        return jax.block_until_ready(tracks)

    def solve(
        self,
        queries: Sequence[Query],
        related: Sequence[RayTracks],
        *,
        batch_size: int = 1,
        run: Callable[..., Iterable] = map,
    ) -> list[Localization]:
        """Each query for itself."""
        return list(run(self._solve, queries, related))

    def _solve(self, query: Query, matches: RayTracks) -> Localization:
        deviation = query.view.focal_deviation
        if deviation is None or not self.finds_focal_length:
            return self._solve_with(query, matches, None)
        found = self._solve_with(query, matches, np.float32(deviation))
        own = self.own_intrinsics(query.image.shape[:2])
        if not found.success or own is None or not _near(found.focal_px, own[0, 0], OWN_CAMERA):
            return found
        own_from_asked = np.linalg.inv(own) @ query.intrinsics
        x_query = np.asarray(matches.x_query) * np.diag(own_from_asked)[:2] + own_from_asked[:2, 2]
        matches = matches.replace(x_query=x_query.astype(np.float32))
        known = self._solve_with(query.with_intrinsics(own), matches, None)
        if not known.success:
            return found
        return dataclasses.replace(
            known, focal_px=own[0, 0], focal_deviation=found.focal_deviation, focal_factor=1.0
        )

    def _solve_with(
        self, query: Query, matches: RayTracks, deviation: np.float32 | None
    ) -> Localization:
        """Args: deviation: of the focal length, which is searched; None: it is the query's."""
        given, usable = self.given_poses(query)
        world_from_db = jaxlie.SE3(self._wxyz_xyz[query.neighbors])
        depth = self.scene_map.neighbor_depth(query.neighbors)
        found = pose_from_all_matches(
            world_from_db,
            matches,
            depth,
            jaxlie.SE3(given),
            usable,
            familiar=np.bool_(self.is_familiar(query.intrinsics, query.image.shape[:2])),
            was_refused=np.bool_(self.was_refused),
            focal_deviation=deviation,
            config=self.mode.pose,
        )
        if self.mode.precision and float(found.confidence) > self._threshold:
            pictures = self._pictures(query)
            if pictures is not None:
                found = refined_by_pictures(
                    world_from_db,
                    matches,
                    depth,
                    found,
                    pictures,
                    deviation,
                    config=self.mode.precision,
                )
        searched = deviation is not None
        return self._localization(query, jax.device_get(found), searched)

    def _pictures(self, query: Query) -> Pictures | None:
        grey = cv2.cvtColor(query.network_image, cv2.COLOR_RGB2GRAY)
        of_neighbors = self.scene_map.pictures.grey(query.neighbors, grey.shape)
        if of_neighbors is None:
            return None
        db_intrinsics = self.scene_map.network_intrinsics[query.neighbors]
        return Pictures(grey, of_neighbors, query.network_intrinsics, db_intrinsics)

    def is_familiar(self, intrinsics: Float[np.ndarray, "3 3"], sides: Iterable[int]) -> bool:
        """Whether the map's cameras have such a focal length, for pictures of such a size."""
        low, high = self._focals
        (focal,) = _relative_focals(intrinsics[None], np.array([tuple(sides)]))
        return bool(low / FOCAL_TOLERANCE <= focal <= high * FOCAL_TOLERANCE)

    def own_intrinsics(self, sides: Iterable[int]) -> Float[np.ndarray, "3 3"] | None:
        """Of the map's pictures of this height and width, if they agree on the focal length."""
        height, width = sides
        same = intrinsics_of_size(self.scene_map, width, height)
        focals = same[:, 0, 0]
        if not len(same) or not _near(focals.min(), focals.max(), OWN_CAMERA):
            return None
        return np.median(same, axis=0)

    @functools.cached_property
    def _wxyz_xyz(self) -> Float32[np.ndarray, "M 7"]:
        """The map's poses on the host, from where each query takes its neighbours'."""
        return np.asarray(self.scene_map.local_from_db.wxyz_xyz)

    @functools.cached_property
    def _focals(self) -> tuple[float, float]:
        """The shortest and the longest of the map's cameras."""
        of_map = _relative_focals(self.scene_map.intrinsics, self.scene_map.image_sizes)
        return float(of_map.min()), float(of_map.max())

    @property
    def _threshold(self) -> float:
        """Of the confidence, at or below which a query is refused."""
        judge = judge_of_refused(self.scene_map.depth) if self.was_refused else CONFIDENCE
        return judge.threshold

    def given_poses(self, query: Query) -> tuple[Float32[np.ndarray, "G 7"], Bool[np.ndarray, "G"]]:
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

    def _localization(self, query: Query, found: MatchedPose, searched: bool) -> Localization:
        pose = found.pose
        confidence = float(found.confidence)
        success = bool(pose.success) and confidence > self._threshold
        local = np.asarray(_as_matrix(pose.world_from_query), np.float64)
        covariance = np.asarray(pose.covariance, np.float64)
        scale, depth = self.scene_map.scale, self.scene_map.depth
        of_depth = "database_depth" if depth and depth.measured else "database_poses"
        return Localization(
            world_from_query=query.view.pose_as_given(self.scene_map.in_world(local)),
            success=success,
            confidence=confidence,
            location_inliers=found.agreeing[query.is_neighbor],
            rotation_inliers=found.agreeing[query.is_neighbor],
            position_covariance=covariance[3:, 3:],
            rotation_std=float(np.sqrt(np.trace(covariance[:3, :3]) / 3)),
            neighbors=query.neighbors[query.is_neighbor],
            stage_ms=query.clock.stage_ms,
            refused=not success,
            turn_deg=query.view.turn_deg,
            covariance=covariance,
            scale_source=scale.source if scale else of_depth,
            scale_deviation=scale and scale.deviation,
            reason="" if success else _reason(found),
            evidence=found.evidence,
            in_context=self.matches_in_context,
            focal_factor=float(pose.focal_factor) if pose.focal_gain > MIN_FOCAL_GAIN else 1.0,
            focal_px=float(pose.focal_factor * query.intrinsics[0, 0]) if searched else None,
            focal_deviation=float(pose.focal_deviation) if searched else None,
        )


def _near(a: float, b: float, factor: float) -> bool:
    return 1 / factor < a / b < factor


def _relative_focals(
    intrinsics: Float[np.ndarray, "n 3 3"], sides: Int[np.ndarray, "n 2"]
) -> Float[np.ndarray, "n"]:
    """In lengths of the longer side."""
    return np.sqrt(intrinsics[:, 0, 0] * intrinsics[:, 1, 1]) / sides.max(axis=1)


def _replacing_last(
    ranking: Int[np.ndarray, "ranked"], candidates: Int[np.ndarray, "C"]
) -> Int[np.ndarray, "ranked"]:
    """The ranking with the new ones of the candidates in its last places."""
    new = np.setdiff1d(candidates, ranking)[: len(ranking) // 2]
    return np.concatenate([ranking[: len(ranking) - len(new)], new.astype(ranking.dtype)])


def _reason(found: MatchedPose) -> str:
    """In words, why a query was refused; chance alone makes one neighbour agree now and then."""
    several_agree = found.agreeing.sum() > 1
    if found.pose.focal_gain > MIN_FOCAL_GAIN and several_agree:
        return (
            "the matches contradict the focal length; "
            f"{float(found.pose.focal_factor):g} times it suits them better"
        )
    if found.evidence[2] > 1 and several_agree:
        return "the matches do not tell this focal length from others; check it"
    return TOO_FEW

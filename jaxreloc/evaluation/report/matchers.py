"""Matches between a query and its retrieved images, for drawing."""

from collections.abc import Sequence
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, UInt8

from jaxreloc.evaluation.baselines import sift
from jaxreloc.evaluation.report.content import PairMatches
from jaxreloc.geometry.relative_pose import estimate_relative_pose
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.networks.matcher import Matcher

# Of a match's deviation: the largest Sampson error of one that is drawn as an inlier.
INLIER_DEVIATIONS = 2.4
SAMPLING_SEED = 0


class PairMatcher(Protocol):
    """Finds the matches of a query with database images; `name` says by what."""

    name: str

    def __call__(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        intrinsics: Float[np.ndarray, "3 3"],
        neighbors: Int[np.ndarray, "N"],
    ) -> tuple[PairMatches, ...]: ...


class NetworkMatcher:
    """The matches of a map's own network, the most likely first.

    Args:
      scene_map: its network is a `Matcher`.
    """

    name = "the network"

    def __init__(self, scene_map: SceneMap):
        self._scene_map = scene_map

    def __call__(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        intrinsics: Float[np.ndarray, "3 3"],
        neighbors: Int[np.ndarray, "N"],
    ) -> tuple[PairMatches, ...]:
        network = self._scene_map.network
        network_image, network_intrinsics = network.prepare(image, intrinsics)
        db = self._scene_map.neighbor_features(neighbors)
        query = network.encode(network_image[None]), network_intrinsics[None].astype(np.float32)
        tracks = network.match_tracks(*db, *query, network.similarity(db[0], query[0]))
        x_query = jnp.broadcast_to(tracks.x_query, tracks.x_db.shape)
        estimate = estimate_relative_pose(
            x_query,
            tracks.x_db,
            tracks.weights,
            threshold=INLIER_DEVIATIONS * tracks.sigma,
            key=jax.random.key(SAMPLING_SEED),
        )
        inliers = estimate.inliers & estimate.success[:, None]
        x_query, x_db, weights, inliers = jax.device_get(
            (x_query, tracks.x_db, tracks.weights, inliers)
        )
        found = []
        for i, neighbor in enumerate(neighbors):
            likely = np.argsort(-weights[i], kind="stable")[: np.count_nonzero(weights[i])]
            found.append(
                PairMatches(
                    query_px=to_pixels(x_query[i, likely], intrinsics),
                    db_px=to_pixels(x_db[i, likely], self._scene_map.intrinsics[neighbor]),
                    inliers=inliers[i, likely],
                )
            )
        return tuple(found)


class SiftMatcher:
    """The matches of SIFT, for a network that has none."""

    name = "SIFT"

    def __init__(
        self,
        images: Sequence[UInt8[np.ndarray, "h w 3"]],
        intrinsics: Float[np.ndarray, "M 3 3"],
    ):
        self._images = images
        self._intrinsics = intrinsics

    def __call__(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        intrinsics: Float[np.ndarray, "3 3"],
        neighbors: Int[np.ndarray, "N"],
    ) -> tuple[PairMatches, ...]:
        query = sift.extract(image, intrinsics)
        return tuple(self._match(query, intrinsics, int(i)) for i in neighbors)

    def _match(
        self, query: sift.SiftFeatures, intrinsics: np.ndarray, neighbor: int
    ) -> PairMatches:
        db_intrinsics = self._intrinsics[neighbor]
        db = sift.extract(self._images[neighbor], db_intrinsics)
        relation = sift.relate(db, query)
        return PairMatches(
            query_px=to_pixels(relation.x_query, intrinsics),
            db_px=to_pixels(relation.x_db, db_intrinsics),
            inliers=relation.inliers,
        )


def network_matcher(scene_map: SceneMap) -> NetworkMatcher | None:
    """Of the map's network, if it is one that matches."""
    return NetworkMatcher(scene_map) if isinstance(scene_map.network, Matcher) else None


def to_pixels(
    x: Float[np.ndarray, "k 2"], intrinsics: Float[np.ndarray, "3 3"]
) -> Float[np.ndarray, "k 2"]:
    """The pixels at which points of the camera's plane z = 1 are seen."""
    return (x @ intrinsics[:2, :2].T + intrinsics[:2, 2]).astype(np.float64)

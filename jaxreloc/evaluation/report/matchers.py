"""Matches between a query and its retrieved images, for drawing."""

from collections.abc import Sequence
from typing import Protocol

import jax
import numpy as np
from jaxtyping import Float, Int, UInt8

from jaxreloc.evaluation.baselines import sift
from jaxreloc.evaluation.report.content import PairMatches
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.networks.match_network import MatchNetwork
from jaxreloc.localization.networks.match_relations import pose_of_matches


class Matcher(Protocol):
    """Finds the matches of a query with database images; `name` says by what."""

    name: str

    def __call__(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        intrinsics: Float[np.ndarray, "3 3"],
        neighbors: Int[np.ndarray, "N"],
    ) -> tuple[PairMatches, ...]: ...


class NetworkMatcher:
    """The matches of a map's own `MatchNetwork`, the most confident first."""

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
        db_features, db_intrinsics = self._scene_map.neighbor_features(neighbors)
        query_features = network.encode(network_image[None])
        query_intrinsics = network_intrinsics[None].astype(np.float32)
        matches = network.match(db_features, db_intrinsics, query_features, query_intrinsics)
        estimate = pose_of_matches(matches, db_intrinsics, query_intrinsics)
        matches, estimate = jax.device_get((matches, estimate))
        return tuple(
            PairMatches(
                query_px=to_pixels(matches.x_query[i], intrinsics),
                db_px=to_pixels(matches.x_db[i], self._scene_map.intrinsics[neighbor]),
                inliers=estimate.inliers[i] & estimate.success[i],
            )
            for i, neighbor in enumerate(neighbors)
        )


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
    return NetworkMatcher(scene_map) if isinstance(scene_map.network, MatchNetwork) else None


def to_pixels(
    x: Float[np.ndarray, "k 2"], intrinsics: Float[np.ndarray, "3 3"]
) -> Float[np.ndarray, "k 2"]:
    """The pixels at which points of the camera's plane z = 1 are seen."""
    return (x @ intrinsics[:2, :2].T + intrinsics[:2, 2]).astype(np.float64)

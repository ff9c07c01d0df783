"""Matches between a query and its retrieved images, for drawing."""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import jax
import numpy as np
from jaxtyping import Bool, Float, UInt8

from jaxreloc.evaluation.baselines import sift
from jaxreloc.evaluation.report.content import PairMatches
from jaxreloc.formats.rigid_arrays import inverse
from jaxreloc.images import turn
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.networks.matcher import Matcher
from jaxreloc.localization.query_state import Localization

# Of a match's deviation: the largest Sampson error of one that agrees with a pose.
AGREEING_DEVIATIONS = 3.0


class PairMatcher(Protocol):
    """Finds the matches of a query with database images; `name` says by what."""

    name: str

    def __call__(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        intrinsics: Float[np.ndarray, "3 3"],
        found: Localization,
    ) -> tuple[PairMatches, ...]:
        """Args: found: the answer to this image as it is; where it is refused nothing agrees."""


class NetworkMatcher:
    """The matches of a map's own network, the most likely first; inliers agree with the answer.

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
        found: Localization,
    ) -> tuple[PairMatches, ...]:
        network, neighbors = self._scene_map.network, found.neighbors
        network_image, network_intrinsics = network.prepare(image, intrinsics)
        db = self._scene_map.neighbor_features(neighbors)
        query = network.encode(network_image[None]), network_intrinsics[None].astype(np.float32)
        if found.in_context:
            tracks = network.match_tracks_in_context(*db, *query)
        else:
            tracks = network.match_tracks(*db, *query, network.similarity(db[0], query[0]))
        tracks = jax.device_get(tracks)
        matches = []
        for i, neighbor in enumerate(neighbors):
            weights = tracks.weights[i]
            likely = np.argsort(-weights, kind="stable")[: np.count_nonzero(weights)]
            x_query, x_db = tracks.x_query[likely], tracks.x_db[i, likely]
            inliers = np.zeros(len(likely), bool)
            if found.success:
                world_from_db = self._scene_map.world_from_db[neighbor]
                db_from_query = inverse(world_from_db) @ found.world_from_query
                inliers = agreeing(db_from_query, x_query, x_db, tracks.sigma[i])
            matches.append(
                PairMatches(
                    query_px=to_pixels(x_query, intrinsics),
                    db_px=to_pixels(x_db, self._scene_map.intrinsics[neighbor]),
                    inliers=inliers,
                )
            )
        return tuple(matches)


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
        found: Localization,
    ) -> tuple[PairMatches, ...]:
        query = sift.extract(image, intrinsics)
        return tuple(self._match(query, intrinsics, int(i)) for i in found.neighbors)

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


def matches_as_given(
    matcher: PairMatcher,
    image: UInt8[np.ndarray, "h w 3"],
    intrinsics: Float[np.ndarray, "3 3"],
    found: Localization,
) -> tuple[PairMatches, ...]:
    """Those of an image as it was localized, turned or not, in pixels of the image as given.

    Args:
      found: the answer, whose neighbours the matches are with.
    """
    turned, turned_intrinsics, turned_from_given = turn(image, intrinsics, found.turn_deg // 90)
    world_from_turned = found.world_from_query.copy()
    world_from_turned[:3, :3] = world_from_turned[:3, :3] @ turned_from_given.T
    as_turned = dataclasses.replace(found, world_from_query=world_from_turned)
    pixels = intrinsics @ turned_from_given.T @ np.linalg.inv(turned_intrinsics)
    return tuple(
        dataclasses.replace(pair, query_px=pair.query_px @ pixels[:2, :2].T + pixels[:2, 2])
        for pair in matcher(turned, turned_intrinsics, as_turned)
    )


def to_pixels(
    x: Float[np.ndarray, "k 2"], intrinsics: Float[np.ndarray, "3 3"]
) -> Float[np.ndarray, "k 2"]:
    """The pixels at which points of the camera's plane z = 1 are seen."""
    return (x @ intrinsics[:2, :2].T + intrinsics[:2, 2]).astype(np.float64)


def agreeing(
    db_from_query: Float[np.ndarray, "4 4"],
    x_query: Float[np.ndarray, "K 2"],
    x_db: Float[np.ndarray, "K 2"],
    sigma: float | Float[np.ndarray, ""],
) -> Bool[np.ndarray, "K"]:
    """Which matches of a pair agree with a pose: their `sampson_error` is small for their sigma."""
    return sampson_error(db_from_query, x_query, x_db) < AGREEING_DEVIATIONS * sigma


def sampson_error(
    db_from_query: Float[np.ndarray, "4 4"],
    x_query: Float[np.ndarray, "K 2"],
    x_db: Float[np.ndarray, "K 2"],
) -> Float[np.ndarray, "K"]:
    """|y^T E x| / sqrt((E x)_1^2 + (E x)_2^2 + (E^T y)_1^2 + (E^T y)_2^2), E = [t]_x R.

    x and y are homogeneous points of the planes z = 1 of the query and the database camera.
    """
    rotation, t = db_from_query[:3, :3], db_from_query[:3, 3]
    E = np.cross(np.eye(3), t).T @ rotation
    x, y = np.c_[x_query, np.ones(len(x_query))], np.c_[x_db, np.ones(len(x_db))]
    Ex, Ety = x @ E.T, y @ E
    gradient = np.sqrt((Ex[:, :2] ** 2).sum(axis=1) + (Ety[:, :2] ** 2).sum(axis=1))
    return np.abs((y * Ex).sum(axis=1)) / np.maximum(gradient, 1e-12)

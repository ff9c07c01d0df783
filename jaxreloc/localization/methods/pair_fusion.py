"""The methods `robust`, `paper` and `median`: the relative poses of pairs, fused.

The confidence of a pose is a logistic function of two pieces of evidence,

    P(right to 50 cm and 10 deg) = 1 / (1 + exp(-(b + w . x))),

  x_1  log of the best pair's `support x overlap_probability` (`query_confidence`),
  x_2  log of the fused pose's rotation_std (radians), which the neighbours' disagreement widens,

neither of which depends on the scene's unit of length. The coefficients belong to an estimator of
relative poses and are fitted to queries of which one half was asked in another room
(`python -m benchmarks.trust.refusal --fit`): the probability is that of such a mixture.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence

import jax
import jax.numpy as jnp
import jaxlie
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from jaxreloc.geometry.fusion import FusedPose, FusionConfig, Method, fuse
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.methods.method import Neighbors
from jaxreloc.localization.neighbors.retrieval import (
    RANKED_PER_NEIGHBOR,
    default_baseline,
    diverse,
)
from jaxreloc.localization.networks.relations import PairRelations
from jaxreloc.localization.query_state import TOO_FEW, Localization, Query

NUM_NEIGHBORS = 5
SMALLEST = 1e-2  # is added to the query's confidence before its logarithm

Relator = Callable[[Query], PairRelations]  # the relative pose of the query to each neighbour


class PairFusion:
    """See `Method`.

    Args:
      fusion: of `fusion.Method`.
      min_baseline: the distance that neighbours keep from each other; None takes
        `default_baseline` of the map, and 0 the most similar images. "median", which crosses no
        directions, takes 0 for None.
      relator: predicts relative poses; None takes the map's network.
    """

    finds_focal_length = False

    def __init__(
        self,
        scene_map: SceneMap,
        fusion: Method = "robust",
        *,
        num_neighbors: int = NUM_NEIGHBORS,
        min_baseline: float | None = None,
        relator: Relator | None = None,
    ):
        self.scene_map = scene_map
        self.fusion = fusion
        self.num_neighbors = num_neighbors
        self._centres = np.asarray(scene_map.local_from_db.translation())
        if min_baseline is None:
            min_baseline = 0.0 if fusion == "median" else default_baseline(self._centres)
        self.min_baseline = min_baseline
        self._relator = relator or self._by_network
        self._fuse = functools.partial(
            _fuse_neighbors, method=fusion, config=scene_map.network.fusion_config
        )

    @property
    def num_ranked(self) -> int:
        """Neighbours that lie apart are chosen among more."""
        return self.num_neighbors * (RANKED_PER_NEIGHBOR if self.min_baseline else 1)

    def choose(
        self,
        ranking: Int[np.ndarray, "ranked"],
        features: PyTree,
        candidates: Int[np.ndarray, "C"] | None,
        allowed: Bool[np.ndarray, "M"] | None = None,
    ) -> Neighbors:
        """Similar images some baseline apart; candidates, even none, double their number."""
        given = ranking if allowed is None else ranking[allowed[ranking]]
        index = diverse(given, self._centres, self.num_neighbors, self.min_baseline)
        padding = min(self.num_neighbors, len(ranking)) - len(index)
        is_neighbor = np.arange(len(index) + padding) < len(index)
        index = np.pad(index, (0, padding), mode="edge")
        if candidates is not None:
            mine, (index, is_neighbor) = is_neighbor, _with_candidates(index, candidates)
            is_neighbor[: len(mine)] = mine
        if allowed is not None:
            is_neighbor &= allowed[index]
        return Neighbors(index, is_neighbor, None)

    def relate(self, query: Query) -> PairRelations:
        """With batch axis N, padding included."""
        return jax.block_until_ready(self._relator(query))

    def _by_network(self, query: Query) -> PairRelations:
        return self.scene_map.network.relate(
            *self.scene_map.neighbor_features(query.neighbors),
            query.features,
            query.network_intrinsics,
        )

    def in_context(self, *, was_refused: bool) -> None:
        """Relative poses are of pairs."""

    def solve(
        self,
        queries: Sequence[Query],
        related: Sequence[PairRelations],
        *,
        batch_size: int = 1,
        run: Callable[..., Iterable] = map,
    ) -> list[Localization]:
        """All queries at once, padded with the last one."""
        padding = batch_size - len(queries)
        padded = [*queries, *[queries[-1]] * padding]
        world_from_query, fused, confidence = jax.device_get(
            self._fuse(
                self.scene_map.local_from_db,
                np.stack([query.neighbors for query in padded]),
                jax.tree.map(
                    lambda *x: np.stack([np.asarray(y) for y in x]),
                    *related,
                    *[related[-1]] * padding,
                ),
                np.stack([query.is_neighbor for query in padded]),
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
                scale_source=self._scale_source(fused.location_inliers[i]),
                scale_deviation=self.scene_map.scale and self.scene_map.scale.deviation,
                reason="" if fused.success[i] else TOO_FEW,
            )
            for i, (query, relations) in enumerate(zip(queries, related, strict=True))
        ]

    def _scale_source(self, inliers: Bool[np.ndarray, "N"]) -> str:
        """A network's length is all there is where one neighbour alone tells of the location."""
        if np.sum(inliers) == 1:
            return "network"
        return self.scene_map.scale.source if self.scene_map.scale else "database_poses"


def query_confidence(relations: PairRelations) -> Float[Array, "*batch"]:
    """How surely the query shows what one of the N images shows: the best pair's, from 0 to 1.

    It is the share of matches that agree times the probability of an overlap. One pair of the right
    place is enough; the others may see something else.
    """
    return jnp.max(relations.support * relations.overlap_probability, axis=-1)


@functools.partial(jax.jit, static_argnames=("method", "config"))
def fuse_relations(
    world_from_db: jaxlie.SE3,
    relations: PairRelations,
    *,
    is_neighbor: Bool[Array, "*batch N"] | None = None,
    method: Method = "robust",
    config: FusionConfig = FusionConfig(),
) -> tuple[FusedPose, Float[Array, "*batch"]]:
    """The pose of each query, [*batch, N] neighbours each, and its confidence.

    Where `is_neighbor` is False there is only padding.

    Without a confidence model this is the share of the neighbours that agree on location and
    rotation. With one, `success` is False also where the confidence does not exceed its threshold.
    Where the fusion itself found no pose it is 0.
    """
    if is_neighbor is None:
        is_neighbor = jnp.ones(relations.valid.shape, bool)
    fused = fuse(
        world_from_db,
        relations.db_from_query,
        valid=relations.valid & is_neighbor,
        reliability=relations.reliability if method == "robust" else None,
        method=method,
        config=config,
    )
    model = relations.confidence_model
    if model is None:
        agree = fused.location_inliers & fused.rotation_inliers
        share = jnp.sum(agree, axis=-1) / jnp.sum(is_neighbor, axis=-1)
        return fused, jnp.where(fused.success, share, 0.0)
    confidence = model(evidence(relations, fused))
    confidence = jnp.where(fused.success, confidence, 0.0)
    success = fused.success & (confidence > model.threshold)
    return dataclasses.replace(fused, success=success), confidence


def evidence(relations: PairRelations, fused: FusedPose) -> Float[Array, "*batch 2"]:
    """What speaks for a fused pose, in the order of the module."""
    columns = (query_confidence(relations) + SMALLEST, fused.rotation_std)
    return jnp.log(jnp.stack(columns, axis=-1))


@functools.partial(jax.jit, static_argnames=("method", "config"))
def _fuse_neighbors(
    local_from_db: jaxlie.SE3,
    neighbors: Int[Array, "*batch N"],
    relations: PairRelations,
    is_neighbor: Bool[Array, "*batch N"],
    method: Method,
    config: FusionConfig,
) -> tuple[Float[Array, "*batch 4 4"], FusedPose, Float[Array, "*batch"]]:
    world_from_neighbors = jax.tree.map(lambda x: x[neighbors], local_from_db)
    fused, confidence = fuse_relations(
        world_from_neighbors, relations, is_neighbor=is_neighbor, method=method, config=config
    )
    return fused.world_from_query.as_matrix(), fused, confidence


def _with_candidates(
    retrieved: Int[np.ndarray, "N"], candidates: Int[np.ndarray, "C"]
) -> tuple[Int[np.ndarray, "2*N"], Bool[np.ndarray, "2*N"]]:
    """The retrieved images and the new ones of the candidates, padded to a fixed length."""
    new = np.setdiff1d(candidates, retrieved)[: len(retrieved)]
    padding = np.zeros(len(retrieved) - len(new), retrieved.dtype)
    neighbors = np.concatenate([retrieved, new.astype(retrieved.dtype), padding])
    return neighbors, np.arange(len(neighbors)) < len(retrieved) + len(new)


def _block_covariance(
    rotation_std: float, position_covariance: Float[np.ndarray, "3 3"]
) -> Float[np.ndarray, "6 6"]:
    """Of a fused pose, whose rotation and centre are estimated apart."""
    covariance = np.zeros((6, 6))
    covariance[:3, :3] = rotation_std**2 * np.eye(3)
    covariance[3:, 3:] = position_covariance
    return covariance

"""`Localizer`: one image in, one camera pose out."""

import dataclasses
import functools
from typing import Protocol

import jax
import jaxlie
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree, UInt8

from jaxreloc.geometry.fusion import FusedPose, fuse
from jaxreloc.localization.clock import StageClock
from jaxreloc.localization.retrieval import most_similar
from jaxreloc.localization.scene_map import SceneMap


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

    def __call__(self, query: Query) -> tuple[jaxlie.SE3, Bool[Array, "N"]]:
        """`db_from_query` with batch axis N, and which of them are valid, padding aside."""


@dataclasses.dataclass(frozen=True)
class Localization:
    """Where the query camera is, and how well that is known.

    `world_from_query` is rigid, in OpenCV camera axes and the database's metres. It means
    nothing where `success` is false.
    """

    world_from_query: Float[np.ndarray, "4 4"]
    success: bool
    location_inliers: Bool[np.ndarray, "N"]
    rotation_inliers: Bool[np.ndarray, "N"]
    position_covariance: Float[np.ndarray, "3 3"]  # world axes, square metres
    rotation_std: float  # radians
    neighbors: Int[np.ndarray, "N"]
    stage_ms: dict[str, float]


class Localizer:
    """Retrieves, relates and fuses against one scene map.

    Args:
      scene_map: the database, with the network that made its features.
      num_neighbors: N, the retrieved images a query.
      fusion_method: "robust" or "paper".
    """

    def __init__(
        self,
        scene_map: SceneMap,
        *,
        num_neighbors: int = 5,
        fusion_method: str = "robust",
    ):
        self.scene_map = scene_map
        self.network = scene_map.network
        self.num_neighbors = num_neighbors
        self._fuse = functools.partial(_fuse_neighbors, method=fusion_method)

    def __call__(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        intrinsics: Float[np.ndarray, "3 3"],
        candidates: Int[np.ndarray, "C"] | None = None,
    ) -> Localization:
        """Localizes one image by the network: one backbone pass and a head pass a neighbour.

        Args:
          image: RGB, of any size.
          intrinsics: of that image, in pixels; (0, 0) is the centre of the top-left pixel.
          candidates: database images to consider besides the retrieved ones, at most
            `num_neighbors`, such as those that agreed on the frame before in a video. Not None
            doubles the number of head passes.
        """
        return self.locate(self.retrieve(image, intrinsics, candidates), self.relate)

    def retrieve(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        intrinsics: Float[np.ndarray, "3 3"],
        candidates: Int[np.ndarray, "C"] | None = None,
    ) -> Query:
        """Encodes the image and finds its neighbours; see `__call__`."""
        clock = StageClock()
        with clock.stage("prepare"):
            network_image, network_intrinsics = self.network.prepare(image, intrinsics)
        with clock.stage("backbone"):
            features = self.network.encode(network_image[None])
            descriptor = jax.block_until_ready(self.network.descriptor(features))
        with clock.stage("retrieval"):
            found = most_similar(descriptor, self.scene_map.descriptors, self.num_neighbors)
            neighbors = np.asarray(found[0][0])
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

    def relate(self, query: Query) -> tuple[jaxlie.SE3, Bool[Array, "N"]]:
        """The network's `db_from_query` for each neighbour, and which of them are valid."""
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
            db_from_query, valid = relator(query)
            jax.block_until_ready(db_from_query)
        with clock.stage("fusion"):
            world_from_query, fused = jax.block_until_ready(
                self._fuse(
                    self.scene_map.world_from_db,
                    query.neighbors,
                    db_from_query,
                    valid & query.is_neighbor,
                )
            )
        return Localization(
            world_from_query=np.asarray(world_from_query, np.float64),
            success=bool(fused.success),
            location_inliers=np.asarray(fused.location_inliers),
            rotation_inliers=np.asarray(fused.rotation_inliers),
            position_covariance=np.asarray(fused.position_covariance),
            rotation_std=float(fused.rotation_std),
            neighbors=query.neighbors,
            stage_ms=clock.stage_ms,
        )


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


@functools.partial(jax.jit, static_argnames="method")
def _fuse_neighbors(
    world_from_db: jaxlie.SE3,
    neighbors: Int[Array, "N"],
    db_from_query: jaxlie.SE3,
    valid: Bool[Array, "N"],
    method: str,
) -> tuple[Float[Array, "4 4"], FusedPose]:
    world_from_neighbors = jax.tree.map(lambda x: x[neighbors], world_from_db)
    fused = fuse(world_from_neighbors, db_from_query, valid=valid, method=method)
    return fused.world_from_query.as_matrix(), fused

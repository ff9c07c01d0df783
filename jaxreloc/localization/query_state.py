"""A query on its way through the localizer, and the answer to it."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int, PyTree, UInt8

from jaxreloc.localization.clock import StageClock
from jaxreloc.localization.quarter_turns import View

TOO_FEW = "too few matches agree"


@dataclasses.dataclass(frozen=True)
class Query:
    """An image to localize with its retrieved database images."""

    view: View
    network_intrinsics: Float[np.ndarray, "1 3 3"]  # of the network's input
    network_image: UInt8[np.ndarray, "height width 3"]  # its input
    features: PyTree  # of the pair head, leading axis 1
    neighbors: Int[np.ndarray, "N"]  # database indices; see `Neighbors`
    is_neighbor: Bool[np.ndarray, "N"]  # false on padding
    candidates: Int[np.ndarray, "C"] | None  # as given
    clock: StageClock
    similarity: Float[np.ndarray, "N"] | None = None  # of the neighbours, where they are matched
    expected: Float[np.ndarray, "G 4 4"] | None = None  # world_from_query, as given
    allowed: Bool[np.ndarray, "M"] | None = None  # database images, as given; None: all

    @property
    def asked(self) -> dict[str, np.ndarray | None]:
        """What was asked along with the image."""
        return {name: getattr(self, name) for name in ("candidates", "expected", "allowed")}

    def of_neighbors(self, rows: slice) -> "Query":
        """The query with some of its neighbours alone."""
        names = "neighbors", "is_neighbor", "similarity"
        return dataclasses.replace(self, **{name: getattr(self, name)[rows] for name in names})

    def with_intrinsics(self, intrinsics: Float[np.ndarray, "3 3"]) -> "Query":
        """The query, were its camera another one; its matches' rays are not among its fields."""
        view = dataclasses.replace(self.view, intrinsics=intrinsics)
        new_from_old = np.linalg.inv(self.intrinsics) @ intrinsics
        network_intrinsics = (self.network_intrinsics @ new_from_old).astype(np.float32)
        return dataclasses.replace(self, view=view, network_intrinsics=network_intrinsics)

    @property
    def image(self) -> UInt8[np.ndarray, "h w 3"]:
        """At full size."""
        return self.view.image

    @property
    def intrinsics(self) -> Float[np.ndarray, "3 3"]:
        """Of `image`."""
        return self.view.intrinsics


@dataclasses.dataclass(frozen=True)
class Localization:
    """Where the query camera is, and how well that is known.

    `world_from_query` is rigid, in OpenCV camera axes and the database's metres. It means
    nothing where `success` is false. It is the pose of the picture as given, also where
    `turn_deg` says that the network saw it turned (counterclockwise).

    `covariance` is of (rotation vector in world axes, centre): the true rotation is
    exp(w) R. `scale_source` says where the metres come from: the poses that the map was made of, a
    depth camera, or what `MapScale` names, whose deviation is `scale_deviation`. With
    `focal_factor` other than 1, the matches suit that multiple of the given focal length better.

    Where the focal length was not known and has been found with the pose, `focal_px` is what it was
    found to be, and `focal_deviation` its relative deviation.
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
    scale_source: str = "database_poses"  # "database_depth", "gps", "distance", "network"
    scale_deviation: float | None = None  # of every length, relative, where that is known
    reason: str = ""  # why there is no pose
    focal_factor: float = 1.0
    focal_px: float | None = None
    focal_deviation: float | None = None
    evidence: Float[np.ndarray, "E"] | None = None  # what the confidence is made from
    in_context: bool = False  # matched again so, after it was refused or in mode "thorough"

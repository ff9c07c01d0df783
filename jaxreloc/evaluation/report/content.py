"""What a report shows, as plain data: no network, no dataset, no file behind it."""

import dataclasses
from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float

from jaxreloc.evaluation.metrics import PoseErrors, Summary, pose_errors, summarize


@dataclasses.dataclass(frozen=True)
class Cameras:
    """n cameras as a struct of arrays."""

    names: tuple[str, ...]
    world_from_cam: Float[np.ndarray, "n 4 4"] | None  # None: not known
    intrinsics: Float[np.ndarray, "n 3 3"]  # pixels of the stored image
    image_sizes: Float[np.ndarray, "n 2"]  # width, height

    def __len__(self) -> int:
        return len(self.names)


@dataclasses.dataclass(frozen=True)
class Estimates:
    """What one method says of the queries; the poses of failed ones mean nothing."""

    title: str
    world_from_query: Float[np.ndarray, "n 4 4"]
    success: Bool[np.ndarray, "n"]
    agreeing: tuple[Bool[np.ndarray, "N"], ...]  # neighbours that agree with the location
    position_std: Float[np.ndarray, "n"]  # metres, of the worst direction; infinite if unknown


@dataclasses.dataclass(frozen=True)
class PairMatches:
    """Points seen in both images of a pair, in pixels of the stored images."""

    query_px: Float[np.ndarray, "k 2"]
    db_px: Float[np.ndarray, "k 2"]
    inliers: Bool[np.ndarray, "k"]  # that agree with the answer; SIFT's with each other


@dataclasses.dataclass(frozen=True)
class QueryPictures:
    """The pictures of one query; `matches` is None where nothing was matched."""

    thumbnail: bytes  # JPEG
    neighbors: tuple[int, ...]  # database indices, most similar first
    matches: tuple[PairMatches, ...] | None  # one a neighbour


@dataclasses.dataclass(frozen=True)
class SceneContent:
    """One scene.

    Attributes:
      queries: their `world_from_cam` is the truth, if known.
      estimates: by the method's key.
      pictures: of some of the queries, by index.
      db_thumbnails: JPEG, of the database images that `pictures` refers to, by index.
      matched_by: what found their matches, as the page names it.
    """

    name: str
    database: Cameras
    queries: Cameras
    estimates: Mapping[str, Estimates]
    pictures: Mapping[int, QueryPictures]
    db_thumbnails: Mapping[int, bytes]
    matched_by: str = ""

    def errors(self, method: str) -> PoseErrors | None:
        """Of one method; None without truth."""
        if self.queries.world_from_cam is None:
            return None
        estimates = self.estimates[method]
        return pose_errors(
            estimates.world_from_query, self.queries.world_from_cam, estimates.success
        )

    def summary(self, method: str) -> Summary | None:
        """Medians and recalls of one method; None without truth."""
        errors = self.errors(method)
        return None if errors is None else summarize(errors)


def upright(world_from_cam: Float[np.ndarray, "n 4 4"]) -> Float[np.ndarray, "3 3"]:
    """A rotation `upright_from_world` to axes whose z is up, as the cameras were mostly held.

    Up is the mean of the images' own up directions (-y). Where these cancel out, it is the
    direction in which the camera centres vary least.
    """
    up = -world_from_cam[:, :3, 1].mean(axis=0)
    if np.linalg.norm(up) < 0.3:
        centers = world_from_cam[:, :3, 3]
        up = np.linalg.svd(centers - centers.mean(axis=0))[2][-1]
    up = up / np.linalg.norm(up)
    x = np.cross(np.eye(3)[np.argmin(np.abs(up))], up)
    x = x / np.linalg.norm(x)
    return np.stack([x, np.cross(up, x), up])

"""Pose errors of a set of queries, and the figures that relocalization is compared by."""

import dataclasses

import jax.numpy as jnp
import jaxlie
import numpy as np
from jaxtyping import Bool, Float

from jaxreloc.geometry import errors

# (metres, degrees): a query counts when both errors are below.
RECALL_THRESHOLDS = ((0.05, 5.0), (0.10, 5.0), (0.25, 2.0), (0.50, 5.0))


@dataclasses.dataclass(frozen=True)
class PoseErrors:
    """One entry a query; infinite where the query was not localized."""

    position_m: Float[np.ndarray, "n"]
    rotation_deg: Float[np.ndarray, "n"]


@dataclasses.dataclass(frozen=True)
class Summary:
    """Medians and recalls over all queries; a failed query has infinite error in both."""

    num_queries: int
    num_failed: int
    median_position_m: float
    median_rotation_deg: float
    recalls: tuple[float, ...]  # in the order of RECALL_THRESHOLDS, 0 to 1


def pose_errors(
    estimated: Float[np.ndarray, "n 4 4"],
    truth: Float[np.ndarray, "n 4 4"],
    success: Bool[np.ndarray, "n"],
) -> PoseErrors:
    """Distance of the camera centres and angle between the rotations of `world_from_query`.

    Centres may be far from the origin, as in geographic coordinates.
    """
    position = np.linalg.norm(
        np.asarray(estimated, np.float64)[:, :3, 3] - np.asarray(truth, np.float64)[:, :3, 3],
        axis=-1,
    )
    a = jaxlie.SE3.from_matrix(jnp.asarray(estimated, jnp.float32))
    b = jaxlie.SE3.from_matrix(jnp.asarray(truth, jnp.float32))
    rotation = np.rad2deg(np.asarray(errors.rotation_error(a.rotation(), b.rotation()), np.float64))
    return PoseErrors(np.where(success, position, np.inf), np.where(success, rotation, np.inf))


def summarize(pose_errors: PoseErrors) -> Summary:
    """The figures of one table row.

    Raises:
      ValueError: there is no query.
    """
    n = len(pose_errors.position_m)
    if n == 0:
        raise ValueError("no query to summarize")
    within = [
        (pose_errors.position_m < metres) & (pose_errors.rotation_deg < degrees)
        for metres, degrees in RECALL_THRESHOLDS
    ]
    return Summary(
        num_queries=n,
        num_failed=int(np.isinf(pose_errors.position_m).sum()),
        median_position_m=float(np.median(pose_errors.position_m)),
        median_rotation_deg=float(np.median(pose_errors.rotation_deg)),
        recalls=tuple(float(np.mean(hits)) for hits in within),
    )


def concatenate(parts: list[PoseErrors]) -> PoseErrors:
    """The queries of several scenes as one set."""
    return PoseErrors(
        np.concatenate([part.position_m for part in parts]),
        np.concatenate([part.rotation_deg for part in parts]),
    )

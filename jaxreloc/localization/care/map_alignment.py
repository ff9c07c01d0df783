"""The similarity between two maps, from the poses that the same images have in both.

    x_a = scale R x_b + t

is found by RANSAC over pairs of images and refined on all that agree with it. An image agrees if
its pose in b, taken over, lies within TOLERANCE of its pose in a, as an angle:

    e^2 = |rotation|^2 + (|centre| / depth)^2.
"""

import dataclasses
import itertools

import numpy as np
from jaxtyping import Bool, Float, Float64, Int

from jaxreloc.formats.rigid_arrays import inverse

TOLERANCE = np.deg2rad(3.0)
HYPOTHESES = 2000
DEVIATION = np.deg2rad(0.3)  # at which the cost of an image begins to grow more slowly


@dataclasses.dataclass(frozen=True)
class Similarity:
    """x_a = scale R x_b + t."""

    scale: float
    rotation: Float64[np.ndarray, "3 3"] = dataclasses.field(default_factory=lambda: np.eye(3))
    translation: Float64[np.ndarray, "3"] = dataclasses.field(default_factory=lambda: np.zeros(3))

    def of_poses(self, b_from_cam: Float64[np.ndarray, "n 4 4"]) -> Float64[np.ndarray, "n 4 4"]:
        """a_from_cam."""
        a_from_cam = b_from_cam.copy()
        a_from_cam[:, :3, :3] = self.rotation @ b_from_cam[:, :3, :3]
        centres = b_from_cam[:, :3, 3]
        a_from_cam[:, :3, 3] = self.scale * centres @ self.rotation.T + self.translation
        return a_from_cam


@dataclasses.dataclass(frozen=True)
class Alignment:
    """How a map lies in another.

    Attributes:
      similarity: takes its coordinates to the other's.
      agrees: of the images that were found.
      scale_deviation: relative; 0 where the scale is known to be 1.
      error: the median of those that agree, as an angle.
    """

    similarity: Similarity
    agrees: Bool[np.ndarray, "n"]
    scale_deviation: float
    error: float


def align(
    a_from_cam: Float64[np.ndarray, "n 4 4"],
    b_from_cam: Float64[np.ndarray, "n 4 4"],
    depth: Float[np.ndarray, "n"],
    *,
    is_metric: bool = False,
    seed: int = 0,
) -> Alignment | None:
    """The similarity a_from_b of poses of the same images in two maps; None where there is none.

    Args:
      depth: of what each image shows, in the unit of a.
      is_metric: both maps have one unit, and so the scale is 1.
    """
    best, agrees = None, np.zeros(len(depth), bool)
    for i, j in _some_pairs(len(depth), np.random.default_rng(seed)):
        found = _of_two(a_from_cam[[i, j]], b_from_cam[[i, j]], is_metric)
        if found is None:
            continue
        now = _errors(found, a_from_cam, b_from_cam, depth) < TOLERANCE
        if now.sum() > agrees.sum():
            best, agrees = found, now
    if best is None or agrees.sum() < 2:
        return None
    for _ in range(2):
        best, deviation = _refined(
            best, a_from_cam[agrees], b_from_cam[agrees], depth[agrees], is_metric
        )
        error = _errors(best, a_from_cam, b_from_cam, depth)
        agrees = error < TOLERANCE
        if agrees.sum() < 2:
            return None
    return Alignment(best, agrees, deviation, float(np.median(error[agrees])))


def _some_pairs(count: int, rng: np.random.Generator) -> Int[np.ndarray, "k 2"]:
    pairs = np.array(list(itertools.combinations(range(count), 2)))
    return rng.permutation(pairs)[:HYPOTHESES]


def _of_two(
    a_from_cam: Float64[np.ndarray, "2 4 4"],
    b_from_cam: Float64[np.ndarray, "2 4 4"],
    is_metric: bool,
) -> Similarity | None:
    """From two images; None where they lie at one place and the scale is unknown."""
    import scipy.spatial.transform

    a, b = a_from_cam[:, :3, 3], b_from_cam[:, :3, 3]
    lengths = np.linalg.norm(a[1] - a[0]), np.linalg.norm(b[1] - b[0])
    if not is_metric and min(lengths) < 1e-9:
        return None
    each = a_from_cam[:, :3, :3] @ np.swapaxes(b_from_cam[:, :3, :3], 1, 2)
    rotation = scipy.spatial.transform.Rotation.from_matrix(each).mean().as_matrix()
    scale = 1.0 if is_metric else lengths[0] / lengths[1]
    return Similarity(scale, rotation, np.mean(a - scale * b @ rotation.T, axis=0))


def _errors(
    similarity: Similarity,
    a_from_cam: Float64[np.ndarray, "n 4 4"],
    b_from_cam: Float64[np.ndarray, "n 4 4"],
    depth: Float[np.ndarray, "n"],
) -> Float64[np.ndarray, "n"]:
    """As angles."""
    return np.linalg.norm(_residuals(similarity, a_from_cam, b_from_cam, depth), axis=1)


def _residuals(
    similarity: Similarity,
    a_from_cam: Float64[np.ndarray, "n 4 4"],
    b_from_cam: Float64[np.ndarray, "n 4 4"],
    depth: Float[np.ndarray, "n"],
) -> Float64[np.ndarray, "n 6"]:
    """Rotation vectors, and offsets of the centres over the depth."""
    import scipy.spatial.transform

    off = inverse(a_from_cam) @ similarity.of_poses(b_from_cam)
    turned = scipy.spatial.transform.Rotation.from_matrix(off[:, :3, :3]).as_rotvec()
    return np.concatenate([turned, off[:, :3, 3] / depth[:, None]], axis=1)


def _refined(
    start: Similarity,
    a_from_cam: Float64[np.ndarray, "n 4 4"],
    b_from_cam: Float64[np.ndarray, "n 4 4"],
    depth: Float[np.ndarray, "n"],
    is_metric: bool,
) -> tuple[Similarity, float]:
    """By least squares, with robust weights; and the relative deviation of the scale."""
    import scipy.optimize
    import scipy.spatial.transform

    middle = b_from_cam[:, :3, 3].mean(axis=0)
    start_middle = start.scale * start.rotation @ middle + start.translation
    unit = float(np.median(depth))

    def similarity(x: Float64[np.ndarray, "D"]) -> Similarity:
        turn = scipy.spatial.transform.Rotation.from_rotvec(x[:3]).as_matrix()
        rotation = turn @ start.rotation
        scale = start.scale if is_metric else start.scale * np.exp(x[6])
        moved = start_middle + unit * x[3:6]
        return Similarity(float(scale), rotation, moved - scale * rotation @ middle)

    def residuals(x: Float64[np.ndarray, "D"]) -> Float64[np.ndarray, "N"]:
        return (
            _residuals(similarity(x), a_from_cam, b_from_cam, depth).ravel() / DEVIATION
        )

    found = scipy.optimize.least_squares(
        residuals, np.zeros(6 if is_metric else 7), loss="soft_l1"
    )
    if is_metric:
        return similarity(found.x), 0.0
    spread = max(1.0, float(np.sqrt(np.mean(found.fun**2))))
    information = found.jac.T @ found.jac
    deviation = spread * np.sqrt(np.linalg.pinv(information)[6, 6])
    if np.linalg.matrix_rank(information) < 7:
        deviation = np.inf
    return similarity(found.x), float(deviation)

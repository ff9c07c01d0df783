"""The classical yardstick: relative pose by SIFT matches and an essential matrix (OpenCV)."""

import dataclasses
from collections.abc import Sequence

import cv2
import jax.numpy as jnp
import jaxlie
import numpy as np
from jaxtyping import Bool, Float, UInt8

from jaxreloc.formats.frames import PosedFrames
from jaxreloc.localization.networks.relations import PairRelations
from jaxreloc.localization.query_state import Query

MAX_FEATURES = 2000
ROUNDING = 1e-5  # of a squared distance: what lies nearer is equally near
RATIO = 0.8  # Lowe's test, best over second-best distance
THRESHOLD_PX = 1.0  # epipolar distance of an inlier
MIN_INLIERS = 15


@dataclasses.dataclass(frozen=True)
class SiftFeatures:
    """Keypoints on the camera's normalised plane (z = 1) and their descriptors."""

    points: Float[np.ndarray, "n 2"]
    descriptors: Float[np.ndarray, "n 128"]
    focal_px: float


def extract(
    image: UInt8[np.ndarray, "h w 3"], intrinsics: Float[np.ndarray, "3 3"]
) -> SiftFeatures:
    """RootSIFT features; an image without any gives empty arrays."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    keypoints, descriptors = cv2.SIFT_create(MAX_FEATURES).detectAndCompute(gray, None)
    if not keypoints:
        descriptors = np.zeros((0, 128), np.float32)
    pixels = np.array([k.pt for k in keypoints], np.float64).reshape(-1, 2)
    normalised = on_plane(pixels, intrinsics)
    total = descriptors.sum(axis=1, keepdims=True)
    root = np.sqrt(descriptors / np.maximum(total, 1e-12)).astype(np.float32)
    return SiftFeatures(normalised, root, float(np.mean(np.diag(intrinsics)[:2])))


def on_plane(
    pixels: Float[np.ndarray, "m 2"], intrinsics: Float[np.ndarray, "3 3"]
) -> Float[np.ndarray, "m 2"]:
    """On the plane z = 1 of a camera without skew."""
    return (pixels - intrinsics[:2, 2]) / np.diag(intrinsics)[:2]


def match(a: SiftFeatures, b: SiftFeatures) -> np.ndarray:
    """Index pairs [m, 2] that are mutual nearest neighbours and pass the ratio test in `a`."""
    if len(a.descriptors) < 2 or len(b.descriptors) < 2:
        return np.zeros((0, 2), np.int64)
    similarity = a.descriptors @ b.descriptors.T
    order = np.argpartition(-similarity, 1, axis=1)[:, :2]
    pair = np.take_along_axis(similarity, order, axis=1)
    best = np.take_along_axis(order, pair.argmax(axis=1)[:, None], axis=1)[:, 0]
    first, second = (
        np.sqrt(np.maximum(2 - 2 * s, ROUNDING)) for s in (pair.max(axis=1), pair.min(axis=1))
    )
    index = np.arange(len(best))
    mutual = similarity.argmax(axis=0)[best] == index
    kept = mutual & (first < RATIO * second)
    return np.stack([index[kept], best[kept]], axis=1)


@dataclasses.dataclass(frozen=True)
class SiftRelation:
    """The matches of a pair on both normalised planes, and the relative pose that they give."""

    x_query: Float[np.ndarray, "m 2"]
    x_db: Float[np.ndarray, "m 2"]
    inliers: Bool[np.ndarray, "m"]  # of the essential matrix, in front of both cameras
    db_from_query: Float[np.ndarray, "4 4"] | None  # |t| = 1; None under MIN_INLIERS inliers


def relate(db: SiftFeatures, query: SiftFeatures) -> SiftRelation:
    """Matches and relative pose; an essential matrix knows the translation's direction only."""
    pairs = match(query, db)
    x_query, x_db = query.points[pairs[:, 0]], db.points[pairs[:, 1]]
    threshold = THRESHOLD_PX / np.mean([query.focal_px, db.focal_px])
    inliers, pose = essential_pose(x_query, x_db, threshold)
    return SiftRelation(x_query, x_db, inliers, pose)


def essential_pose(
    x_query: Float[np.ndarray, "m 2"], x_db: Float[np.ndarray, "m 2"], threshold: float
) -> tuple[Bool[np.ndarray, "m"], Float[np.ndarray, "4 4"] | None]:
    """Inliers of the essential matrix by RANSAC, and its `db_from_query`; see `SiftRelation`.

    Args:
      x_query, x_db: matches on the planes z = 1.
      threshold: epipolar distance of an inlier, on these planes.
    """
    none = np.zeros(len(x_query), bool)
    if len(x_query) < MIN_INLIERS:
        return none, None
    essential, mask = cv2.findEssentialMat(
        x_query, x_db, np.eye(3), method=cv2.RANSAC, prob=0.999, threshold=threshold
    )
    if essential is None or essential.shape[0] < 3:
        return none, None
    count, rotation, translation, mask = cv2.recoverPose(
        essential[:3], x_query, x_db, np.eye(3), mask=mask
    )
    if count < MIN_INLIERS:
        return none, None
    pose = np.eye(4)
    pose[:3, :3] = rotation
    pose[:3, 3] = translation[:, 0]
    return mask[:, 0] > 0, pose


class SiftRelator:
    """A `pair_fusion.Relator` on the full-size images.

    Each database image is extracted once, when first retrieved, outside the query's time
    (`prefetch`).
    """

    def __init__(self, database: PosedFrames):
        self._database = database
        self._features: dict[int, SiftFeatures] = {}

    def prefetch(self, neighbors: Sequence[int]) -> None:
        """Extracts what is not yet known of the database images `neighbors`."""
        for i in map(int, neighbors):
            if i not in self._features:
                image = self._database.images[i]
                self._features[i] = extract(image, self._database.intrinsics[i])

    def __call__(self, query: Query) -> PairRelations:
        """Neighbours without enough inliers are not valid."""
        return PairRelations(*self.relate(query.image, query.intrinsics, query.neighbors))

    def relate(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        intrinsics: Float[np.ndarray, "3 3"],
        neighbors: Sequence[int],
    ) -> tuple[jaxlie.SE3, Bool[np.ndarray, "N"]]:
        """`db_from_query` of an image and the database images `neighbors`, and which are valid."""
        self.prefetch(neighbors)
        features = extract(image, intrinsics)
        relations = [relate(self._features[int(i)], features) for i in neighbors]
        poses = [relation.db_from_query for relation in relations]
        valid = np.array([pose is not None for pose in poses])
        matrices = np.stack([np.eye(4) if pose is None else pose for pose in poses])
        return jaxlie.SE3.from_matrix(jnp.asarray(matrices, jnp.float32)), valid

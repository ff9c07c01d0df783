"""Pictures of a pair with the epipolar lines of its predicted and its true relative pose."""

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from scipy.spatial.transform import Rotation

TRUE_RGB = (0, 255, 0)
PREDICTED_RGB = (255, 64, 64)
POINT_RGB = (255, 255, 0)
NUM_POINTS = 6


def draw_pair(
    db_image: UInt8[np.ndarray, "h w 3"],
    query_image: UInt8[np.ndarray, "h w 3"],
    db_intrinsics: Float[np.ndarray, "3 3"],
    query_intrinsics: Float[np.ndarray, "3 3"],
    true_wxyz_xyz: Float[np.ndarray, "7"],
    predicted_wxyz_xyz: Float[np.ndarray, "7"],
) -> UInt8[np.ndarray, "h w2 3"]:
    """Both images side by side: corners of the database image (yellow) and, in the query image, the
    lines on which they must lie after the true pose (green) and after the predicted one (red).

    Args:
      true_wxyz_xyz, predicted_wxyz_xyz: `db_from_query`.
    """
    left, right = db_image.copy(), query_image.copy()
    points = salient_points(db_image)
    for point in points:
        cv2.circle(left, np.rint(point).astype(int).tolist(), 3, POINT_RGB, -1, cv2.LINE_AA)
    for pose, color in ((true_wxyz_xyz, TRUE_RGB), (predicted_wxyz_xyz, PREDICTED_RGB)):
        for line in epipolar_lines(points, pose, db_intrinsics, query_intrinsics):
            _draw_line(right, line, color)
    return np.concatenate([left, right], axis=1)


def salient_points(image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "n 2"]:
    """Up to NUM_POINTS corners far from each other (Shi and Tomasi), x and y in pixels."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    corners = cv2.goodFeaturesToTrack(
        gray, NUM_POINTS, qualityLevel=0.01, minDistance=max(image.shape[:2]) / 5
    )
    return np.zeros((0, 2)) if corners is None else corners.reshape(-1, 2).astype(np.float64)


def epipolar_lines(
    points_db: Float[np.ndarray, "n 2"],
    db_from_query_wxyz_xyz: Float[np.ndarray, "7"],
    db_intrinsics: Float[np.ndarray, "3 3"],
    query_intrinsics: Float[np.ndarray, "3 3"],
) -> Float[np.ndarray, "n 3"]:
    """Lines `(a, b, c)`, a x + b y + c = 0 in query pixels, on which the images of `points_db` lie.

    The line of p is `F^T p` with `F = K_db^-T [t]x R K_query^-1` (Hartley and Zisserman, Multiple
    View Geometry, section 9.2), from `p_db^T F p_query = 0`.
    """
    q_wxyz, t = np.split(np.asarray(db_from_query_wxyz_xyz, dtype=np.float64), [4])
    rotation = Rotation.from_quat(q_wxyz, scalar_first=True).as_matrix()
    essential = np.cross(np.eye(3), t) @ rotation  # the rows e_i x t make [t]x
    fundamental = np.linalg.inv(db_intrinsics).T @ essential @ np.linalg.inv(query_intrinsics)
    homogeneous = np.concatenate([points_db, np.ones((len(points_db), 1))], axis=1)
    return homogeneous @ fundamental


def _draw_line(image: np.ndarray, line: np.ndarray, color: tuple[int, int, int]) -> None:
    """Draws the part of a line within the image: where it meets the two sides it crosses."""
    height, width = image.shape[:2]
    a, b, c = line / max(np.linalg.norm(line[:2]), 1e-12)
    if abs(b) > abs(a):
        ends = [(x, -(a * x + c) / b) for x in (0, width - 1)]
    elif a:
        ends = [(-(b * y + c) / a, y) for y in (0, height - 1)]
    else:
        return
    start, end = np.clip(np.rint(ends), -(2**15), 2**15).astype(int).tolist()
    cv2.line(image, start, end, color, 1, cv2.LINE_AA)

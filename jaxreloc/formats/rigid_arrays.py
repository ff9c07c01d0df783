"""Rigid transforms as float64 4x4 arrays, for reading and writing files exactly.

Inside the package poses are jaxlie's; a file's sixteen digits need float64, and so NumPy.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64
from numpy.typing import ArrayLike

from jaxreloc.usage import UsageError

MAX_NORM_DEFECT = 1e-2
MAX_COORDINATE = 1e9  # of a camera's centre: the whole earth has room

# An OpenGL camera looks along -z with y up; `cv_from_gl` and `gl_from_cv` are this same matrix.
CV_FROM_GL = np.diag([1.0, -1.0, -1.0, 1.0])


def rigid_from_quaternions(
    q_wxyz: ArrayLike, translation: ArrayLike, sources: Sequence[str]
) -> Float64[np.ndarray, "n 4 4"]:
    """The rigid transforms of finite quaternions and translations as a file states them.

    Args:
      q_wxyz: [n, 4].
      translation: [n, 3].
      sources: n, where each came from, for the message.

    Raises:
      UsageError: the norm of a quaternion is off 1 by more than MAX_NORM_DEFECT, or a translation
        is beyond MAX_COORDINATE.
    """
    from scipy.spatial.transform import Rotation  # takes 0.3 s, and a query reads no poses

    with np.errstate(over="ignore"):  # infinite, and refused
        norms = np.linalg.norm(q_wxyz, axis=-1)
    off = np.flatnonzero(np.abs(norms - 1.0) > MAX_NORM_DEFECT)
    if len(off):
        raise UsageError(
            f"{sources[off[0]]}: the quaternion has norm {norms[off[0]]:.4g}, not 1; check the "
            "order of the columns"
        )
    far = np.flatnonzero(~(np.abs(translation) < MAX_COORDINATE).all(axis=-1))
    if len(far):
        raise UsageError(
            f"{sources[far[0]]}: a translation of {np.asarray(translation)[far[0]]} is further "
            f"than {MAX_COORDINATE:g} from the origin; mend it"
        )
    matrices = np.tile(np.eye(4), (len(norms), 1, 1))
    matrices[:, :3, :3] = Rotation.from_quat(q_wxyz, scalar_first=True).as_matrix()
    matrices[:, :3, 3] = translation
    return matrices


def rigid_from_quaternion(
    q_wxyz: Sequence[float], translation: Sequence[float], source: str
) -> Float64[np.ndarray, "4 4"]:
    """As `rigid_from_quaternions`, for one."""
    return rigid_from_quaternions([q_wxyz], [translation], [source])[0]


def quaternion_wxyz(matrix: Float64[np.ndarray, "4 4"]) -> Float64[np.ndarray, "4"]:
    """The unit quaternion of a rigid transform's rotation, w >= 0.

    It is the eigenvector of the largest eigenvalue of a symmetric matrix: Bar-Itzhack, "New method
    for extracting the quaternion from a rotation matrix", 2000.
    """
    r = matrix[:3, :3]
    axis = np.array([r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]])
    symmetric = np.empty((4, 4))
    symmetric[0, 0], symmetric[0, 1:], symmetric[1:, 0] = np.trace(r), axis, axis
    symmetric[1:, 1:] = r + r.T - np.trace(r) * np.eye(3)
    q_wxyz = np.linalg.eigh(symmetric)[1][:, -1]
    return -q_wxyz if q_wxyz[0] < 0 else q_wxyz


def inverse(matrix: Float64[np.ndarray, "*b 4 4"]) -> Float64[np.ndarray, "*b 4 4"]:
    """The inverse of rigid transforms: (R^T, -R^T t)."""
    rotation_t = np.swapaxes(matrix[..., :3, :3], -1, -2)
    result = np.zeros_like(matrix)
    result[..., :3, :3] = rotation_t
    result[..., :3, 3] = -np.einsum("...ij,...j->...i", rotation_t, matrix[..., :3, 3])
    result[..., 3, 3] = 1.0
    return result

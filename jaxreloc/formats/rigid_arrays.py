"""Rigid transforms as float64 4x4 arrays, for reading and writing files exactly.

Inside the package poses are jaxlie's; a file's sixteen digits need float64, and so NumPy.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64
from scipy.spatial.transform import Rotation

from jaxreloc.formats.frames import rigid
from jaxreloc.usage import UsageError

MAX_NORM_DEFECT = 1e-2

# An OpenGL camera looks along -z with y up; `cv_from_gl` and `gl_from_cv` are this same matrix.
CV_FROM_GL = np.diag([1.0, -1.0, -1.0, 1.0])


def rigid_from_quaternion(
    q_wxyz: Sequence[float], translation: Sequence[float], source: str
) -> Float64[np.ndarray, "4 4"]:
    """The rigid transform of a quaternion and a translation as a file states them.

    Raises:
      UsageError: the quaternion's norm is off 1 by more than MAX_NORM_DEFECT, or a value is not
        finite.
    """
    norm = np.linalg.norm(q_wxyz)
    if abs(norm - 1.0) > MAX_NORM_DEFECT:
        raise UsageError(
            f"{source}: the quaternion has norm {norm:.4g}, not 1; check the order of the columns"
        )
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_quat(q_wxyz, scalar_first=True).as_matrix()
    matrix[:3, 3] = translation
    return rigid(matrix, source)


def quaternion_wxyz(matrix: Float64[np.ndarray, "4 4"]) -> Float64[np.ndarray, "4"]:
    """The unit quaternion of a rigid transform's rotation, w >= 0."""
    rotation = Rotation.from_matrix(matrix[:3, :3])
    return rotation.as_quat(scalar_first=True, canonical=True)


def inverse(matrix: Float64[np.ndarray, "*b 4 4"]) -> Float64[np.ndarray, "*b 4 4"]:
    """The inverse of rigid transforms: (R^T, -R^T t)."""
    rotation_t = np.swapaxes(matrix[..., :3, :3], -1, -2)
    result = np.zeros_like(matrix)
    result[..., :3, :3] = rotation_t
    result[..., :3, 3] = -np.einsum("...ij,...j->...i", rotation_t, matrix[..., :3, 3])
    result[..., 3, 3] = 1.0
    return result

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial.transform import Rotation

from jaxreloc.geometry._kernels import lanes
from jaxreloc.geometry.two_view import planar
from jaxreloc.geometry.two_view.epipolar import Matches
from tests.geometry.planted_matches import planted_pair


def twin(rotation, direction, matches):
    wxyz = Rotation.from_matrix(rotation).as_quat(scalar_first=True)
    array = jnp.asarray(np.r_[wxyz, direction / np.linalg.norm(direction)][None], jnp.float32)
    found = jax.jit(planar.twin)(lanes.pose_from_array(array), matches, 0.01)
    found = np.asarray(lanes.pose_to_array(found))[0]
    return Rotation.from_quat(found[:4], scalar_first=True).as_matrix(), found[4:]


def test_the_twin_is_the_other_decomposition_of_the_planes_homography(rng):
    """OpenCV's by Malis and Vargas; a decomposition's translation has either sign."""
    determinant = -1.0
    while determinant < 0:  # each camera sees another side of the plane, which OpenCV cannot
        pair = planted_pair(rng, "orbit", "planar", matches=200, outliers=0.2, noise_px=0.0)
        seen = [np.float64(x[pair.true_match]) for x in (pair.x_query, pair.x_db)]
        homography, _ = cv2.findHomography(*seen)
        determinant = np.linalg.det(homography)
    x_query, x_db = jnp.asarray(pair.x_query), jnp.asarray(pair.x_db)
    matches = Matches(x_query, x_db, jnp.asarray(pair.true_match, jnp.float32))
    rotation, direction = twin(pair.rotation, pair.translation, matches)
    _, rotations, translations, _ = cv2.decomposeHomographyMat(homography, np.eye(3))
    others = [
        max(np.abs(r - rotation).max(), 1 - abs(t[:, 0] @ direction) / np.linalg.norm(t))
        for r, t in zip(rotations, translations, strict=True)
        if np.abs(r - pair.rotation).max() > 1e-2
    ]
    assert min(others) < 1e-2

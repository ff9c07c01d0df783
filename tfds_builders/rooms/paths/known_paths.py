"""Camera paths of named rooms that were found once: looking for them takes longer than all else."""

import pathlib

import numpy as np
from jaxtyping import Float64
from scipy.spatial.transform import Rotation

FILE = pathlib.Path(__file__).with_name("known_paths.npz")


def known_paths(scene: str) -> Float64[np.ndarray, "paths frames 4 4"]:
    """`world_from_cam` of every tenth picture of a room, the queries' paths after the database's.

    The room is the first that `render_room` tries.
    """
    with np.load(FILE) as archive:
        wxyz_xyz = archive[scene].astype(np.float64)
    poses = np.zeros((*wxyz_xyz.shape[:-1], 4, 4))
    rotation = Rotation.from_quat(wxyz_xyz[..., :4].reshape(-1, 4), scalar_first=True)
    poses[..., :3, :3] = rotation.as_matrix().reshape(*poses.shape[:-2], 3, 3)
    poses[..., :3, 3] = wxyz_xyz[..., 4:]
    poses[..., 3, 3] = 1.0
    return poses

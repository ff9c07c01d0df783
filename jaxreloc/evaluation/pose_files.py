"""Errors of poses that lie in files: `run_eval.py --poses`.

Both files are in the format that evaluations of 7-Scenes exchange, `name qw qx qy qz tx ty tz [f]`,
`cam_from_world`, so that the public estimates of other methods
(github.com/tsattler/visloc_pseudo_gt_limitations, folder `estimates`) are measured as one's own.
"""

import logging
import pathlib

import numpy as np

from jaxreloc.evaluation.metrics import PoseErrors, pose_errors
from jaxreloc.formats.readers.pose_list import EvaluationPoses, read_evaluation_poses
from jaxreloc.usage import UsageError

logger = logging.getLogger(__name__)


def read_pose_errors(
    poses_path: str | pathlib.Path, truth_path: str | pathlib.Path
) -> tuple[tuple[str, ...], PoseErrors]:
    """The names and errors of the queries that `truth_path` lists, in its order.

    A query without an estimate is a failure: its errors are infinite.

    Raises:
      UsageError: a file is not of that format, or they share no name.
    """
    poses, truth = read_evaluation_poses(poses_path), read_evaluation_poses(truth_path)
    index = {name: i for i, name in enumerate(poses.names)}
    rows = np.array([index.get(name, -1) for name in truth.names])
    if (rows < 0).all():
        raise UsageError(
            f"{poses_path}: no name of {truth_path}; here {_some(poses)}, there {_some(truth)}"
        )
    if unknown := len(set(poses.names) - set(truth.names)):
        logger.warning("%s: %d poses are not of queries and are left out", poses_path, unknown)
    return truth.names, pose_errors(poses.world_from_cam[rows], truth.world_from_cam, rows >= 0)


def _some(poses: EvaluationPoses) -> str:
    return ", ".join(poses.names[:3])

"""Absolute poses from relative poses that another program wrote: `run_eval.py --pairs`."""

import logging
import pathlib
from typing import get_args

import jax
import jax.numpy as jnp
import jaxlie
import numpy as np
import tabulate
from jaxtyping import Float32

from jaxreloc.evaluation.metrics import PoseErrors, pose_errors, summarize
from jaxreloc.formats.pair_lists import (
    UNIVERSITY_SCENES,
    NeighborList,
    read_neighbor_list,
    read_relative_estimates,
)
from jaxreloc.geometry.fusion import Method, fuse
from jaxreloc.geometry.poses import to_camera_axes
from jaxreloc.usage import UsageError, check_choice

logger = logging.getLogger(__name__)
TRANSLATION_FRAMES = ("world", "camera")


def evaluate_pair_estimates(
    pairs_path: str | pathlib.Path,
    estimates_path: str | pathlib.Path,
    *,
    method: Method = "robust",
    translation_frame: str = "world",
    num_neighbors: int | None = None,
) -> str:
    """Fuses the estimates of every query and returns the table of median errors by scene.

    Args:
      pairs_path: a list of retrieved neighbours, such as NN_university.txt.
      estimates_path: `db_from_query` of each of its rows; see `formats/pair_lists.py`.
      translation_frame: the axes of the estimates' translations.
      num_neighbors: uses the first so many of each query; all by default.

    Raises:
      UsageError: a file is not what it should be, there are fewer neighbours than asked for, or
        the method fuses no relative poses.
    """
    check_choice("method", method, get_args(Method))
    neighbors = read_neighbor_list(pairs_path)
    num_queries, listed = neighbors.db_scenes.shape
    estimates = read_relative_estimates(estimates_path, num_queries * listed)
    num_neighbors = num_neighbors or listed
    if num_neighbors > listed:
        raise UsageError(
            f"{pairs_path}: has {listed} neighbours a query, --num_neighbors={num_neighbors} are "
            "asked for; choose fewer"
        )
    errors = fuse_estimates(
        neighbors,
        estimates.reshape(num_queries, listed, 7),
        method=method,
        translation_frame=translation_frame,
        num_neighbors=num_neighbors,
    )
    return _table(neighbors, errors)


def fuse_estimates(
    neighbors: NeighborList,
    estimates: Float32[np.ndarray, "Q N 7"],
    *,
    method: Method,
    translation_frame: str,
    num_neighbors: int,
) -> PoseErrors:
    """Errors of the fused pose of each query, from `q_wxyz t` rows of its neighbours.

    A row that is not finite, or whose quaternion is zero, counts as no estimate. Where no two
    directions cross, the paper takes the nearest image's centre, which is an answer of that method.
    """
    used = estimates[:, :num_neighbors]
    norm = np.linalg.norm(used[..., :4], axis=-1)
    valid = np.isfinite(used).all(axis=-1) & (norm > 0)
    if not valid.all():
        logger.warning(
            "%d of %d estimates are not poses and are left out", (~valid).sum(), valid.size
        )
    used = np.where(valid[..., None], used, np.float32([1, 0, 0, 0, 0, 0, 0]))
    near = neighbors.world_from_db[:, :num_neighbors].copy()
    truth = neighbors.world_from_query.copy()
    origin = near[:, 0, :3, 3].copy()  # single precision suffices near it only
    near[..., :3, 3] -= origin[:, None]
    truth[..., :3, 3] -= origin
    world_from_db = jaxlie.SE3.from_matrix(jnp.asarray(near, jnp.float32))
    fused = _fuse(world_from_db, jnp.asarray(used), jnp.asarray(valid), method, translation_frame)
    return pose_errors(
        np.asarray(fused.world_from_query.as_matrix()),
        truth,
        valid.any(axis=-1) if method == "paper" else np.asarray(fused.success),
    )


def _fuse(world_from_db, estimates, valid, method, translation_frame):
    q_wxyz = estimates[..., :4] / jnp.linalg.norm(estimates[..., :4], axis=-1, keepdims=True)
    t = estimates[..., 4:]
    if translation_frame == "world":
        t = to_camera_axes(world_from_db, t)
    db_from_query = jaxlie.SE3.from_rotation_and_translation(jaxlie.SO3(q_wxyz), t)
    return jax.block_until_ready(fuse(world_from_db, db_from_query, valid=valid, method=method))


def _table(neighbors: NeighborList, errors: PoseErrors) -> str:
    rows = []
    for scene in np.unique(neighbors.query_scenes):
        name = UNIVERSITY_SCENES[scene] if scene < len(UNIVERSITY_SCENES) else f"scene {scene}"
        rows.append(_row(name, errors, neighbors.query_scenes == scene))
    rows.append(_row("all", errors, np.ones(len(neighbors.query_scenes), bool)))
    headers = ["scene", "queries", "t, m", "r, deg", "failed"]
    align = ["left"] + ["right"] * 4
    return tabulate.tabulate(rows, headers, colalign=align, disable_numparse=True)


def _row(name: str, errors: PoseErrors, chosen: np.ndarray) -> list:
    summary = summarize(PoseErrors(errors.position_m[chosen], errors.rotation_deg[chosen]))
    return [
        name,
        summary.num_queries,
        f"{summary.median_position_m:.3f}",
        f"{summary.median_rotation_deg:.2f}",
        summary.num_failed,
    ]

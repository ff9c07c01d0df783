"""Errors on the validation pairs, and pictures of a few of them."""

import dataclasses
from collections.abc import Callable

import jaxlie
import numpy as np
from flax import jax_utils
from jaxtyping import UInt8

from jaxreloc.geometry import poses
from jaxreloc.training import inputs
from jaxreloc.training.epipolar import draw_pair
from jaxreloc.training.inputs import PairSet
from jaxreloc.training.state import TrainState

NUM_PICTURES = 4


@dataclasses.dataclass(frozen=True)
class Validation:
    """The mean loss and the median errors over all validation pairs.

    Attributes:
      pictures: a few pairs with their epipolar lines, one below the other.
    """

    loss: float
    position_error_m: float
    rotation_error_deg: float
    pictures: UInt8[np.ndarray, "h w 3"]

    def figures(self) -> dict[str, float]:
        """The numbers alone."""
        return {
            name: getattr(self, name) for name in ("loss", "position_error_m", "rotation_error_deg")
        }

    def __str__(self) -> str:
        return f"loss {self.loss:.4g}, {self.position_error_m:.3f} m, {self.rotation_error_deg:.2f} deg"


def validate(step: Callable, state: TrainState, pairs: PairSet, world_axes: bool) -> Validation:
    """Runs a validation step over the pairs; every one counts once.

    Args:
      step: from `step.make_validation_step`.
      world_axes: translations are differences of centres in world axes, not the camera's.
    """
    results, first = [], None
    for batch in pairs.loader.batches():
        result = jax_utils.unreplicate(step(state, inputs.shard(batch)))
        result = {name: np.asarray(x) for name, x in result.items()}
        if first is None:
            first = batch, result
        results.append({name: x[result["mask"]] for name, x in result.items()})
    merged = {name: np.concatenate([r[name] for r in results]) for name in results[0]}
    return Validation(
        loss=float(np.mean(merged["loss"])),
        position_error_m=float(np.median(merged["position_error"])),
        rotation_error_deg=float(np.degrees(np.median(merged["rotation_error"]))),
        pictures=_pictures(*first, pairs, world_axes),
    )


def _pictures(batch, result, pairs: PairSet, world_axes: bool) -> UInt8[np.ndarray, "h w 3"]:
    rows = np.flatnonzero(batch["mask"])[:NUM_PICTURES]
    both = np.stack([batch["db_from_query"][rows], result["predicted_wxyz_xyz"][rows]])
    if world_axes:
        both = _to_camera_axes(both, pairs, batch["pair_index"][rows])
    images = "db_image", "query_image", "db_intrinsics", "query_intrinsics"
    return np.concatenate(
        [
            draw_pair(*(batch[name][row] for name in images), *both[:, k])
            for k, row in enumerate(rows)
        ]
    )


def _to_camera_axes(
    wxyz_xyz: np.ndarray, pairs: PairSet, pair_index: np.ndarray
) -> np.ndarray:
    """Poses [2, n, 7] of pairs with their translations turned from world axes to the camera's."""
    rotations = np.stack(
        [
            pairs.scenes[pairs.pairs.scene[i]].world_from_cam[pairs.pairs.db[i], :3, :3]
            for i in pair_index
        ]
    )
    world_from_db = jaxlie.SE3.from_rotation(jaxlie.SO3.from_matrix(rotations))
    t = poses.to_camera_axes(world_from_db, wxyz_xyz[..., 4:])
    return np.concatenate([wxyz_xyz[..., :4], t], axis=-1)

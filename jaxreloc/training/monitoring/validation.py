"""Errors on the validation pairs, and pictures of a few of them.

What is measured goes by what is trained: poses by their errors, descriptors by their matches.
"""

import dataclasses
from collections.abc import Callable

import jaxlie
import numpy as np
import scipy.stats
from flax import jax_utils
from jaxtyping import Bool, Float, UInt8

from jaxreloc.geometry import poses
from jaxreloc.training.inputs import pair_inputs
from jaxreloc.training.inputs.matched_inputs import MatchedSet
from jaxreloc.training.inputs.pair_inputs import PairSet
from jaxreloc.training.monitoring.epipolar_lines import draw_pair
from jaxreloc.training.state import TrainState

NUM_PICTURES = 4


@dataclasses.dataclass(frozen=True)
class MatchValidation:
    """The mean loss over all validation pairs, and how many cells find their match.

    Attributes:
      coarse_accuracy: of the coarse cells that both images show, the share matched right.
    """

    loss: float
    coarse_accuracy: float
    pictures: None = None
    selected_by = "loss"

    def figures(self) -> dict[str, float]:
        """The numbers alone."""
        return {"loss": self.loss, "coarse_accuracy": self.coarse_accuracy}

    def __str__(self) -> str:
        return f"loss {self.loss:.4g}, {self.coarse_accuracy:.1%} of coarse cells matched right"


@dataclasses.dataclass(frozen=True)
class Validation:
    """The mean loss and the median errors over all validation pairs.

    Attributes:
      selected_by: the figure that the best network has least of.
      overlap_auc: of matched pairs, how often a pair that overlaps is given the higher probability
        of it than one that does not.
      pictures: of image pairs, a few with their epipolar lines, one below the other.
    """

    loss: float
    position_error_m: float
    rotation_error_deg: float
    overlap_auc: float | None = None
    pictures: UInt8[np.ndarray, "h w 3"] | None = None
    selected_by = "position_error_m"

    def figures(self) -> dict[str, float]:
        """The numbers alone."""
        names = "loss", "position_error_m", "rotation_error_deg", "overlap_auc"
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def __str__(self) -> str:
        shown = f"{self.position_error_m:.3f} m, {self.rotation_error_deg:.2f} deg"
        auc = "" if self.overlap_auc is None else f", overlap AUC {self.overlap_auc:.4f}"
        return f"loss {self.loss:.4g}, {shown}{auc}"


def validate(
    step: Callable, state: TrainState, pairs: PairSet | MatchedSet, world_axes: bool
) -> Validation | MatchValidation:
    """Runs a validation step over the pairs; every one counts once.

    The errors are of the pairs that overlap, as all image pairs do.

    Args:
      step: from `step.make_validation_step`.
      world_axes: translations are differences of centres in world axes, not the camera's.
    """
    results, first = [], None
    for batch in pairs.loader.batches():
        result = jax_utils.unreplicate(step(state, pair_inputs.shard(batch)))
        result = {name: np.asarray(x) for name, x in result.items()}
        if first is None:
            first = batch, result
        results.append({name: x[result["mask"]] for name, x in result.items()})
    merged = {name: np.concatenate([r[name] for r in results]) for name in results[0]}
    if "visible_cells" in merged:
        return MatchValidation(
            loss=float(np.mean(merged["loss"])),
            coarse_accuracy=float(merged["matched_cells"].sum() / merged["visible_cells"].sum()),
        )
    overlaps = merged.get("overlaps", merged["mask"])
    is_matched = "overlaps" in merged
    return Validation(
        loss=float(np.mean(merged["loss"])),
        position_error_m=float(np.median(merged["position_error"][overlaps])),
        rotation_error_deg=float(np.degrees(np.median(merged["rotation_error"][overlaps]))),
        overlap_auc=area_under_curve(merged["overlap_logit"], overlaps) if is_matched else None,
        pictures=None if is_matched else _pictures(*first, pairs, world_axes),
    )


def area_under_curve(score: Float[np.ndarray, " n"], positive: Bool[np.ndarray, " n"]) -> float:
    """The share of (positive, negative) pairs that `score` puts in order; ties count half.

    NaN where one kind is missing.
    """
    ranks = scipy.stats.rankdata(score)
    num_positive, num_negative = np.sum(positive), np.sum(~positive)
    if not num_positive or not num_negative:
        return float("nan")
    below = np.sum(ranks[positive]) - num_positive * (num_positive + 1) / 2
    return float(below / (num_positive * num_negative))


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

"""The task `pose`: a network regresses the relative pose of two images, as the paper's does."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import jaxlie
import ml_collections
import numpy as np
from jaxtyping import Array, Bool, UInt8

from jaxreloc.compilation.compiler_options import convolutions
from jaxreloc.geometry import errors, poses
from jaxreloc.models import RelativePose, SiameseNetwork, build_network, first_variables
from jaxreloc.models.weights import saved_network
from jaxreloc.training.inputs.pair_inputs import PairSet, load_pairs
from jaxreloc.training.losses import pose_losses
from jaxreloc.training.losses.pose_losses import Loss
from jaxreloc.training.monitoring.epipolar_lines import draw_pair
from jaxreloc.training.step import AXIS
from jaxreloc.training.tasks.task import Batch, Params, variables_of

NUM_PICTURES = 4


@dataclasses.dataclass(frozen=True)
class PoseResult:
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

    @classmethod
    def of(
        cls, measured: Mapping[str, np.ndarray], rows: Bool[np.ndarray, " n"] | slice, **others: Any
    ) -> "PoseResult":
        """Of the errors of all examples; the medians of `rows` alone."""
        return cls(
            loss=float(np.mean(measured["loss"])),
            position_error_m=float(np.median(measured["position_error"][rows])),
            rotation_error_deg=float(np.degrees(np.median(measured["rotation_error"][rows]))),
            **others,
        )

    def figures(self) -> dict[str, float]:
        """The numbers alone."""
        names = "loss", "position_error_m", "rotation_error_deg", "overlap_auc"
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def __str__(self) -> str:
        shown = f"{self.position_error_m:.3f} m, {self.rotation_error_deg:.2f} deg"
        auc = "" if self.overlap_auc is None else f", overlap AUC {self.overlap_auc:.4f}"
        return f"loss {self.loss:.4g}, {shown}{auc}"


@dataclasses.dataclass(frozen=True)
class PoseTask:
    """See `Task`.

    Attributes:
      world_axes: translations are differences of centres in world axes, not the camera's.
    """

    network: SiameseNetwork
    loss: Loss
    world_axes: bool = False

    compiler_options = staticmethod(convolutions)

    @classmethod
    def of_config(cls, config: ml_collections.ConfigDict) -> "PoseTask":
        """The task that a config describes."""
        network = build_network(config.model, axis_name=AXIS)
        world_axes = config.data.translation_frame == "world"
        return cls(network, pose_losses.build_loss(config.loss), world_axes)

    def load(
        self, config: ml_collections.ConfigDict, say: Callable[[str], None]
    ) -> tuple[PairSet, PairSet]:
        """See `load_pairs`."""
        return load_pairs(config)

    def first_variables(self, config: ml_collections.ConfigDict) -> dict[str, Any]:
        """From where `config.model` says."""
        return first_variables(config.model, self.network, jax.random.key(config.seed))

    def losses(self, params: Params, batch_stats: Any, batch: Batch):
        """With the statistics of this batch, which change the running ones."""
        predicted, updates = self.network.apply(
            variables_of(params, batch_stats), *_images(batch), True, mutable=["batch_stats"]
        )
        per_example, parts = self.loss.of_batch(params["loss"], predicted, batch)
        return per_example, parts, updates.get("batch_stats", batch_stats)

    def errors(self, params: Params, batch_stats: Any, batch: Batch) -> dict[str, Array]:
        """Of the poses, see `pose_errors`."""
        predicted = self.network.apply(variables_of(params, batch_stats), *_images(batch), False)
        per_example, _ = self.loss.of_batch(params["loss"], predicted, batch)
        return {"loss": per_example} | pose_errors(predicted, batch)

    def result(
        self, measured: Mapping[str, np.ndarray], examples: PairSet, first: Batch
    ) -> PoseResult:
        """Medians, and pictures of the first pairs."""
        return PoseResult.of(
            measured,
            slice(None),
            pictures=_pictures(
                first, measured["predicted_wxyz_xyz"], examples, self.world_axes
            ),
        )

    def save(
        self, folder: pathlib.Path, config: ml_collections.ConfigDict, variables: dict[str, Any]
    ) -> None:
        """See `saved_network.save_network`."""
        saved_network.save_network(folder, config, variables)


def pose_errors(predicted: RelativePose, batch: Batch) -> dict[str, Array]:
    """`position_error` (metres), `rotation_error` (radians), and what was predicted."""
    q_wxyz = predicted.q_wxyz / pose_losses.norm(predicted.q_wxyz)[..., None]
    pose = jaxlie.SE3(jnp.concatenate([q_wxyz, predicted.t], axis=-1))
    true_pose = jaxlie.SE3(batch["db_from_query"])
    return {
        "position_error": errors.position_error(pose, true_pose),
        "rotation_error": errors.rotation_error(pose.rotation(), true_pose.rotation()),
        "predicted_wxyz_xyz": pose.wxyz_xyz,
    }


def _images(batch: Batch) -> tuple[Array, ...]:
    names = "db_image", "query_image", "db_intrinsics", "query_intrinsics"
    return tuple(batch[name] for name in names)


def _pictures(
    batch: Batch, predicted: np.ndarray, pairs: PairSet, world_axes: bool
) -> UInt8[np.ndarray, "h w 3"]:
    rows = np.flatnonzero(batch["mask"])[:NUM_PICTURES]
    both = np.stack([batch["db_from_query"][rows], predicted[: len(rows)]])
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

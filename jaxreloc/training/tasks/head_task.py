"""The task `head`: the paper's pair head learns on the features of a frozen backbone."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jaxtyping import Array

from jaxreloc.compilation.compiler_options import convolutions
from jaxreloc.models import SiameseNetwork, build_network, first_variables
from jaxreloc.models.backbones.features import Features
from jaxreloc.models.weights import saved_network
from jaxreloc.training.inputs.pair_inputs import PairSet
from jaxreloc.training.inputs.views.view_inputs import load_view_pairs
from jaxreloc.training.losses import pose_losses
from jaxreloc.training.losses.pose_losses import Loss
from jaxreloc.training.step import AXIS
from jaxreloc.training.tasks.pose_task import PoseResult, pose_errors
from jaxreloc.training.tasks.task import Batch, Params, variables_of


@dataclasses.dataclass(frozen=True)
class HeadTask:
    """See `Task`; the backbone is no part of a step, since its features are inputs."""

    network: SiameseNetwork
    loss: Loss

    compiler_options = staticmethod(convolutions)

    @classmethod
    def of_config(cls, config: ml_collections.ConfigDict) -> "HeadTask":
        """The task that a config describes."""
        network = build_network(config.model, axis_name=AXIS)
        return cls(network, pose_losses.build_loss(config.loss))

    def load(
        self, config: ml_collections.ConfigDict, say: Callable[[str], None]
    ) -> tuple[PairSet, PairSet]:
        """See `load_view_pairs`; weights that do not fit are said before minutes of features."""
        if config.model.get("start_from") is not None:
            self.first_variables(config)
        return load_view_pairs(config, say)

    def first_variables(self, config: ml_collections.ConfigDict) -> dict[str, Any]:
        """From where `config.model` says."""
        return first_variables(config.model, self.network, jax.random.key(config.seed))

    def losses(self, params: Params, batch_stats: Any, batch: Batch):
        """With the statistics of this batch, which change the head's running ones."""
        predicted, updates = self._relate(params, batch_stats, batch, train=True)
        per_example, parts = self.loss.of_batch(params["loss"], predicted, batch)
        return per_example, parts, updates["batch_stats"]

    def errors(self, params: Params, batch_stats: Any, batch: Batch) -> dict[str, Array]:
        """Of the poses, see `pose_errors`."""
        predicted, _ = self._relate(params, batch_stats, batch, train=False)
        per_example, _ = self.loss.of_batch(params["loss"], predicted, batch)
        return {"loss": per_example} | pose_errors(predicted, batch)

    def result(
        self, measured: Mapping[str, np.ndarray], examples: PairSet, first: Batch
    ) -> PoseResult:
        """Medians."""
        return PoseResult.of(measured, slice(None))

    def save(
        self, folder: pathlib.Path, config: ml_collections.ConfigDict, variables: dict[str, Any]
    ) -> None:
        """See `saved_network.save_network`."""
        saved_network.save_network(folder, config, variables)

    def _relate(self, params: Params, batch_stats: Any, batch: Batch, train: bool):
        db, query = (
            _as_features(batch[name].astype(jnp.float32))
            for name in ("db_features", "query_features")
        )
        intrinsics = jnp.broadcast_to(jnp.eye(3), (len(batch["mask"]), 3, 3))  # unused by the head
        return self.network.apply(
            variables_of(params, batch_stats),
            *(db, query, intrinsics, intrinsics, train),
            method="relate",
            mutable=["batch_stats"],
        )


def _as_features(seen: Array) -> Features:
    """Of what the head sees of images, see `seen_by_head`."""
    if seen.ndim == 2:
        return Features(seen, {})
    return Features(jnp.mean(seen, axis=(1, 2)), {"cells": seen})

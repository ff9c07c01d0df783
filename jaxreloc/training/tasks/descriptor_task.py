"""The task `descriptors`: cells are described so that true matches are alike."""

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
from jaxreloc.models.matching import descriptors
from jaxreloc.models.weights import saved_network
from jaxreloc.training.inputs.depth_inputs import load_depth_pairs
from jaxreloc.training.inputs.pair_inputs import PairSet
from jaxreloc.training.losses import descriptor_losses
from jaxreloc.training.losses.pose_losses import Loss
from jaxreloc.training.step import AXIS
from jaxreloc.training.tasks.task import Batch, Params, variables_of


@dataclasses.dataclass(frozen=True)
class DescriptorResult:
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
class DescriptorTask:
    """See `Task`; the backbone is left as it is."""

    network: SiameseNetwork
    loss: Loss

    compiler_options = staticmethod(convolutions)

    @classmethod
    def of_config(cls, config: ml_collections.ConfigDict) -> "DescriptorTask":
        """The task that a config describes."""
        network = build_network(config.model, axis_name=AXIS)
        return cls(network, descriptor_losses.build_loss(config.loss))

    def load(
        self, config: ml_collections.ConfigDict, say: Callable[[str], None]
    ) -> tuple[PairSet, PairSet]:
        """See `load_depth_pairs`."""
        return load_depth_pairs(config)

    def first_variables(self, config: ml_collections.ConfigDict) -> dict[str, Any]:
        """From where `config.model` says."""
        return first_variables(config.model, self.network, jax.random.key(config.seed))

    def losses(self, params: Params, batch_stats: Any, batch: Batch):
        """Of the descriptors of both images."""
        described = self._describe(params, batch_stats, batch)
        return *self.loss.of_batch(params["loss"], described, batch), batch_stats

    def errors(self, params: Params, batch_stats: Any, batch: Batch) -> dict[str, Array]:
        """`matched_cells` of `visible_cells`, see `coarse_matches`."""
        described = self._describe(params, batch_stats, batch)
        per_example, _ = self.loss.of_batch(params["loss"], described, batch)
        matched, visible = descriptor_losses.coarse_matches(described, batch)
        return {"loss": per_example, "matched_cells": matched, "visible_cells": visible}

    def result(
        self, measured: Mapping[str, np.ndarray], examples: PairSet, first: Batch
    ) -> DescriptorResult:
        """Over the cells of all pairs."""
        return DescriptorResult(
            loss=float(np.mean(measured["loss"])),
            coarse_accuracy=float(
                measured["matched_cells"].sum() / max(measured["visible_cells"].sum(), 1)
            ),
        )

    def save(
        self, folder: pathlib.Path, config: ml_collections.ConfigDict, variables: dict[str, Any]
    ) -> None:
        """See `saved_network.save_network`."""
        saved_network.save_network(folder, config, variables)

    def _describe(self, params: Params, batch_stats: Any, batch: Batch):
        """The descriptors of the database images and of the queries."""
        images = jnp.concatenate([batch["db_image"], batch["query_image"]])
        variables = variables_of(params, batch_stats)
        features = self.network.apply(variables, images, method="encode")
        features = jax.lax.stop_gradient(features)
        cells = self.network.apply(variables, features, method="describe")
        cells = descriptors.without_canvas(cells, images)
        count = len(batch["db_image"])
        halves = np.s_[:count], np.s_[count:]
        return tuple(jax.tree.map(lambda x, half=half: x[half], cells) for half in halves)

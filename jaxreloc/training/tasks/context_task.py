"""The task `context`: coarse cells are matched in the light of both images."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jaxtyping import Array

from jaxreloc.models import SiameseNetwork, build_network, first_variables
from jaxreloc.models.matching.context.context_matching import (
    CoarseGrid,
    ContextScores,
    cell_rays,
)
from jaxreloc.models.matching.descriptors import COARSE_STRIDE, DETAIL_STRIDE, unit_vectors
from jaxreloc.models.matching.learned_description import FINE_SIZE
from jaxreloc.models.weights import saved_network
from jaxreloc.training.inputs.cells.cell_inputs import load_cell_pairs
from jaxreloc.training.inputs.pair_inputs import PairSet
from jaxreloc.training.losses import context_losses
from jaxreloc.training.losses.pose_losses import Loss
from jaxreloc.training.step import AXIS
from jaxreloc.training.tasks.task import Batch, Params, variables_of


@dataclasses.dataclass(frozen=True)
class ContextResult:
    """Means over all validation pairs, and shares of all their cells.

    Attributes:
      accuracy: of the queries' cells that both images show, the share whose most probable match is
        right, to within a cell along each axis.
      plain_accuracy: the same by the descriptors alone.
      none_accuracy: of the cells that one image shows, the share held to be so.
    """

    loss: float
    accuracy: float
    plain_accuracy: float
    none_accuracy: float
    pictures: None = None
    selected_by = "loss"

    def figures(self) -> dict[str, float]:
        """The numbers alone."""
        names = "loss", "accuracy", "plain_accuracy", "none_accuracy"
        return {name: getattr(self, name) for name in names}

    def __str__(self) -> str:
        return (
            f"loss {self.loss:.4g}, {self.accuracy:.1%} of coarse cells matched right, "
            f"{self.plain_accuracy:.1%} without context; {self.none_accuracy:.1%} of those "
            "without a match known as such"
        )


@dataclasses.dataclass(frozen=True)
class ContextTask:
    """See `Task`; neither the backbone nor the description is part of a step."""

    network: SiameseNetwork
    loss: Loss

    compiler_options = staticmethod(dict)

    @classmethod
    def of_config(cls, config: ml_collections.ConfigDict) -> "ContextTask":
        """The task that a config describes."""
        network = build_network(config.model, axis_name=AXIS)
        return cls(network, context_losses.build_loss(config.loss))

    def load(
        self, config: ml_collections.ConfigDict, say: Callable[[str], None]
    ) -> tuple[PairSet, PairSet]:
        """See `load_cell_pairs`."""
        return load_cell_pairs(config, say)

    def first_variables(self, config: ml_collections.ConfigDict) -> dict[str, Any]:
        """From where `config.model` says."""
        return first_variables(config.model, self.network, jax.random.key(config.seed))

    def losses(self, params: Params, batch_stats: Any, batch: Batch):
        """Of the scores of all pairs of cells; there are no batch statistics."""
        scores = self._scores(params, batch_stats, batch)
        return *self.loss.of_batch(params["loss"], scores, batch), batch_stats

    def errors(self, params: Params, batch_stats: Any, batch: Batch) -> dict[str, Array]:
        """How many cells are matched right, of how many."""
        scores = self._scores(params, batch_stats, batch)
        per_example, _ = self.loss.of_batch(params["loss"], scores, batch)
        true, hidden = context_losses.outcomes(batch, "query", "db")
        query, db = (unit_vectors(batch[f"{x}_coarse"]) for x in ("query", "db"))
        cosine = jnp.einsum("bijc,bklc->bijkl", query, db)
        counts = {
            "matched": _right(scores.logits, true),
            "plain": _right(cosine.reshape(scores.logits.shape), true),
            "visible": true.visible.reshape(scores.query_none.shape),
            "none": (scores.query_none > jnp.max(scores.logits, axis=2))
            & hidden.reshape(scores.query_none.shape),
            "hidden": hidden.reshape(scores.query_none.shape),
        }
        return {"loss": per_example} | {name: jnp.sum(x, axis=1) for name, x in counts.items()}

    def result(
        self, measured: Mapping[str, np.ndarray], examples: PairSet, first: Batch
    ) -> ContextResult:
        """Over the cells of all pairs."""
        total = {name: max(int(x.sum()), 1) for name, x in measured.items() if name != "loss"}
        return ContextResult(
            loss=float(np.mean(measured["loss"])),
            accuracy=total["matched"] / total["visible"],
            plain_accuracy=total["plain"] / total["visible"],
            none_accuracy=total["none"] / total["hidden"],
        )

    def save(
        self, folder: pathlib.Path, config: ml_collections.ConfigDict, variables: dict[str, Any]
    ) -> None:
        """See `saved_network.save_network`."""
        saved_network.save_network(folder, config, variables)

    def _scores(self, params: Params, batch_stats: Any, batch: Batch) -> ContextScores:
        db, query = (_grid(batch, name) for name in ("db", "query"))
        variables = variables_of(params, batch_stats)
        return self.network.apply(variables, db, query, method="in_context")


def _grid(batch: Batch, name: str) -> CoarseGrid:
    coarse = batch[f"{name}_coarse"]
    pitch = batch[f"{name}_depth"].shape[1] * DETAIL_STRIDE // COARSE_STRIDE // coarse.shape[1]
    intrinsics = batch[f"{name}_intrinsics"]
    rays = cell_rays(coarse.shape[1:3], intrinsics, pitch, batch[f"{name}_origin"])
    cells = batch[f"{name}_fine"].reshape(len(coarse), -1, 4, FINE_SIZE)
    fine = unit_vectors(cells).reshape(*coarse.shape[:3], -1)
    return CoarseGrid(unit_vectors(coarse), fine, rays)


def _right(likeness: Array, true) -> Array:
    """Whether the likeliest of the database's cells [B, n, m] is the true one or next to it."""
    width = true.visible.shape[2]
    cells = jnp.stack(jnp.divmod(jnp.argmax(likeness, axis=-1), width), axis=-1)
    near = jnp.abs(cells - true.db_cells.reshape(*cells.shape)) <= 1
    return jnp.all(near, axis=-1) & true.visible.reshape(cells.shape[:2])

"""The task `matches`: the head reads the relative pose, and how sure it is, from matches."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jaxlie
import ml_collections
import numpy as np
import scipy.stats
from jaxtyping import Array, Bool, Float

from jaxreloc.compilation.compiler_options import convolutions
from jaxreloc.models import SiameseNetwork, build_network, first_variables
from jaxreloc.models.matching.rays import RayMatches
from jaxreloc.models.weights import saved_network
from jaxreloc.training.inputs.match_augmentation import MatchAugmentation
from jaxreloc.training.inputs.matched_inputs import MatchedSet, load_matched_pairs
from jaxreloc.training.losses import correlation_losses
from jaxreloc.training.losses.pose_losses import Loss
from jaxreloc.training.step import AXIS
from jaxreloc.training.tasks.pose_task import PoseResult, pose_errors
from jaxreloc.training.tasks.task import Batch, Params, variables_of


@dataclasses.dataclass(frozen=True)
class MatchTask:
    """See `Task`.

    Attributes:
      augmentation: of the matches of a training batch.
    """

    network: SiameseNetwork
    loss: Loss
    augmentation: MatchAugmentation | None = None

    compiler_options = staticmethod(convolutions)

    @classmethod
    def of_config(cls, config: ml_collections.ConfigDict) -> "MatchTask":
        """The task that a config describes."""
        network = build_network(config.model, axis_name=AXIS)
        loss = correlation_losses.build_loss(config.loss)
        return cls(network, loss, MatchAugmentation(**config.data.augmentation))

    def load(
        self, config: ml_collections.ConfigDict, say: Callable[[str], None]
    ) -> tuple[MatchedSet, MatchedSet]:
        """See `load_matched_pairs`."""
        return load_matched_pairs(config, say)

    def first_variables(self, config: ml_collections.ConfigDict) -> dict[str, Any]:
        """From where `config.model` says."""
        return first_variables(config.model, self.network, jax.random.key(config.seed))

    def losses(self, params: Params, batch_stats: Any, batch: Batch):
        """Of the augmented matches; the head has no batch statistics."""
        if self.augmentation is not None:
            batch = _augmented(batch, self.augmentation)
        predicted = self._regress(params, batch_stats, batch)
        return *self.loss.of_batch(params["loss"], predicted, batch), batch_stats

    def errors(self, params: Params, batch_stats: Any, batch: Batch) -> dict[str, Array]:
        """As of poses, besides whether the images overlap and the logit of it."""
        predicted = self._regress(params, batch_stats, batch)
        per_example, _ = self.loss.of_batch(params["loss"], predicted, batch)
        logit = predicted.reliability.overlap_logit
        overlap = {"overlaps": batch["overlaps"], "overlap_logit": logit}
        return {"loss": per_example} | overlap | pose_errors(predicted, batch)

    def result(
        self, measured: Mapping[str, np.ndarray], examples: MatchedSet, first: Batch
    ) -> PoseResult:
        """Medians over the pairs that overlap."""
        overlaps = measured["overlaps"]
        return PoseResult.of(
            measured,
            overlaps,
            overlap_auc=area_under_curve(measured["overlap_logit"], overlaps),
        )

    def save(
        self, folder: pathlib.Path, config: ml_collections.ConfigDict, variables: dict[str, Any]
    ) -> None:
        """See `saved_network.save_network`."""
        saved_network.save_network(folder, config, variables)

    def _regress(self, params: Params, batch_stats: Any, batch: Batch):
        matches = RayMatches(**batch["matches"])
        return self.network.apply(variables_of(params, batch_stats), matches, method="regress")


def _augmented(batch: Batch, augmentation: MatchAugmentation) -> Batch:
    matches, pose = augmentation(
        RayMatches(**batch["matches"]), jaxlie.SE3(batch["db_from_query"]), batch["draw"]
    )
    fields = {name: getattr(matches, name) for name in batch["matches"]}
    return {**batch, "matches": fields, "db_from_query": pose.wxyz_xyz}


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

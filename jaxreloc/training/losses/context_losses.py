"""Loss of the matching in context: how probable the true outcomes are.

A cell that the other image shows (`true_matches`) has its match as outcome, a target between cells
being the four nearest ones by their bilinear weights; one that it does not show has none. Cells at
edges, of which some corners are shown, or whose depth is not known, do not count. Parts, per pair,
each the mean of the queries' cells and of the database's:
  matched  the cross entropy of the cells that the other image shows, at most MAX_LOSS each,
  none     of those that it does not show.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import jaxlie
import ml_collections
from jaxtyping import Array, Bool, Float, Int, Shaped

from jaxreloc.models.matching.context.context_matching import ContextScores
from jaxreloc.models.matching.descriptors import COARSE_STRIDE, DETAIL_STRIDE
from jaxreloc.training.losses.descriptor_losses import MIN_CELLS, nearest_four
from jaxreloc.training.losses.true_matches import TrueMatches, coarser, true_matches

MAX_LOSS = 12.0  # of one cell; depth at edges is not always right


@dataclasses.dataclass(frozen=True)
class ContextLoss:
    """The weight of the part `none`; that of `matched` is one."""

    none: float = 0.3

    part_names: ClassVar[tuple[str, ...]] = ("matched", "none")

    def init(self) -> dict[str, Float[Array, ""]]:
        """The loss's own parameters: none."""
        return {}

    def of_batch(
        self, own: dict, scores: ContextScores, batch: Mapping[str, Array]
    ) -> tuple[Float[Array, "B"], dict[str, Float[Array, "B"]]]:
        """The loss of each pair and its unweighted parts.

        Args:
          batch: as `CellLoader` gives it.
        """
        del own
        of_query, of_db = (outcomes(batch, *x) for x in (("query", "db"), ("db", "query")))
        parts = (
            _side(scores.logits, scores.of_query(), scores.query_none, of_query, 2),
            _side(scores.logits, scores.of_db(), scores.db_none, of_db, 1),
        )
        matched, none = (sum(x) / 2 for x in zip(*parts, strict=True))
        return matched + self.none * none, {"matched": matched, "none": none}


def build_loss(config: ml_collections.ConfigDict) -> ContextLoss:
    """The loss that `config.loss` describes."""
    return ContextLoss(**config.to_dict())


def outcomes(
    batch: Mapping[str, Array], of: str, to: str
) -> tuple[TrueMatches, Bool[Array, "B h w"]]:
    """Where the coarse cells of `of` lie in `to`, and which of them it surely does not show.

    Of a thinned batch, the cells that it has, and where they lie among those.
    """
    pose = batch["db_from_query"]
    if to == "query":
        pose = jax.vmap(lambda x: jaxlie.SE3(x).inverse().wxyz_xyz)(pose)
    matches = true_matches(
        *(batch[f"{name}_depth"] for name in (of, to)),
        *(batch[f"{name}_intrinsics"] for name in (of, to)),
        jaxlie.SE3(pose),
    )
    factor = COARSE_STRIDE // DETAIL_STRIDE
    first = factor // 2 - 1
    corners = [(first + i, first + j) for i in (0, 1) for j in (0, 1)]
    known = batch[f"{of}_depth"] > 0
    hidden = [(known & ~matches.visible)[:, i::factor, j::factor] for i, j in corners]
    hidden = hidden[0] & hidden[1] & hidden[2] & hidden[3]
    coarse = coarser(matches, COARSE_STRIDE)
    pitch = hidden.shape[1] // batch[f"{of}_coarse"].shape[1]
    if pitch == 1:
        return coarse, hidden
    kept = functools.partial(_kept, origin=batch[f"{of}_origin"], pitch=pitch)
    first_there = batch[f"{to}_origin"][:, None, None].astype(jnp.float32)
    thinned = TrueMatches((kept(coarse.db_cells) - first_there) / pitch, kept(coarse.visible))
    return thinned, kept(hidden)


def _kept(grid: Shaped[Array, "B h w *C"], origin: Int[Array, "B 2"], pitch: int) -> Array:
    """Every `pitch`-th row and column from `origin` on."""
    for axis in (1, 2):
        size = grid.shape[axis] // pitch
        index = origin[:, axis - 1, None] + pitch * jnp.arange(size).reshape(1, -1)
        shape = [len(grid), *[1] * (grid.ndim - 1)]
        shape[axis] = size
        grid = jnp.take_along_axis(grid, index.reshape(shape), axis=axis)
    return grid


def _side(
    logits: Float[Array, "B n m"],
    normaliser: Float[Array, "B k"],
    none: Float[Array, "B k"],
    outcome: tuple[TrueMatches, Bool[Array, "B h w"]],
    axis: int,
) -> tuple[Float[Array, "B"], Float[Array, "B"]]:
    """The mean losses of the k cells of one image of each pair; both grids have one shape.

    Args:
      axis: of the other image's cells in `logits`.
    """
    true, hidden = outcome
    batch, *shape = hidden.shape
    index, weight = nearest_four(true.db_cells.reshape(-1, 2), tuple(shape))
    index, weight = (x.reshape(batch, -1, 4) for x in (index, weight))
    if axis == 1:
        index = jnp.swapaxes(index, 1, 2)
    found = jnp.take_along_axis(logits, index, axis=axis)
    found = found if axis == 2 else jnp.swapaxes(found, 1, 2)
    of_cell = jnp.minimum(normaliser - jnp.sum(weight * found, axis=2), MAX_LOSS)
    of_none = jnp.minimum(normaliser - none, MAX_LOSS)
    return _mean(of_cell, true.visible), _mean(of_none, hidden)


def _mean(values: Float[Array, "B n"], counted: Bool[Array, "B h w"]) -> Float[Array, "B"]:
    counted = counted.reshape(values.shape)
    total = jnp.sum(jnp.where(counted, values, 0.0), axis=1)
    return total / jnp.maximum(jnp.sum(counted, axis=1), MIN_CELLS)

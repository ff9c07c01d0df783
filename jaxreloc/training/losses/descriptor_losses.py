"""Loss of the cell descriptors: how probable the true matches are under the matching.

Parts, per pair, means over the query's cells that the database image shows (`true_matches`); a
target between cells is the four nearest ones by their bilinear weights:
  coarse  the cross entropy of the match among all cells of the database image, and of the query's
          cell among all of the query's, with probabilities `softmax(T s)` of cosines s; their mean.
  fine    the cross entropy within the window that the matching would compare, about a coarse match
          that is right or a cell off.
  detail  the same among the displacements that the refinement tries, from a start off by
          START_STD_CELLS.
  fine_offset, detail_offset
          the distance of the expectation over window or displacements from the target, in cells,
          at most MAX_OFFSET.
Pairs that share little weigh less: the sums are divided by MIN_CELLS cells at least.
"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import jaxlie
import ml_collections
import numpy as np
from jaxtyping import Array, Float, Int

from jaxreloc.models.matching import refinement
from jaxreloc.models.matching.descriptors import COARSE_STRIDE, FINE_STRIDE, CellDescriptors
from jaxreloc.models.matching.learned_description import LEARNED_SETTINGS
from jaxreloc.models.matching.patches import cell_patches
from jaxreloc.training.losses.true_matches import TrueMatches, coarser, true_matches

MAX_COARSE_LOSS = 12.0  # of one cell; depth at edges is not always right
MAX_OFFSET = 2.0
START_STD_CELLS = 0.9
MIN_CELLS = 15
FINE_CELLS = 160  # drawn of each pair


@dataclasses.dataclass(frozen=True)
class DescriptorLoss:
    """Weights of the parts; the coarse one's is one."""

    fine: float = 0.5
    fine_offset: float = 0.5
    detail: float = 0.3
    detail_offset: float = 1.0

    part_names: ClassVar[tuple[str, ...]] = (
        "coarse",
        "fine",
        "fine_offset",
        "detail",
        "detail_offset",
    )

    def init(self) -> dict[str, Float[Array, ""]]:
        """The loss's own parameters: none."""
        return {}

    def of_batch(
        self,
        own: dict,
        descriptors: tuple[CellDescriptors, CellDescriptors],
        batch: Mapping[str, Array],
    ) -> tuple[Float[Array, "B"], dict[str, Float[Array, "B"]]]:
        """The loss of each pair and its unweighted parts.

        Args:
          descriptors: the database images' and the queries'.
          batch: `db_depth`, `query_depth`, intrinsics, `db_from_query` (`wxyz_xyz`), and `draw`,
            uint32 [B], which seeds what is drawn.
        """
        del own
        keys = jax.vmap(jax.random.key)(batch["draw"])
        parts = jax.vmap(_pair_parts)(*descriptors, _true_matches(batch), keys)
        weights = {"coarse": 1.0} | dataclasses.asdict(self)
        return sum(weights[name] * x for name, x in parts.items()), parts


def build_loss(config: ml_collections.ConfigDict) -> DescriptorLoss:
    """The loss that `config.loss` describes."""
    return DescriptorLoss(**config.to_dict())


def coarse_matches(
    descriptors: tuple[CellDescriptors, CellDescriptors], batch: Mapping[str, Array]
) -> tuple[Int[Array, "B"], Int[Array, "B"]]:
    """How many coarse cells have their best match where it belongs, of those both images show.

    Returns:
      The number of the cells matched right, to within a cell along each axis, and of all.
    """
    db, query = (x.coarse for x in descriptors)
    true = coarser(_true_matches(batch), COARSE_STRIDE)
    cosine = jnp.einsum("bijd,bkld->bijkl", query, db)
    best = jnp.argmax(cosine.reshape(*cosine.shape[:3], -1), axis=-1)
    cells = jnp.stack(jnp.divmod(best, db.shape[2]), axis=-1)
    right = jnp.all(jnp.abs(cells - true.db_cells) <= 1, axis=-1) & true.visible
    return jnp.sum(right, axis=(1, 2)), jnp.sum(true.visible, axis=(1, 2))


def _true_matches(batch: Mapping[str, Array]) -> TrueMatches:
    return true_matches(
        batch["query_depth"],
        batch["db_depth"],
        batch["query_intrinsics"],
        batch["db_intrinsics"],
        jaxlie.SE3(batch["db_from_query"]),
    )


def _pair_parts(
    db: CellDescriptors, query: CellDescriptors, matches: TrueMatches, key: Array
) -> dict[str, Float[Array, ""]]:
    matches = jax.tree.map(lambda x: x[None], matches)
    coarse, fine = (
        jax.tree.map(lambda x: x[0], coarser(matches, stride))
        for stride in (COARSE_STRIDE, FINE_STRIDE)
    )
    parts = {"coarse": _coarse_loss(db.coarse, query.coarse, coarse)}
    choice, window, start = jax.random.split(key, 3)
    drawn = _draw(fine, choice)
    parts["fine"], parts["fine_offset"] = _fine_losses(db, query, drawn, window)
    parts["detail"], parts["detail_offset"] = _detail_losses(db, query, drawn, start)
    return parts


class _Drawn(NamedTuple):
    """Fine cells of a query and where they lie, fractional, in the database image's fine grid."""

    cells: Int[Array, "n 2"]
    db_cells: Float[Array, "n 2"]
    weight: Float[Array, "n"]  # 0 where there are not enough


def _draw(true: TrueMatches, key: Array) -> _Drawn:
    visible = true.visible.reshape(-1)
    order = visible + jax.random.uniform(key, visible.shape)
    value, index = jax.lax.top_k(order, min(FINE_CELLS, visible.size))
    cells = jnp.stack(jnp.divmod(index, true.visible.shape[1]), axis=-1)
    return _Drawn(
        cells=cells,
        db_cells=true.db_cells.reshape(-1, 2)[index],
        weight=(value >= 1).astype(jnp.float32),
    )


def _coarse_loss(db: Array, query: Array, true: TrueMatches) -> Float[Array, ""]:
    temperature = LEARNED_SETTINGS.coarse_temperature
    size = query.shape[-1]
    logits = temperature * query.reshape(-1, size) @ db.reshape(-1, size).T
    both = jax.nn.log_softmax(logits, axis=1) + jax.nn.log_softmax(logits, axis=0)
    index, weight = nearest_four(true.db_cells.reshape(-1, 2), db.shape[:2])
    of_cell = -0.5 * jnp.sum(weight * jnp.take_along_axis(both, index, axis=1), axis=1)
    return _mean(jnp.minimum(of_cell, MAX_COARSE_LOSS), true.visible.reshape(-1))


def _fine_losses(db: CellDescriptors, query: CellDescriptors, drawn: _Drawn, key: Array):
    settings = LEARNED_SETTINGS
    extent = jnp.array(db.fine.shape[:2]).reshape(1, 2)
    error_key, off_key = jax.random.split(key)
    count = len(drawn.cells)
    error = jax.random.randint(error_key, (count, 2), -1, 2)
    off = jax.random.bernoulli(off_key, shape=(count, 1))
    coarse = jnp.round((drawn.db_cells - 0.5) / 2).astype(jnp.int32) + error * off
    corner = jnp.clip(2 * coarse + 1 - settings.window // 2, 0, extent - settings.window)
    query_cells = cell_patches(query.fine, drawn.cells, 1)[:, 0]
    window = cell_patches(db.fine, corner, settings.window)
    logits = settings.fine_temperature * jnp.einsum("nd,nkd->nk", query_cells, window)
    target = drawn.db_cells - corner
    return _expectation_losses(logits, target, settings.window, drawn.weight)


def _detail_losses(db: CellDescriptors, query: CellDescriptors, drawn: _Drawn, key: Array):
    target = 2 * drawn.db_cells
    noise = START_STD_CELLS * jax.random.normal(key, target.shape)
    extent = jnp.array(db.detail.shape[:2]).reshape(1, 2)
    start = jnp.clip(jnp.round(target + noise).astype(jnp.int32), 0, extent - 1)
    scores = refinement.displacement_scores(
        query.detail, db.detail, 2 * drawn.cells, start, LEARNED_SETTINGS.detail_patch
    )
    side = 2 * refinement.RADIUS + 1
    target = target - start + refinement.RADIUS
    return _expectation_losses(refinement.TEMPERATURE * scores, target, side, drawn.weight)


def _expectation_losses(
    logits: Float[Array, "n K"], target: Float[Array, "n 2"], side: int, weight: Float[Array, "n"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Cross entropy and offset of matches in squares of cells; targets outside do not count."""
    weight = weight * jnp.all((target >= 0) & (target <= side - 1), axis=-1)
    log_p = jax.nn.log_softmax(logits, axis=-1)
    index, share = nearest_four(target, (side, side))
    entropy = -jnp.sum(share * jnp.take_along_axis(log_p, index, axis=1), axis=1)
    cells = np.stack(np.divmod(np.arange(side * side), side), axis=-1).astype(np.float32)
    offset = jnp.exp(log_p) @ cells - target
    distance = jnp.sqrt(jnp.sum(jnp.square(offset), axis=-1) + 1e-4)
    return _mean(entropy, weight), _mean(jnp.minimum(distance, MAX_OFFSET), weight)


def nearest_four(
    target: Float[Array, "n 2"], extent: tuple[int, int]
) -> tuple[Int[Array, "n 4"], Float[Array, "n 4"]]:
    """The flat indices of the four cells around a point (row, column) and their bilinear shares."""
    height, width = extent
    target = jnp.clip(target, 0.0, jnp.array([[height - 1.001, width - 1.001]]))
    first = jnp.floor(target).astype(jnp.int32)
    rest = target - first
    index, share = [], []
    for i in (0, 1):
        for j in (0, 1):
            index.append((first[:, 0] + i) * width + first[:, 1] + j)
            down, right = (rest[:, k] if on else 1 - rest[:, k] for k, on in ((0, i), (1, j)))
            share.append(down * right)
    return jnp.stack(index, axis=-1), jnp.stack(share, axis=-1)


def _mean(values: Float[Array, "n"], weight: Array) -> Float[Array, ""]:
    weight = weight.astype(jnp.float32)
    # What does not count may be infinite: a cell behind the camera has no place.
    total = jnp.sum(jnp.where(weight > 0, values, 0.0) * weight)
    return total / jnp.maximum(jnp.sum(weight), MIN_CELLS)

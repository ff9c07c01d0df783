"""The pairs of described pictures that the context is trained on, as `config.data` says."""

import pathlib
from collections.abc import Callable, Iterator, Sequence

import jax
import ml_collections
import numpy as np

from jaxreloc.data.pairing.mined_pairs import Pairs, mine_pairs, wxyz_xyz
from jaxreloc.data.pairing.pair_target import Bins, PairTarget
from jaxreloc.data.upright import held_upright
from jaxreloc.formats.rigid_arrays import inverse
from jaxreloc.models.weights import network_weights
from jaxreloc.training.inputs.batch_plan import BatchPlan
from jaxreloc.training.inputs.cells.cell_features import CellFeatures, cell_features
from jaxreloc.training.inputs.depth_inputs import load_scenes
from jaxreloc.training.inputs.matched_inputs import matcher
from jaxreloc.training.inputs.pair_inputs import PairSet
from jaxreloc.usage import UsageError

# Whatever shares a little, most of it less than two fifths.
WIDE = PairTarget(
    rotation_deg=Bins((0, 20, 40, 60, 90, 120, 181), (1, 1, 1, 1, 0.7, 0.3)),
    baseline_m=Bins((1e-9, 0.3, 1.0, 10.0), (0.6, 1.2, 1)),
    overlap=Bins((0.03, 0.1, 0.2, 0.4, 1.01), (0.8, 1.2, 1.2, 0.8)),
)


class CellLoader:
    """Iterates batches of pairs, dicts of arrays, X being `db` and `query`:

      X_coarse: int8 [B, h, w, C], descriptors of coarse cells, or in a thinned batch of every
        second one along each axis.
      X_fine: int8 [B, h, w, 4 F], those of the fine cells of each.
      X_origin: int32 [B, 2], row and column of the first of these.
      X_depth: float32 [B, 4 H, 4 W], at the centres of the detail grid's cells, where H x W are all
        coarse cells.
      X_intrinsics: float32 [B, 3, 3].
      db_from_query: float32 [B, 7], `wxyz_xyz`.
      mask: bool [B], False on the padding of the last evaluation batch.
      pair_index: int64 [B], into the pairs; -1 on padding.

    In training pairs are drawn with replacement, without end, each in a random order of its images;
    some batches, drawn at random, are thinned, which costs a quarter and is as wide. In evaluation
    the pairs come once, in their own order, with all cells. What a batch has depends on the seed
    and the step alone.
    """

    def __init__(
        self,
        features: Sequence[CellFeatures],
        pairs: Pairs,
        *,
        batch_size: int,
        train: bool,
        thinned_share: float = 0.0,
        seed: int = 0,
        process_index: int = 0,
        process_count: int = 1,
    ):
        """
        Args:
          features: of each scene.
          batch_size: pairs in the global batch, divided evenly over the processes.
          thinned_share: of the batches.

        Raises:
          UsageError: no pairs, or a batch that does not divide.
        """
        if not len(pairs):
            raise UsageError("no pairs to load; mine some, or give more scenes")
        self._plan = BatchPlan(
            len(pairs),
            batch_size=batch_size,
            train=train,
            seed=seed,
            process_index=process_index,
            process_count=process_count,
        )
        self._features, self._pairs = features, pairs
        self._train, self._thinned_share = train, thinned_share

    def __len__(self) -> int:
        """Batches that hold as many pairs as there are."""
        return len(self._plan)

    def batches(self, start_step: int = 0) -> Iterator[dict[str, np.ndarray]]:
        """Batches from `start_step` on: the same ones as an iteration from 0 reaches there."""
        size, rows = self._plan.batch_size, self._plan.rows
        for step, rng in self._plan.steps(start_step):
            if self._train:
                pitch = 2 if rng.random() < self._thinned_share else 1
                index = rng.integers(len(self._pairs), size=size)
                swapped = rng.integers(2, size=size).astype(bool)
                origins = rng.integers(pitch, size=(size, 2, 2)).astype(np.int32)
            else:
                pitch, origins = 1, np.zeros((size, 2, 2), np.int32)
                index, swapped = self._plan.in_order(step), np.zeros(size, bool)
            yield self._batch(index[rows], swapped[rows], origins[rows], pitch)

    def _batch(
        self, index: np.ndarray, swapped: np.ndarray, origins: np.ndarray, pitch: int
    ) -> dict[str, np.ndarray]:
        pairs = self._pairs.select(index)
        poses = pairs.db_from_query
        poses = np.where(swapped[:, None, None], inverse(poses), poses)
        db = np.where(swapped, pairs.query, pairs.db)
        query = np.where(swapped, pairs.db, pairs.query)
        batch = {"db_from_query": wxyz_xyz(poses), "mask": index >= 0, "pair_index": index}
        for name, frames, origin in (("db", db, origins[:, 0]), ("query", query, origins[:, 1])):
            of_frames = [(self._features[s], i) for s, i in zip(pairs.scene, frames, strict=True)]
            cells = [
                [grid[i, row::pitch, column::pitch] for grid in (x.coarse, x.fine)]
                for (x, i), (row, column) in zip(of_frames, origin, strict=True)
            ]
            coarse, fine = map(np.stack, zip(*cells, strict=True))
            batch |= {
                f"{name}_coarse": coarse,
                f"{name}_fine": fine,
                f"{name}_origin": origin,
                f"{name}_depth": np.stack([x.depth[i] for x, i in of_frames]).astype(np.float32),
                f"{name}_intrinsics": np.stack([x.intrinsics[i] for x, i in of_frames]),
            }
        return batch


def load_cell_pairs(
    config: ml_collections.ConfigDict, say: Callable[[str], None]
) -> tuple[PairSet, PairSet]:
    """Training pairs (without end) and validation pairs (once through).

    The loaders give this process's share of each global batch.

    Raises:
      UsageError: the data is not there or has no depth, or its cells cannot be kept.
    """
    return _pair_set(config, say, train=True), _pair_set(config, say, train=False)


def _pair_set(
    config: ml_collections.ConfigDict, say: Callable[[str], None], *, train: bool
) -> PairSet:
    data = config.data
    scenes = load_scenes(data, data.train_splits if train else data.validation_splits)
    if data.up is not None:
        scenes = [held_upright(frames, data.up) for frames in scenes]
    count = data.num_pairs if train else data.num_validation_pairs
    seed = 2 * config.seed + (not train)
    pairs = mine_pairs(scenes, num_pairs=count, target=WIDE, seed=seed)
    folder = pathlib.Path(data.features_dir).expanduser() / data.dataset.replace("/", "-")
    name = network_weights.description_name(config.model)
    network = matcher(config.model, tuple(data.image_size))
    features = [cell_features(frames, network, name, folder, say) for frames in scenes]
    loader = CellLoader(
        features,
        pairs,
        batch_size=config.batch_size,
        train=train,
        thinned_share=data.thinned_share,
        seed=seed,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    return PairSet(scenes, pairs, loader)

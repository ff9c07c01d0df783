"""Image pairs with depth, which descriptors are trained on, as `config.data` describes them."""

import dataclasses
from collections.abc import Iterator, Sequence

import jax
import ml_collections
import numpy as np

from jaxreloc.data import datasets
from jaxreloc.data.loader import PairLoader
from jaxreloc.data.pairing.mined_pairs import mine_pairs
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.models.matching.descriptors import DETAIL_STRIDE
from jaxreloc.training.inputs.match_making import TARGET, joined
from jaxreloc.training.inputs.pair_inputs import PairSet


@dataclasses.dataclass(frozen=True)
class TurnLoader:
    """Batches of several loaders in turn, one of each; in evaluation, one loader after the other.

    Loaders of the same pairs at several image sizes make descriptors that serve them all.
    """

    loaders: Sequence[PairLoader]
    train: bool

    def batches(self, start_step: int = 0) -> Iterator[dict[str, np.ndarray]]:
        """Batches from `start_step` on: the same ones as an iteration from 0 reaches there."""
        if not self.train:
            for loader in self.loaders:
                yield from loader.batches()
            return
        count = len(self.loaders)
        done = [max(0, -(-(start_step - k) // count)) for k in range(count)]
        iterators = [
            loader.batches(start) for loader, start in zip(self.loaders, done, strict=True)
        ]
        step = start_step
        while True:
            yield next(iterators[step % count])
            step += 1


def load_depth_pairs(config: ml_collections.ConfigDict) -> tuple[PairSet, PairSet]:
    """Training pairs (without end) and validation pairs (once at each image size).

    Raises:
      UsageError: the data is not there or has no depth.
    """
    data = config.data
    return (
        _pair_set(config, data.train_splits, data.num_pairs, train=True),
        _pair_set(config, data.validation_splits, data.num_validation_pairs, train=False),
    )


def _pair_set(
    config: ml_collections.ConfigDict, splits: Sequence[str], num_pairs: int, *, train: bool
) -> PairSet:
    data = config.data
    scenes = load_scenes(data, splits)
    pairs = mine_pairs(
        scenes, num_pairs=num_pairs, target=TARGET, seed=2 * config.seed + (not train)
    )
    loaders = [
        PairLoader(
            scenes,
            pairs,
            batch_size=config.batch_size,
            train=train,
            seed=len(data.image_sizes) * config.seed + k,
            image_size=tuple(size),
            crop=None,
            jitter=data.jitter,
            num_workers=data.num_workers,
            cache_dir=data.cache_dir,
            skip_bad_frames=data.skip_bad_frames,
            depth_stride=DETAIL_STRIDE,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
        for k, size in enumerate(data.image_sizes)
    ]
    return PairSet(scenes, pairs, TurnLoader(loaders, train))


def load_scenes(data: ml_collections.ConfigDict, splits: Sequence[str]) -> list[PosedFrames]:
    """The scenes of the first split, each with its frames of all splits."""
    where = {"data_dir": data.data_dir, "data_path": data.data_path}
    names = datasets.scene_names(data.dataset, split=splits[0], **where)
    return [
        joined([datasets.load_frames(data.dataset, name, split, **where) for split in splits])
        for name in names
    ]

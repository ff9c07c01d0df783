"""The pairs that a run trains on and is validated on, as `config.data` describes them."""

import dataclasses

import jax
import ml_collections
import numpy as np

from jaxreloc.data import datasets
from jaxreloc.data.loader import PairLoader
from jaxreloc.data.pairs import Pairs, mine_pairs
from jaxreloc.formats.frames import PosedFrames


@dataclasses.dataclass(frozen=True)
class PairSet:
    """Pairs with the frames they refer to and the loader of their batches."""

    scenes: list[PosedFrames]
    pairs: Pairs
    loader: PairLoader

    def frame_names(self, pair_index: int) -> tuple[str, str]:
        """SCENE/NAME of the two images of a pair, the database's first."""
        frames = self.scenes[self.pairs.scene[pair_index]]
        both = self.pairs.db[pair_index], self.pairs.query[pair_index]
        db, query = (f"{frames.scene}/{frames.names[i]}" for i in both)
        return db, query


def load_training_pairs(config: ml_collections.ConfigDict) -> PairSet:
    """Shuffled, augmented pairs without end; this process's share of each global batch."""
    return _load(config, train=True)


def load_validation_pairs(config: ml_collections.ConfigDict) -> PairSet:
    """Pairs once through, cropped in the middle; this process's share of each global batch."""
    return _load(config, train=False)


def _load(config: ml_collections.ConfigDict, train: bool) -> PairSet:
    data = config.data
    scenes = datasets.load_scenes(
        data.dataset,
        data.train_split if train else data.validation_split,
        data_dir=data.data_dir,
        data_path=data.data_path,
    )
    # Validation has pairs of its own even where both come from the same frames.
    seed = 2 * config.seed + (0 if train else 1)
    num_pairs = data.num_pairs if train else data.num_validation_pairs
    pairs = mine_pairs(scenes, num_pairs=num_pairs, seed=seed)
    loader = PairLoader(
        scenes,
        pairs,
        batch_size=config.batch_size,
        train=train,
        seed=seed,
        image_size=data.short_side,
        crop=data.crop,
        jitter=data.jitter,
        translation_frame=data.translation_frame,
        num_workers=data.num_workers,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    return PairSet(scenes, pairs, loader)


def shard(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Leaves `[examples of this process, ...]` as `[local devices, examples a device, ...]`."""
    devices = jax.local_device_count()
    return jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), batch)

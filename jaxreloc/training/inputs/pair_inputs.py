"""The pairs that a run trains on and is validated on, as `config.data` describes them."""

import dataclasses
import zlib

import jax
import ml_collections
import numpy as np

from jaxreloc.data import datasets
from jaxreloc.data.loader import PairLoader
from jaxreloc.data.pairing.listed_pairs import read_listed_pairs
from jaxreloc.data.pairing.mined_pairs import Pairs, mine_pairs
from jaxreloc.data.pairing.pair_target import TARGETS, PairTarget
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.usage import check_choice


@dataclasses.dataclass(frozen=True)
class PairSet:
    """Pairs with the frames they refer to and the loader of their batches."""

    scenes: list[PosedFrames]
    pairs: Pairs
    loader: PairLoader

    def fingerprint(self) -> int:
        """CRC-32 of the frames, the pairs and their poses: equal data in equal order."""
        names = "\n".join(f"{s.scene}/{name}" for s in self.scenes for name in s.names)
        crc = zlib.crc32(names.encode())
        columns = self.pairs.scene, self.pairs.db, self.pairs.query, self.pairs.db_from_query
        for column in columns:
            crc = zlib.crc32(np.ascontiguousarray(column), crc)
        return crc

    def frame_names(self, pair_index: int) -> tuple[str, str]:
        """SCENE/NAME of the two images of a pair, the database's first."""
        frames = self.scenes[self.pairs.scene[pair_index]]
        both = self.pairs.db[pair_index], self.pairs.query[pair_index]
        db, query = (f"{frames.scene}/{frames.names[i]}" for i in both)
        return db, query


def load_pairs(config: ml_collections.ConfigDict) -> tuple[PairSet, PairSet]:
    """Training pairs (shuffled and augmented, without end) and validation pairs (once through).

    The loaders give this process's share of each global batch.
    """
    data = config.data
    splits = data.train_split, data.validation_split
    frames = {split: load_frames(data, split) for split in splits}
    # Validation has pairs of its own even where both come from the same frames.
    return (
        _pair_set(
            config,
            frames[data.train_split],
            data.pair_list,
            data.num_pairs,
            2 * config.seed,
            train=True,
        ),
        _pair_set(
            config,
            frames[data.validation_split],
            data.validation_pair_list,
            data.num_validation_pairs,
            2 * config.seed + 1,
            train=False,
        ),
    )


def load_frames(data: ml_collections.ConfigDict, split: str) -> list[PosedFrames]:
    """The scenes of a split that `config.data` names."""
    return datasets.load_scenes(
        data.dataset,
        split,
        data_dir=data.data_dir,
        data_path=data.data_path,
        scenes=data.get("scenes"),
        skip_bad_frames=data.skip_bad_frames,
    )


def pair_target(data: ml_collections.ConfigDict) -> PairTarget:
    """The pairs that `config.data` wants."""
    check_choice("data.pair_target", data.pair_target, TARGETS)
    return TARGETS[data.pair_target]


def _pair_set(
    config: ml_collections.ConfigDict,
    scenes: list[PosedFrames],
    pair_list: str | None,
    num_pairs: int,
    seed: int,
    *,
    train: bool,
) -> PairSet:
    data = config.data
    target, whole = pair_target(data), data.get("image_size")
    if pair_list is None:
        pairs = mine_pairs(scenes, num_pairs=num_pairs, target=target, seed=seed)
    else:
        pairs = read_listed_pairs(scenes, pair_list, skip_missing=data.skip_bad_frames)
    loader = PairLoader(
        scenes,
        pairs,
        batch_size=config.batch_size,
        train=train,
        seed=seed,
        image_size=data.short_side if whole is None else tuple(whole),
        crop=data.crop if whole is None else None,
        jitter=data.jitter,
        translation_frame=data.translation_frame,
        num_workers=data.num_workers,
        cache_dir=data.cache_dir,
        skip_bad_frames=data.skip_bad_frames,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    return PairSet(scenes, pairs, loader)


def shard(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Leaves `[examples of this process, ...]` as `[local devices, examples a device, ...]`."""
    devices = jax.local_device_count()
    return jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), batch)

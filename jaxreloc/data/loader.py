"""Batches of image pairs with their relative poses, read by worker processes.

The order and the augmentation of a batch depend on the seed and the step alone, whatever the number
of workers and of processes, so that a run resumes at any step by asking for it.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import grain
import numpy as np
from absl import flags
from scipy.spatial.transform import Rotation

from jaxreloc.data import transforms
from jaxreloc.data.pairs import Pairs
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.formats.rigid_arrays import inverse
from jaxreloc.usage import check_choice

TRANSLATION_FRAMES = ("camera", "world")
READ_THREADS = 2
PREFETCHED_BATCHES = 2


class PairLoader:
    """Iterates batches of pairs, dicts of arrays:

      db_image, query_image: uint8 [B, h, w, 3].
      db_from_query: float32 [B, 7], `wxyz_xyz`: unit quaternion with w >= 0, then the query's centre
        in the database camera's axes, or the difference of centres in world axes, metres.
      db_intrinsics, query_intrinsics: float32 [B, 3, 3].
      mask: bool [B], False on the padding of the last evaluation batch.
      pair_index: int64 [B], into the pairs; -1 on padding.

    In training the epochs follow each other without end, each in its own random order; each pair is
    seen in a random order of its two images, cropped at random and jittered. In evaluation the
    pairs come once, in their own order, cropped in the middle.
    """

    def __init__(
        self,
        scenes: Sequence[PosedFrames],
        pairs: Pairs,
        *,
        batch_size: int,
        train: bool,
        seed: int = 0,
        image_size: int | tuple[int, int] = 256,
        crop: int | None = 224,
        jitter: float = 0.4,
        translation_frame: str = "camera",
        num_workers: int = 0,
        process_index: int = 0,
        process_count: int = 1,
    ):
        """
        Args:
          batch_size: pairs in the global batch, divided evenly over the processes.
          image_size: the short side before cropping; with `crop=None`, the height and width that
            whole frames are fitted into.
        """
        check_choice("translation frame", translation_frame, TRANSLATION_FRAMES)
        if batch_size % process_count:
            raise ValueError(f"batch of {batch_size} over {process_count} processes")
        self._pairs = len(pairs)
        self._train = train
        self._seed = seed
        self._num_workers = num_workers
        self._batch_size = batch_size
        self._process_index = process_index
        self._process_count = process_count
        self._source = _PairSource(
            scenes=tuple(scenes),
            pairs=pairs,
            labels=_labels(scenes, pairs, translation_frame),
            length=len(pairs) if train else batch_size * len(self),
        )
        self._view = _View(train, image_size, crop, jitter)

    def __len__(self) -> int:
        """Batches in an epoch, a begun one counted."""
        return -(-self._pairs // self._batch_size)

    def batches(self, start_step: int = 0) -> Iterator[dict[str, np.ndarray]]:
        """Batches from `start_step` on: the same ones as an iteration from 0 reaches there."""
        dataset = grain.MapDataset.source(self._source).seed(self._seed)
        if self._train:
            dataset = dataset.shuffle().repeat()
        dataset = dataset.random_map(self._view)
        # A stride, not a block: element k of the global sequence is the same for any process count.
        dataset = dataset[self._process_index :: self._process_count]
        dataset = dataset.batch(self._batch_size // self._process_count)[start_step:]
        reading = grain.ReadOptions(READ_THREADS, PREFETCHED_BATCHES)
        iterable = dataset.to_iter_dataset(reading)
        if self._num_workers:
            if not flags.FLAGS.is_parsed():
                flags.FLAGS.mark_as_parsed()
            iterable = iterable.mp_prefetch(grain.MultiprocessingOptions(self._num_workers))
        return iter(iterable)


@dataclasses.dataclass(frozen=True)
class _PairSource:
    """Random access to undistorted, unaugmented pairs; beyond the last pair lies padding."""

    scenes: tuple[PosedFrames, ...]
    pairs: Pairs
    labels: np.ndarray  # [pair, order, 7]
    length: int

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, i: int) -> dict:
        if i >= len(self.pairs):
            return {"pair_index": -1}
        frames = self.scenes[self.pairs.scene[i]]
        db, query = int(self.pairs.db[i]), int(self.pairs.query[i])
        return {
            "pair_index": i,
            "images": [frames.images[db], frames.images[query]],
            "intrinsics": [frames.intrinsics[db], frames.intrinsics[query]],
            "labels": self.labels[i],
        }


@dataclasses.dataclass(frozen=True)
class _View:
    """From a pair as stored to one element of a batch."""

    train: bool
    image_size: int | tuple[int, int]
    crop: int | None
    jitter: float

    def __call__(self, pair: dict, rng: np.random.Generator) -> dict[str, np.ndarray]:
        if pair["pair_index"] < 0:
            return self._padding()
        first = int(rng.integers(2)) if self.train else 0
        db_image, db_intrinsics = self._image(pair, first, rng)
        query_image, query_intrinsics = self._image(pair, 1 - first, rng)
        return {
            "db_image": db_image,
            "query_image": query_image,
            "db_from_query": pair["labels"][first],
            "db_intrinsics": np.float32(db_intrinsics),
            "query_intrinsics": np.float32(query_intrinsics),
            "mask": np.True_,
            "pair_index": np.int64(pair["pair_index"]),
        }

    def _image(self, pair: dict, which: int, rng: np.random.Generator):
        image, intrinsics = pair["images"][which], pair["intrinsics"][which]
        if self.crop is None:
            image, intrinsics = transforms.resize_to_fit(image, intrinsics, *self.image_size)
        else:
            image, intrinsics = transforms.resize_short_side(image, intrinsics, self.image_size)
        if self.crop is not None and self.train:
            image, intrinsics = transforms.random_crop(image, intrinsics, self.crop, rng)
        elif self.crop is not None:
            image, intrinsics = transforms.center_crop(image, intrinsics, self.crop)
        if self.train and self.jitter:
            image, intrinsics = transforms.color_jitter(image, intrinsics, self.jitter, rng)
        return image, intrinsics

    def _padding(self) -> dict[str, np.ndarray]:
        height, width = (self.crop, self.crop) if self.crop else self.image_size
        return {
            "db_image": np.zeros((height, width, 3), np.uint8),
            "query_image": np.zeros((height, width, 3), np.uint8),
            "db_from_query": np.float32([1, 0, 0, 0, 0, 0, 0]),
            "db_intrinsics": np.eye(3, dtype=np.float32),
            "query_intrinsics": np.eye(3, dtype=np.float32),
            "mask": np.False_,
            "pair_index": np.int64(-1),
        }


def _labels(scenes: Sequence[PosedFrames], pairs: Pairs, translation_frame: str) -> np.ndarray:
    """float32 [pair, order, 7]: the label of each pair as it is and with its images swapped."""
    orders = np.stack([pairs.db_from_query, inverse(pairs.db_from_query)], axis=1)
    q_xyzw = Rotation.from_matrix(orders[..., :3, :3].reshape(-1, 3, 3)).as_quat(canonical=True)
    q_wxyz = np.roll(q_xyzw, 1, axis=1).reshape(len(pairs), 2, 4)
    translation = orders[..., :3, 3]
    if translation_frame == "world":
        rotation = np.empty((len(pairs), 3, 3))
        for index, frames in enumerate(scenes):
            rows = pairs.scene == index
            rotation[rows] = frames.world_from_cam[pairs.db[rows], :3, :3]
        difference = np.einsum("nij,nj->ni", rotation, pairs.db_from_query[:, :3, 3])
        translation = np.stack([difference, -difference], axis=1)
    return np.concatenate([q_wxyz, translation], axis=2).astype(np.float32)

"""Batches of image pairs with their relative poses, read by a thread or by worker processes.

The order and the augmentation of a batch depend on the seed and the step alone, whatever the number
of workers and of processes, so that a run resumes at any step by asking for it.
"""

import dataclasses
import logging
import multiprocessing
import os
import threading
import typing
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from absl import flags
from jaxtyping import Float32

from jaxreloc.data.color_jitter import color_jitter
from jaxreloc.data.frame_cache import MEMORY_BYTES, FrameCache
from jaxreloc.data.pairing.mined_pairs import TRANSLATION_FRAMES, Pairs, frame_poses, wxyz_xyz
from jaxreloc.extras import extra
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.formats.rigid_arrays import inverse
from jaxreloc.images import cell_centres, center_crop, random_crop, sample_depth
from jaxreloc.usage import UsageError, check_choice

logger = logging.getLogger(__name__)
if typing.TYPE_CHECKING:
    import grain

READ_THREADS = 1  # more of them wait for the interpreter's lock
PREFETCHED_BATCHES = 2  # of the thread, or of each worker
_BAD_FRAMES = "bad_frames"


class PairLoader:
    """Iterates batches of pairs, dicts of arrays:

      db_image, query_image: uint8 [B, h, w, 3].
      db_from_query: float32 [B, 7], `wxyz_xyz`: unit quaternion with w >= 0, then the query's
        centre in the database camera's axes, or the difference of centres in world axes, metres.
      db_intrinsics, query_intrinsics: float32 [B, 3, 3].
      mask: bool [B], False on what is no pair: padding of the last evaluation batch, and in
        evaluation unreadable pairs that are skipped.
      pair_index: int64 [B], into the pairs; -1 on padding.
    With `depth_stride` also
      db_depth, query_depth: float32 [B, h / stride, w / stride], at the centres of cells.
      draw: uint32 [B], random numbers that seed what the loss draws.

    In training the epochs follow each other without end, each in its own random order; each pair is
    seen in a random order of its two images, cropped at random and jittered. In evaluation the
    pairs come once, in their own order, cropped in the middle.

    Attributes:
      bad_frames: with `skip_bad_frames`, SCENE/NAME of the unreadable frames met so far.
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
        cache_dir: str | os.PathLike | None = None,
        memory_bytes: int = MEMORY_BYTES,
        skip_bad_frames: bool = False,
        depth_stride: int | None = None,
        process_index: int = 0,
        process_count: int = 1,
    ):
        """
        Args:
          batch_size: pairs in the global batch, divided evenly over the processes.
          image_size: the short side before cropping; with `crop=None`, the height and width that
            whole frames are fitted into, padded with black where their aspect differs.
          crop: side of the square crops; None for whole frames.
          jitter: strength of the colour jitter in training.
          num_workers: processes that read ahead; 0 reads in a thread of this one, which is enough
            where the frames are small or fit in memory.
          cache_dir: where resized frames are kept on disk; None to keep none.
          memory_bytes: memory for resized frames, shared out among the workers.
          skip_bad_frames: pairs with an unreadable picture are listed in `bad_frames` instead of
            ending the iteration; training takes the next pair in their place.
          depth_stride: side of the cells, in pixels, at whose centres depth is given; None for no
            depth. Depth maps are read anew each time.

        Raises:
          UsageError: no pairs, frames without the depth that is asked for, an unknown translation
            frame, sizes that do not fit together, or a cache directory that cannot be written.
        """
        if not isinstance(image_size, int):
            image_size = tuple(image_size)
        check_choice("translation frame", translation_frame, TRANSLATION_FRAMES)
        _check_sizes(image_size, crop)
        if not len(pairs):
            raise UsageError("no pairs to load; mine some, or check the pair list")
        check_divides(batch_size, process_count)
        if depth_stride and any(frames.depths is None for frames in scenes):
            raise UsageError(
                "true matches need depth, which these frames lack; train on synthetic_rooms or "
                "seven_scenes"
            )
        self._num_pairs = len(pairs)
        self._train = train
        self._seed = seed
        self._num_workers = num_workers
        self._batch_size = batch_size
        self._process_index = process_index
        self._process_count = process_count
        self._frame_names = [f"{frames.scene}/{name}" for frames in scenes for name in frames.names]
        memory_bytes //= max(1, num_workers)
        self._examples = _Examples(
            pairs=pairs,
            labels=_labels(scenes, pairs, translation_frame),
            frames=FrameCache(scenes, image_size, directory=cache_dir, memory_bytes=memory_bytes),
            first_frame=np.cumsum([0] + [len(frames) for frames in scenes[:-1]]),
            shape=(crop, crop) if crop else image_size,
            crop=crop,
            jitter=jitter if train else 0.0,
            train=train,
            skip_bad_frames=skip_bad_frames,
            scenes=tuple(scenes) if depth_stride else (),
            depth_stride=depth_stride,
        )
        self.bad_frames: set[str] = set()

    def __len__(self) -> int:
        """Batches that it takes to see every pair."""
        return -(-self._num_pairs // self._batch_size)

    def batches(self, start_step: int = 0) -> Iterator[dict[str, np.ndarray]]:
        """Batches from `start_step` on: the same ones as an iteration from 0 reaches there.

        Raises:
          UsageError: a picture cannot be read (unless `skip_bad_frames`).
        """
        iterator = iter(self._dataset(start_step))
        try:
            for batch in iterator:
                if self._num_workers:  # out of shared memory, each array of which holds a file
                    batch = {name: np.array(array) for name, array in batch.items()}
                self._note_bad_frames(batch.pop(_BAD_FRAMES))
                yield batch
        finally:
            iterator.close()

    def example(self, index: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """One element of a batch: the pair of this number, augmented by `rng` in training."""
        return self._examples(index, rng)

    def _dataset(self, start_step: int) -> "grain.IterDataset":
        with extra("train"):
            import grain

        if self._train:
            dataset = grain.MapDataset.range(self._num_pairs).seed(self._seed).shuffle().repeat()
        else:
            dataset = grain.MapDataset.range(len(self) * self._batch_size).seed(self._seed)
        dataset = dataset.random_map(self._examples)
        # A stride, not a block: example k of the run is the same for any number of processes.
        dataset = dataset[self._process_index :: self._process_count]
        dataset = dataset.batch(self._batch_size // self._process_count)[start_step:]
        if not self._num_workers:
            return dataset.to_iter_dataset(grain.ReadOptions(READ_THREADS, PREFETCHED_BATCHES))
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # Grain hands flags on to its workers
        return dataset.to_iter_dataset(grain.ReadOptions(num_threads=0)).mp_prefetch(
            grain.MultiprocessingOptions(self._num_workers, PREFETCHED_BATCHES),
            worker_init_fn=_start_worker,
        )

    def _note_bad_frames(self, indices: np.ndarray) -> None:
        met = {self._frame_names[i] for i in np.unique(indices[indices >= 0])}
        for name in sorted(met - self.bad_frames):
            logger.warning("%s cannot be read; its pairs are skipped", name)
        self.bad_frames |= met


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Examples:
    """From the number of a pair to one element of a batch."""

    pairs: Pairs
    labels: Float32[np.ndarray, "pairs 2 7"]
    frames: FrameCache
    first_frame: np.ndarray  # of each scene, counting through all scenes
    shape: tuple[int, int]
    crop: int | None
    jitter: float
    train: bool
    skip_bad_frames: bool
    scenes: tuple[PosedFrames, ...]  # with their depth, where it is asked for
    depth_stride: int | None

    def __call__(self, index: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        if index >= len(self.pairs):
            return self._blank(-1, [])
        both, bad = self._read(index)
        if both is None and not self.train:
            return self._blank(index, bad)
        tried = 1
        while both is None:
            if tried == len(self.pairs):
                raise UsageError("no pair has two readable pictures; check the files' paths")
            index = (index + 1) % len(self.pairs)
            both, _ = self._read(index)
            tried += 1
        return self._example(index, both, bad, rng)

    def _read(self, index: int) -> tuple[list | None, list[int]]:
        """Both frames, or None, and the numbers of the unreadable ones."""
        scene = int(self.pairs.scene[index])
        both, bad = [], []
        for frame in (int(self.pairs.db[index]), int(self.pairs.query[index])):
            try:
                both.append(self.frames.read(scene, frame))
            except UsageError:
                if not self.skip_bad_frames:
                    raise
                bad.append(self.first_frame[scene] + frame)
        return None if bad else both, bad

    def _example(self, index: int, both: list, bad: list[int], rng: np.random.Generator) -> dict:
        first = int(rng.integers(2)) if self.train else 0
        db_image, db_intrinsics = self._augmented(*both[first], rng)
        query_image, query_intrinsics = self._augmented(*both[1 - first], rng)
        example = {
            "db_image": db_image,
            "query_image": query_image,
            "db_from_query": self.labels[index, first],
            "db_intrinsics": db_intrinsics.astype(np.float32),
            "query_intrinsics": query_intrinsics.astype(np.float32),
            "mask": np.True_,
            "pair_index": np.int64(index),
            _BAD_FRAMES: _two(bad),
        }
        if self.depth_stride:
            scene = int(self.pairs.scene[index])
            frames = [int(self.pairs.db[index]), int(self.pairs.query[index])]
            example["db_depth"] = self._depth(scene, frames[first], db_intrinsics)
            example["query_depth"] = self._depth(scene, frames[1 - first], query_intrinsics)
            example["draw"] = rng.integers(1 << 32, dtype=np.uint32)
        return example

    def _depth(self, scene: int, frame: int, intrinsics: np.ndarray) -> np.ndarray:
        frames = self.scenes[scene]
        matrices = frames.intrinsics if frames.depth_intrinsics is None else frames.depth_intrinsics
        centres = cell_centres(self.shape, self.depth_stride)
        return sample_depth(frames.depths[frame], matrices[frame], intrinsics, centres)

    def _augmented(self, image: np.ndarray, intrinsics: np.ndarray, rng: np.random.Generator):
        if self.crop and self.train:
            image, intrinsics = random_crop(image, intrinsics, self.crop, rng)
        elif self.crop:
            image, intrinsics = center_crop(image, intrinsics, self.crop)
        if self.jitter:
            shown = image.any(axis=-1, keepdims=True)  # a canvas stays black, which says what it is
            image, intrinsics = color_jitter(image, intrinsics, self.jitter, rng)
            image = image * shown
        return image, intrinsics

    def _blank(self, index: int, bad: list[int]) -> dict:
        image = np.zeros((*self.shape, 3), np.uint8)
        blank = {
            "db_image": image,
            "query_image": image,
            "db_from_query": np.float32([1, 0, 0, 0, 0, 0, 0]),
            "db_intrinsics": np.eye(3, dtype=np.float32),
            "query_intrinsics": np.eye(3, dtype=np.float32),
            "mask": np.False_,
            "pair_index": np.int64(index),
            _BAD_FRAMES: _two(bad),
        }
        if self.depth_stride:
            depth = np.zeros([side // self.depth_stride for side in self.shape], np.float32)
            blank |= {"db_depth": depth, "query_depth": depth, "draw": np.uint32(0)}
        return blank


def check_divides(batch_size: int, process_count: int) -> None:
    """Raises UsageError unless each process has an equal share of a global batch."""
    if batch_size % process_count:
        raise UsageError(f"batch_size={batch_size} does not divide over {process_count} processes")


def _two(frames: list[int]) -> np.ndarray:
    return np.array((frames + [-1, -1])[:2], np.int64)


def _labels(
    scenes: Sequence[PosedFrames], pairs: Pairs, translation_frame: str
) -> Float32[np.ndarray, "pairs 2 7"]:
    """The label of each pair as it is, and with its images swapped."""
    orders = np.stack([pairs.db_from_query, inverse(pairs.db_from_query)], axis=1)
    if translation_frame == "world":
        world_from_db = frame_poses(scenes, pairs.scene, pairs.db)[:, :3, :3]
        difference = np.einsum("nij,nj->ni", world_from_db, orders[:, 0, :3, 3])
        orders[..., :3, 3] = np.stack([difference, -difference], axis=1)
    return wxyz_xyz(orders)


def _check_sizes(image_size: int | tuple[int, int], crop: int | None) -> None:
    if crop is None and isinstance(image_size, int):
        raise UsageError("whole frames (crop=None) need image_size=(height, width)")
    if crop is not None and (not isinstance(image_size, int) or crop > image_size):
        raise UsageError(f"crop={crop} needs image_size, the short side, of at least that")


def _start_worker(worker_index: int, worker_count: int) -> None:
    """Makes a worker end with its parent, however that ends, and leave the cores to the others."""
    del worker_index, worker_count
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)

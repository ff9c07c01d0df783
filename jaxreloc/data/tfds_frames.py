"""Posed frames of a prepared TFDS build, by random access and without TensorFlow.

A record holds an image beside its pose, so that the poses of a split cost reading all of it. That
is done once: the poses are kept in an index file in the folder of the build.
"""

import dataclasses
import logging
import pathlib
import zipfile
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, UInt8

from jaxreloc.extras import extra
from jaxreloc.files import replacing
from jaxreloc.formats.frames import PosedFrames, rigid
from jaxreloc.images import decode_image, image_size
from jaxreloc.usage import UsageError, check_choice

with extra("datasets"):
    import tensorflow_datasets as tfds

logger = logging.getLogger(__name__)
_TEXTS = ("scene", "sequence", "image_id")
_POSES = ("world_from_cam", "intrinsics", "depth_intrinsics")
_PICTURES = ("image", "depth")


class SplitFrames:
    """The frames of one split of a prepared build, by scene.

    Args:
      builder: a prepared builder with the features of `tfds_builders.frame_features`.
      split: one of its splits.
    """

    def __init__(self, builder: tfds.core.DatasetBuilder, split: str):
        check_choice(f"split of {builder.name}", split, builder.info.splits)
        self._builder = builder
        self._split = split
        self._index = _read_index(builder, split)

    def scene_names(self) -> list[str]:
        """The scenes that have frames in this split."""
        return sorted(set(self._index["scene"].tolist()))

    def frames(self, scene: str) -> PosedFrames:
        """The frames of one scene, in the order of their names.

        Raises:
          UsageError: the split has no such scene.
        """
        check_choice(f"scene of {self._builder.name} in {self._split}", scene, self.scene_names())
        index = self._index
        rows = np.flatnonzero(index["scene"] == scene)
        rows = rows[np.argsort(index["image_id"][rows], kind="stable")]
        names = tuple(name.removeprefix(f"{scene}/") for name in index["image_id"][rows].tolist())
        has_depth = "depth" in self._builder.info.features
        return PosedFrames(
            scene=scene,
            names=names,
            world_from_cam=np.stack(
                [
                    rigid(matrix, f"{self._builder.info.full_name}: {name}")
                    for name, matrix in zip(names, index["world_from_cam"][rows])
                ]
            ),
            intrinsics=index["intrinsics"][rows].astype(np.float64),
            image_sizes=index["image_size"][rows],
            images=RecordImages(_records(self._builder, self._split, _PICTURES), rows, names),
            depths=(
                RecordDepths(_records(self._builder, self._split, ("image",)), rows)
                if has_depth
                else None
            ),
            sequences=tuple(index["sequence"][rows].tolist()),
            depth_intrinsics=(
                index["depth_intrinsics"][rows].astype(np.float64)
                if "depth_intrinsics" in index
                else None
            ),
        )


@dataclasses.dataclass(frozen=True)
class RecordImages(Sequence):
    """The pictures of some records of a split, decoded by OpenCV on access."""

    records: Sequence[dict]
    rows: np.ndarray
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> UInt8[np.ndarray, "h w 3"]:
        return decode_image(self.records[int(self.rows[i])]["image"], self.names[i])

    def identity(self, i: int) -> str:
        """What tells picture `i` from all others, and from those of a later build of its split."""
        folder = self.records.dataset_info.data_dir
        built = pathlib.Path(folder, "dataset_info.json").stat().st_mtime_ns
        return f"{folder} {built} {self.records.split} {self.rows[i]}"


@dataclasses.dataclass(frozen=True)
class RecordDepths(Sequence):
    """The depth images of some records of a split, metres, decoded on access."""

    records: Sequence[dict]
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> Float32[np.ndarray, "h w"]:
        return self.records[int(self.rows[i])]["depth"]


def _records(builder: tfds.core.DatasetBuilder, split: str, undecoded: Sequence[str]):
    names = [name for name in undecoded if name in builder.info.features]
    decoders = {name: tfds.decode.SkipDecoding() for name in names}
    return builder.as_data_source(split, decoders=decoders)


def _read_index(builder: tfds.core.DatasetBuilder, split: str) -> dict[str, np.ndarray]:
    path = pathlib.Path(builder.data_dir) / f"frame_index-{split}.npz"
    try:
        with np.load(path, allow_pickle=False) as stored:
            return dict(stored)
    except (OSError, ValueError, zipfile.BadZipFile):
        index = _build_index(builder, split)
    try:
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **index)
    except UsageError as error:
        logger.info("the index of %s is made anew each time: %s", split, error)
    return index


def _build_index(builder: tfds.core.DatasetBuilder, split: str) -> dict[str, np.ndarray]:
    records = _records(builder, split, _PICTURES)
    logger.info("gathering the poses of %d frames of %s", len(records), builder.info.full_name)
    fields = [name for name in (*_TEXTS, *_POSES) if name in builder.info.features]
    columns = {name: [] for name in (*fields, "image_size")}
    for record in records:
        for name in fields:
            columns[name].append(record[name].decode() if name in _TEXTS else record[name])
        columns["image_size"].append(image_size(record["image"], columns["image_id"][-1]))
    return {name: np.array(column) for name, column in columns.items()}

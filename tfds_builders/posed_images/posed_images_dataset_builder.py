"""TFDS builder of anyone's posed photographs, in any format that jaxreloc.formats reads."""

import dataclasses
import functools
from collections.abc import Callable, Iterator

import cv2
import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from jaxreloc.formats.frames import PosedFrames
from jaxreloc.formats.posed_images import read_posed_images
from jaxreloc.formats.query_split import DEFAULT_QUERY_EVERY, LOCALIZATION_SPLITS, split_frames
from jaxreloc.usage import UsageError
from tfds_builders.frame_builder import FrameBuilder, manual_folder
from tfds_builders.frame_features import frame_features


@dataclasses.dataclass(kw_only=True)
class PosedImagesConfig(tfds.core.BuilderConfig):
    """Which folder to read. Its `name` names the build: give another folder another name."""

    path: str | None = None  # of one scene; None: every folder in MANUAL_DIR/posed_images
    query_every: int = DEFAULT_QUERY_EVERY
    depth: bool = False


class Builder(FrameBuilder):
    """Photographs with poses from a folder, every few of them a query."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    BUILDER_CONFIGS = [
        PosedImagesConfig(name="manual", description="Every folder in MANUAL_DIR/posed_images."),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Put each scene's folder into MANUAL_DIR/posed_images, or name a folder:
    tfds.load("posed_images", builder_kwargs={"config": PosedImagesConfig(name="kitchen",
    path="/photos/kitchen")}).
    """

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=frame_features(depth=self.builder_config.depth)
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        if self.builder_config.path is not None:
            folders = [epath.Path(self.builder_config.path).expanduser()]
        else:
            manual = manual_folder(dl_manager, self.name)
            folders = sorted(path for path in manual.iterdir() if path.is_dir()) if manual else []
        if not folders:
            raise self.not_there("no folder to read")
        scenes = [
            read_posed_images(folder, skip_bad_frames=self.skip_bad_frames) for folder in folders
        ]
        return {split: self._generate_examples(scenes, split) for split in LOCALIZATION_SPLITS}

    def _generate_examples(
        self, scenes: list[PosedFrames], split: str
    ) -> Iterator[tuple[str, dict]]:
        for frames in scenes:
            frames = split_frames(frames, split, query_every=self.builder_config.query_every)
            yield from self.checked(
                _makers(frames, self.builder_config.depth), f"{frames.scene} ({split})"
            )


def _makers(frames: PosedFrames, depth: bool) -> Iterator[Callable[[], dict]]:
    if depth and frames.depths is None:
        raise UsageError(f"{frames.scene}: has no depth pictures; choose a config without depth")
    for index in range(len(frames)):
        yield functools.partial(_example, frames, index, depth)


def _example(frames: PosedFrames, index: int, depth: bool) -> dict:
    example = {
        "image": _encode(frames.images[index]),
        "world_from_cam": frames.world_from_cam[index].astype(np.float32),
        "intrinsics": frames.intrinsics[index].astype(np.float32),
        "scene": frames.scene,
        "sequence": frames.sequences[index] if frames.sequences else "",
        "frame": index,
        "image_id": f"{frames.scene}/{frames.names[index]}",
    }
    if depth:
        K = frames.intrinsics if frames.depth_intrinsics is None else frames.depth_intrinsics
        example["depth"] = frames.depths[index]
        example["depth_intrinsics"] = K[index].astype(np.float32)
    return example


def _encode(image: np.ndarray) -> bytes:
    """As PNG: lossless, as the reader gave it (upright as stored, undistorted, 8-bit RGB)."""
    _, encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return encoded.tobytes()

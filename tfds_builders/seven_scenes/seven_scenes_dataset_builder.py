"""TFDS builder of 7-Scenes."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from jaxtyping import Float64

from jaxreloc.formats.readers import seven_scenes
from jaxreloc.formats.readers.pose_list import read_evaluation_poses
from jaxreloc.images import decode_depth, image_size
from jaxreloc.usage import UsageError
from tfds_builders.frame_builder import FrameBuilder, manual_folder, raising
from tfds_builders.frame_features import frame_features
from tfds_builders.seven_scenes import scene_files

DOWNLOAD = "http://download.microsoft.com/download/2/8/5/28564B23-0828-408F-8631-23B1EFF1DAC8/"
SFM_POSES = "https://github.com/tsattler/visloc_pseudo_gt_limitations (folder pgt/sfm/7scenes)"


@dataclasses.dataclass(kw_only=True)
class SevenScenesConfig(tfds.core.BuilderConfig):
    """Which scenes, whether with depth, and by which ground truth."""

    scenes: tuple[str, ...]
    depth: bool
    sfm: bool  # the re-estimated ground truth instead of the original


def _configs() -> Iterator[SevenScenesConfig]:
    for name in (*seven_scenes.SCENES, "all"):
        for sfm in (False, True):
            for depth in (False, True):
                scenes = seven_scenes.SCENES if name == "all" else (name,)
                what = "All scenes" if name == "all" else f"The scene {name}"
                yield SevenScenesConfig(
                    name=name + "_sfm" * sfm + "_depth" * depth,
                    description=what
                    + ", with depth" * depth
                    + ", by the ground truth re-estimated with structure from motion" * sfm
                    + ".",
                    scenes=scenes,
                    depth=depth,
                    sfm=sfm,
                )


@dataclasses.dataclass(frozen=True)
class _SfmGroundTruth:
    """Poses and focal lengths that stand in for those of the scene's own files, by name."""

    world_from_cam: Mapping[str, np.ndarray]
    focal_px: Mapping[str, float]


class Builder(FrameBuilder):
    """Seven rooms, each filmed along several paths with a hand-held Kinect."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    BUILDER_CONFIGS = list(_configs())
    DEFAULT_BUILDER_CONFIG_NAME = "chess"
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""
    The scenes are downloaded, unless MANUAL_DIR/seven_scenes holds them as SCENE.zip, or as a
    folder SCENE, its sequences unpacked or still in their zips. The *_sfm configs need the pose
    files of {SFM_POSES} as MANUAL_DIR/seven_scenes/sfm/SCENE_train.txt and SCENE_test.txt.
    """

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=frame_features(depth=self.builder_config.depth),
            homepage="https://www.microsoft.com/en-us/research/project/rgb-d-dataset-7-scenes/",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        manual = manual_folder(dl_manager, self.name)
        scenes, urls = {}, {}
        for scene in self.builder_config.scenes:
            if path := _find_manual(manual, scene):
                scenes[scene] = path
            else:
                urls[scene] = f"{DOWNLOAD}{scene}.zip"
        if urls:
            scenes |= dl_manager.download(urls)
        return {
            split: self._generate_examples(scenes, split, manual)
            for split in seven_scenes.SPLIT_FILES
        }

    def _generate_examples(
        self, scenes: Mapping[str, epath.Path], split: str, manual: epath.Path | None
    ) -> Iterator[tuple[str, dict]]:
        for scene in self.builder_config.scenes:
            sfm = _read_sfm(manual, scene, split) if self.builder_config.sfm else None
            makers = _makers(epath.Path(scenes[scene]), scene, split, sfm, self.builder_config)
            yield from self.checked(makers, f"{scene} ({split})")


def _find_manual(manual: epath.Path | None, scene: str) -> epath.Path | None:
    if manual is None:
        return None
    if (manual / scene / seven_scenes.SPLIT_FILES["train"]).exists():
        return manual / scene
    archive = manual / f"{scene}.zip"
    return archive if archive.exists() else None


def _read_sfm(manual: epath.Path | None, scene: str, split: str) -> _SfmGroundTruth:
    name = f"sfm/{scene}_{split}.txt"
    if manual is None or not (manual / name).exists():
        raise UsageError(
            f"{manual or 'MANUAL_DIR/seven_scenes'}/{name}: missing; get it from {SFM_POSES}"
        )
    listed = read_evaluation_poses(manual / name)
    if listed.focal_px is None:
        raise UsageError(f"{manual / name}: has no focal length in its last column; get it again")
    return _SfmGroundTruth(
        dict(zip(listed.names, listed.world_from_cam)), dict(zip(listed.names, listed.focal_px))
    )


def _makers(
    path: epath.Path,
    scene: str,
    split: str,
    sfm: _SfmGroundTruth | None,
    config: SevenScenesConfig,
) -> Iterator[Callable[[], dict]]:
    """One callable a frame, valid until the next is taken."""
    with scene_files.open_scene(path, scene) as scene_folder:
        for sequence in scene_files.sequences(scene_folder, split, scene):
            with scene_files.open_sequence(scene_folder, sequence, scene) as folder:
                names = sorted(file.name for file in folder.iterdir())
                frames, complaints = seven_scenes.frame_files(names)
                for complaint in complaints:
                    yield raising(f"{scene}/{sequence}: {complaint}")
                for frame in frames:
                    source = _FrameSource(folder, frame, scene, sequence)
                    yield functools.partial(_example, source, sfm, config.depth)


@dataclasses.dataclass(frozen=True)
class _FrameSource:
    """Where one frame's files are."""

    folder: scene_files.Folder
    files: seven_scenes.FrameFiles
    scene: str
    sequence: str

    def path(self, name: str) -> str:
        """What messages call one of the files."""
        return f"{self.scene}/{self.sequence}/{name}"

    def read(self, name: str) -> bytes:
        return scene_files.read(self.folder / name, self.path(name))


def _example(source: _FrameSource, sfm: _SfmGroundTruth | None, depth: bool) -> dict:
    files = source.files
    image = source.read(files.color)
    world_from_cam, focal_px = _pose_and_focal_length(source, sfm)
    width, height = image_size(image, source.path(files.color))
    example = {
        "image": image,
        "world_from_cam": world_from_cam.astype(np.float32),
        "intrinsics": seven_scenes.intrinsics(focal_px, width, height).astype(np.float32),
        "scene": source.scene,
        "sequence": source.sequence,
        "frame": files.number,
        "image_id": source.path(files.name),
    }
    if depth:
        if files.depth is None:
            raise UsageError(f"{source.path(files.color)}: has no depth picture; restore it")
        example["depth"] = source.read(files.depth)
        height, width = decode_depth(example["depth"], source.path(files.depth)).shape
        K = seven_scenes.intrinsics(seven_scenes.DEPTH_FOCAL_PX, width, height)
        example["depth_intrinsics"] = K.astype(np.float32)
    return example


def _pose_and_focal_length(
    source: _FrameSource, sfm: _SfmGroundTruth | None
) -> tuple[Float64[np.ndarray, "4 4"], float]:
    files = source.files
    if sfm is None:
        pose = seven_scenes.parse_pose(source.read(files.pose).decode(), source.path(files.pose))
        return pose, seven_scenes.COLOR_FOCAL_PX
    name = f"{source.sequence}/{files.name}"
    if name not in sfm.world_from_cam:
        raise UsageError(f"{source.path(files.color)}: image without pose in the sfm list; add it")
    return sfm.world_from_cam[name], sfm.focal_px[name]

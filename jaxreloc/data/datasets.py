"""Frames by the name of a dataset, a scene and a split: the way in for training and evaluation.

`posed_images` reads a user's files as they are. The other datasets are read through their TFDS
builds by random access, without TensorFlow.
"""

import dataclasses
import pathlib
import typing
from collections.abc import Callable, Sequence

from jaxreloc.extras import extra
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.formats.pair_lists import UNIVERSITY_SCENES
from jaxreloc.formats.posed_images import read_posed_images
from jaxreloc.formats.query_split import DEFAULT_QUERY_EVERY, LOCALIZATION_SPLITS, split_frames
from jaxreloc.formats.readers.seven_scenes import (
    ROOMS,
    SCENES,
    SPLIT_FILES,
    read_seven_scenes,
)
from jaxreloc.usage import UsageError, check_choice

if typing.TYPE_CHECKING:
    from jaxreloc.data.tfds_frames import SplitFrames


@dataclasses.dataclass(frozen=True)
class _TfdsDataset:
    """How a TFDS builder's configs and splits are named after scenes and localization splits."""

    name: str
    variants: tuple[str, ...]
    scenes: tuple[str, ...] | None  # None: as the build has them
    configs: Callable[[str | None, str | None], tuple[str | None, ...]]  # of scene, variant
    split: Callable[[str | None, str], str]  # of scene, split
    built_on_demand: bool
    remedy: str  # how to get it, where it is not built on demand

    def open(
        self, scene: str | None, variant: str | None, split: str, data_dir: str | None
    ) -> "SplitFrames":
        """The split that holds the scene's frames, prepared first if that needs no download."""
        if self.scenes is not None:
            check_choice(f"scene of {self.name}", scene, self.scenes)
        builders = [self._builder(config, data_dir) for config in self.configs(scene, variant)]
        builder = next((one for one in builders if one.is_prepared()), builders[0])
        if not builder.is_prepared() and self.built_on_demand:
            import tensorflow_datasets as tfds

            tfds.disable_progress_bar()  # they know no time left, and the builders have their own
            try:
                builder.download_and_prepare()
            finally:
                tfds.enable_progress_bar()
        if not builder.is_prepared():
            raise UsageError(
                f"{builder.info.full_name} is not in {builder.data_dir}; {self.remedy}"
            )
        from jaxreloc.data.tfds_frames import SplitFrames

        return SplitFrames(builder, self.split(scene, split))

    def _builder(self, config: str | None, data_dir: str | None):
        with extra("datasets"):
            import tensorflow_datasets as tfds

        import tfds_builders  # noqa: F401  (registers the builders)

        full_name = f"{self.name}/{config}" if config else self.name
        data_dir = None if data_dir is None else pathlib.Path(data_dir).expanduser()
        return tfds.builder(full_name, data_dir=data_dir)


def _seven_scenes_configs(scene: str, variant: str | None) -> tuple[str, ...]:
    suffix = f"_{variant}" if variant else ""
    return f"{scene}{suffix}", f"all{suffix}"


def _train_and_test(scene: str | None, split: str) -> str:
    return {"database": "train", "query": "test"}.get(split, split)


def _synthetic_rooms_split(scene: str | None, split: str) -> str:
    """`test-000` lies in the splits test and test_query; without a scene, test rooms are meant."""
    if split not in LOCALIZATION_SPLITS:
        return split
    rooms = scene.rpartition("-")[0] if scene else "test"
    return rooms if split == "database" else f"{rooms}_query"


_TFDS_DATASETS = {
    "seven_scenes": _TfdsDataset(
        name="seven_scenes",
        variants=("depth", "sfm", "sfm_depth"),
        scenes=SCENES,
        configs=_seven_scenes_configs,
        split=_train_and_test,
        built_on_demand=False,
        remedy="tfds_builders/seven_scenes/README.md says how to download it, or give "
        "--data_path=FOLDER of the unpacked scenes",
    ),
    "university": _TfdsDataset(
        name="university",
        variants=(),
        scenes=UNIVERSITY_SCENES,
        configs=lambda scene, variant: (None,),
        split=lambda scene, split: split,
        built_on_demand=False,
        remedy="tfds_builders/university/README.md says what to download (29 GB) and where to",
    ),
    "synthetic_rooms": _TfdsDataset(
        name="synthetic_rooms",
        variants=("procedural", "furnished", "furnished_large", "furnished_hard"),
        scenes=None,
        configs=lambda scene, variant: (variant,),
        split=_synthetic_rooms_split,
        built_on_demand=True,
        remedy="",
    ),
    "seven_rooms": _TfdsDataset(
        name="synthetic_rooms",
        variants=("small",),
        scenes=ROOMS,
        configs=lambda scene, variant: (f"seven_rooms_{variant}" if variant else "seven_rooms",),
        split=_train_and_test,
        built_on_demand=True,
        remedy="",
    ),
}
DATASETS = (*_TFDS_DATASETS, "posed_images")


def load_frames(
    dataset: str,
    scene: str,
    split: str,
    *,
    data_dir: str | pathlib.Path | None = None,
    data_path: str | pathlib.Path | None = None,
    query_every: int = DEFAULT_QUERY_EVERY,
    skip_bad_frames: bool = False,
) -> PosedFrames:
    """The frames of one scene in one split; images decode on access, in any process.

    Args:
      dataset: one of DATASETS, or NAME/VARIANT: `seven_scenes/depth`, `seven_scenes/sfm` (the
        alternative ground truth), `synthetic_rooms/furnished`.
      scene: its scene; of posed_images just a label.
      split: "database" or "query", for every dataset, or a split of the TFDS build.
      data_dir: where TFDS keeps prepared datasets; its default if None.
      data_path: the folder of a user's files (posed_images), or an unpacked 7-Scenes folder, which
        is then read as it is.
      query_every: of posed_images, in the order of their names every k-th is a query.
      skip_bad_frames: reading files, lists bad frames in one warning instead of raising.

    Raises:
      UsageError: an unknown name, data that is not there (saying how to get it), a bad frame.
    """
    name, variant = _parse_name(dataset)
    if name == "posed_images":
        frames = _read_users_folder(data_path, scene, skip_bad_frames)
        return split_frames(frames, split, query_every=query_every)
    if data_path is not None:
        check_choice("dataset that is read from --data_path", dataset, ["seven_scenes"])
        return _read_unpacked_scene(data_path, scene, split, skip_bad_frames)
    return _TFDS_DATASETS[name].open(scene, variant, split, data_dir).frames(scene)


def load_database_and_queries(
    dataset: str,
    scene: str,
    *,
    data_dir: str | pathlib.Path | None = None,
    data_path: str | pathlib.Path | None = None,
    skip_bad_frames: bool = False,
) -> tuple[PosedFrames, PosedFrames]:
    """Both localization splits of a scene; a user's folder is read, and complained of, once.

    Raises:
      UsageError: as `load_frames`.
    """
    if dataset == "posed_images":
        frames = _read_users_folder(data_path, scene, skip_bad_frames)
        return split_frames(frames, "database"), split_frames(frames, "query")
    return tuple(
        load_frames(
            dataset,
            scene,
            split,
            data_dir=data_dir,
            data_path=data_path,
            skip_bad_frames=skip_bad_frames,
        )
        for split in LOCALIZATION_SPLITS
    )


def load_scenes(
    dataset: str,
    split: str,
    *,
    data_dir: str | pathlib.Path | None = None,
    data_path: str | pathlib.Path | None = None,
    scenes: Sequence[str] | None = None,
    skip_bad_frames: bool = False,
) -> list[PosedFrames]:
    """The frames of `split`, one entry a scene; of all its scenes unless `scenes` names some."""
    where = {"data_dir": data_dir, "data_path": data_path}
    if scenes is None:
        scenes = scene_names(dataset, split=split, **where)
    for scene in scenes:  # before the first one is built
        _check_scene(dataset, scene)
    return [
        load_frames(dataset, scene, split, skip_bad_frames=skip_bad_frames, **where)
        for scene in scenes
    ]


def scene_names(
    dataset: str,
    *,
    split: str = "query",
    data_dir: str | pathlib.Path | None = None,
    data_path: str | pathlib.Path | None = None,
) -> list[str]:
    """The scenes of a dataset that have frames in `split`."""
    name, variant = _parse_name(dataset)
    if name == "posed_images":
        return [_required_path(data_path).resolve().name]
    known = _TFDS_DATASETS[name]
    if name == "seven_scenes" and data_path and (scene := _scene_of_folder(data_path)):
        return [scene]
    if known.scenes is not None:
        return list(known.scenes)
    return known.open(None, variant, split, data_dir).scene_names()


def _check_scene(dataset: str, scene: str) -> None:
    name, _ = _parse_name(dataset)
    if name in _TFDS_DATASETS and _TFDS_DATASETS[name].scenes is not None:
        check_choice(f"scene of {name}", scene, _TFDS_DATASETS[name].scenes)


def _parse_name(dataset: str) -> tuple[str, str | None]:
    name, _, variant = dataset.partition("/")
    check_choice("dataset", name, DATASETS)
    known = () if name == "posed_images" else _TFDS_DATASETS[name].variants
    if variant and variant not in known:
        raise UsageError(
            f"unknown variant {variant!r} of {name}; known: {', '.join(known) or 'none'}"
        )
    return name, variant or None


def _read_unpacked_scene(
    data_path: str | pathlib.Path, scene: str, split: str, skip_bad_frames: bool
) -> PosedFrames:
    """A scene of an unpacked 7-Scenes; `data_path` is its folder or the one above."""
    seven_scenes = _TFDS_DATASETS["seven_scenes"]
    split = seven_scenes.split(scene, split)
    check_choice("split of seven_scenes", split, SPLIT_FILES)
    check_choice("scene of seven_scenes", scene, SCENES)
    folder = pathlib.Path(data_path).expanduser()
    if (folder / scene).is_dir():
        folder = folder / scene
    elif (found := _scene_of_folder(folder)) not in (None, scene):
        raise UsageError(
            f"{folder}: is the scene {found}, not {scene}; give --scene={found}, or the folder of "
            "all scenes"
        )
    return read_seven_scenes(folder, split=split, scene=scene, skip_bad_frames=skip_bad_frames)


def _scene_of_folder(data_path: str | pathlib.Path) -> str | None:
    """The scene of 7-Scenes that an unpacked folder is of, by its name; None: of several."""
    folder = pathlib.Path(data_path).expanduser().resolve()
    holds_scenes = any((folder / scene).is_dir() for scene in SCENES)
    return folder.name if folder.name in SCENES and not holds_scenes else None


def _read_users_folder(
    data_path: str | pathlib.Path | None, scene: str, skip_bad_frames: bool
) -> PosedFrames:
    return read_posed_images(
        _required_path(data_path), scene=scene, skip_bad_frames=skip_bad_frames
    )


def _required_path(data_path: str | pathlib.Path | None) -> pathlib.Path:
    if data_path is None:
        raise UsageError(
            "posed_images needs --data_path=FOLDER, the folder of your images and poses"
        )
    return pathlib.Path(data_path).expanduser()

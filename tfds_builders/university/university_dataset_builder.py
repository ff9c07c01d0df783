"""TFDS builder of the University dataset of Laskar et al. 2017."""

import functools
import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from jaxtyping import Float64

from jaxreloc.formats.common.intrinsics_file import FILE_NAME, read_intrinsics
from jaxreloc.formats.pair_lists import UNIVERSITY_SCENES, read_neighbor_list
from jaxreloc.images import PictureHeader, read_header
from jaxreloc.usage import UsageError
from tfds_builders.frame_builder import FrameBuilder, manual_folder
from tfds_builders.frame_features import frame_features

PAIR_LIST = "NN_university.txt"
REPOSITORY = "https://github.com/AaltoVision/camera-relocalisation"

# The authors publish no calibration; COLMAP's first guess, in units of the longer side.
GUESSED_FOCAL = 1.2


class Builder(FrameBuilder):
    """Five university rooms in one common frame, filmed with a hand-held camera.

    Poses are published only within the list of query and retrieved pairs, so that a frame has one
    only if that list names it: 3,983 queries and 3,154 database images of four scenes.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""
    Download the dataset (29 GB, from the drive that {REPOSITORY} links to) and its list
    cnn_part/data/{PAIR_LIST}; unpack to MANUAL_DIR/university/office/seq_01/frame_00001.png, ...,
    and put the list beside: MANUAL_DIR/university/{PAIR_LIST}. If you have calibrated the camera,
    add MANUAL_DIR/university/{FILE_NAME} with 'fx fy cx cy' in pixels.
    """

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(features=frame_features(), homepage=REPOSITORY)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        manual = manual_folder(dl_manager, self.name)
        missing = [
            str(manual / name)
            for name in (PAIR_LIST, *UNIVERSITY_SCENES)
            if manual and not (manual / name).exists()
        ]
        if manual is None or missing:
            what = f"missing {', '.join(missing)}" if missing else "there is no manual folder"
            raise self.not_there(what)
        frames = _read_frames(manual / PAIR_LIST)
        return {split: self._generate_examples(manual, frames[split], split) for split in frames}

    def _generate_examples(
        self, manual: epath.Path, frames: dict[tuple[str, str], np.ndarray], split: str
    ) -> Iterator[tuple[str, dict]]:
        yield from self.checked(_makers(manual, frames), f"university ({split})")


def _read_frames(path: epath.Path) -> dict[str, dict[tuple[str, str], np.ndarray]]:
    """By split, `world_from_cam` of every (scene, name of the picture) that the list has."""
    listed = read_neighbor_list(path)
    unknown = {*listed.query_scenes.tolist(), *listed.db_scenes.ravel().tolist()}
    unknown -= set(range(len(UNIVERSITY_SCENES)))
    if unknown:
        raise UsageError(
            f"{path}: has pairs of unknown scenes {sorted(unknown)}; get {PAIR_LIST} from "
            f"{REPOSITORY} again"
        )
    db_names = [name for names in listed.db_names for name in names]
    return {
        "query": _by_frame(listed.query_scenes, listed.query_names, listed.world_from_query),
        "database": _by_frame(
            listed.db_scenes.ravel(), db_names, listed.world_from_db.reshape(-1, 4, 4)
        ),
    }


def _by_frame(
    scenes: Sequence[int], names: Sequence[str], world_from_cam: Float64[np.ndarray, "n 4 4"]
) -> dict[tuple[str, str], np.ndarray]:
    frames = {}
    for scene, name, pose in zip(scenes, names, world_from_cam, strict=True):
        frames.setdefault((UNIVERSITY_SCENES[scene], name), pose)
    return frames


def _makers(
    manual: epath.Path, frames: dict[tuple[str, str], np.ndarray]
) -> Iterator[Callable[[], dict]]:
    for (scene, name), world_from_cam in frames.items():
        yield functools.partial(_example, manual, scene, name, world_from_cam)


def _example(
    manual: epath.Path, scene: str, name: str, world_from_cam: Float64[np.ndarray, "4 4"]
) -> dict:
    path = manual / scene / name
    if not path.exists():
        raise UsageError(f"{path}: pose without image; unpack the dataset again, to {manual}")
    image = path.read_bytes()
    match = re.fullmatch(r"([^/]+)/frame_(\d+)\.png", name)
    if match is None:
        raise UsageError(
            f"{path}: not named seq_01/frame_00001.png in {PAIR_LIST}; get the list again"
        )
    return {
        "image": image,
        "world_from_cam": world_from_cam.astype(np.float32),
        "intrinsics": _intrinsics(manual, read_header(image, str(path))).astype(np.float32),
        "scene": scene,
        "sequence": match[1],
        "frame": int(match[2]),
        "image_id": f"{scene}/{name}",
    }


def _intrinsics(manual: epath.Path, header: PictureHeader) -> Float64[np.ndarray, "3 3"]:
    if (manual / FILE_NAME).exists():
        return read_intrinsics(manual / FILE_NAME, header).intrinsics
    width, height = header.size
    focal = GUESSED_FOCAL * max(width, height)
    return np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])

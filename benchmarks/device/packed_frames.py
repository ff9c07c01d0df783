"""Posed frames of some scenes in one file of JPEG pictures, for machines without a dataset.

  python -m benchmarks.device.packed_frames --dataset=seven_rooms --out=rooms.npz

The pictures are shrunk to a short side of `--short_side` first: 7,000 of 146 pixels take 40 MB.
"""

import argparse
import io
import pathlib

import cv2
import numpy as np

from jaxreloc import files
from jaxreloc.data import datasets
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.images import resize_short_side
from jaxreloc.usage import UsageError

QUALITY = 90
FIELDS = ("scenes", "of_scene", "names", "poses", "intrinsics", "sizes", "pictures", "ends")


def pack(path: pathlib.Path, scenes: list[PosedFrames], short_side: int) -> None:
    """Writes the frames of all scenes, by rename."""
    pictures, intrinsics, sizes = [], [], []
    for frames in scenes:
        for i in range(len(frames)):
            image, matrix = resize_short_side(frames.images[i], frames.intrinsics[i], short_side)
            quality = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
            pictures.append(cv2.imencode(".jpg", image[..., ::-1], quality)[1].reshape(-1))
            intrinsics.append(matrix)
            sizes.append(image.shape[1::-1])
    content = io.BytesIO()
    np.savez(
        content,
        scenes=np.array([frames.scene for frames in scenes]),
        of_scene=np.repeat(np.arange(len(scenes)), [len(frames) for frames in scenes]),
        names=np.array([name for frames in scenes for name in frames.names]),
        poses=np.concatenate([frames.world_from_cam for frames in scenes]),
        intrinsics=np.stack(intrinsics),
        sizes=np.array(sizes),
        pictures=np.concatenate(pictures),
        ends=np.cumsum([len(picture) for picture in pictures]),
    )
    with files.replacing(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def unpack(path: pathlib.Path) -> list[PosedFrames]:
    """The scenes of a file of `pack`, all pictures decoded.

    Raises:
      UsageError: it is no such file.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            columns = {name: stored[name] for name in FIELDS}
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(
            f"{path}: no packed frames ({error}); python -m benchmarks.device.packed_frames writes "
            "them"
        ) from error
    encoded = np.split(columns["pictures"], columns["ends"][:-1])
    scenes = []
    for k, scene in enumerate(columns["scenes"].tolist()):
        rows = np.flatnonzero(columns["of_scene"] == k)
        scenes.append(
            PosedFrames(
                scene=scene,
                names=tuple(columns["names"][rows].tolist()),
                world_from_cam=columns["poses"][rows],
                intrinsics=columns["intrinsics"][rows],
                image_sizes=columns["sizes"][rows].astype(np.int64),
                images=[cv2.imdecode(encoded[i], cv2.IMREAD_COLOR)[..., ::-1] for i in rows],
            )
        )
    return scenes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="seven_rooms")
    parser.add_argument("--split", default="database")
    parser.add_argument("--data_dir", help="where TFDS keeps prepared datasets")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="the file to write")
    parser.add_argument("--short_side", type=int, default=146, help="of the pictures, pixels")
    given = parser.parse_args()
    scenes = datasets.load_scenes(given.dataset, given.split, data_dir=given.data_dir)
    pack(given.out, scenes, given.short_side)
    print(f"{sum(map(len, scenes))} frames of {len(scenes)} scenes in {given.out}")


if __name__ == "__main__":
    main()

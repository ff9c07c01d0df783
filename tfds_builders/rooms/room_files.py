"""A rendered room's frames in a file, encoded as the dataset stores them."""

import pathlib
from collections.abc import Iterator

import cv2
import numpy as np

from jaxreloc.files import replacing
from jaxreloc.formats.frames import PosedFrames

JPEG_QUALITY = 95


def write_frames(path: pathlib.Path, frames: PosedFrames, image_format: str) -> None:
    """Writes `frames` to an .npz file by rename.

    Args:
      image_format: "png" or "jpg"; depth is a 16-bit PNG in millimetres, 0 where there is none.
    """
    images = [_encoded(f".{image_format}", image[..., ::-1]) for image in frames.images]
    depths = [_encoded(".png", _millimetres(depth)) for depth in frames.depths]
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(
            file,
            scene=frames.scene,
            names=np.array(frames.names),
            sequences=np.array(frames.sequences),
            world_from_cam=frames.world_from_cam.astype(np.float32),
            intrinsics=frames.intrinsics.astype(np.float32),
            images=np.concatenate(images),
            image_ends=np.cumsum([len(image) for image in images]),
            depths=np.concatenate(depths),
            depth_ends=np.cumsum([len(depth) for depth in depths]),
        )


def read_examples(path: pathlib.Path) -> Iterator[tuple[str, dict]]:
    """Keys and examples of the frames in a file of `write_frames`, in their order."""
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
        columns = dict(stored)
    scene = str(columns["scene"])
    images = np.split(columns["images"], columns["image_ends"][:-1])
    depths = np.split(columns["depths"], columns["depth_ends"][:-1])
    for i, name in enumerate(columns["names"].tolist()):
        image_id = f"{scene}/{name}"
        yield (
            image_id,
            {
                "image": images[i].tobytes(),
                "depth": depths[i].tobytes(),
                "world_from_cam": columns["world_from_cam"][i],
                "intrinsics": columns["intrinsics"][i],
                "depth_intrinsics": columns["intrinsics"][i],
                "scene": scene,
                "sequence": str(columns["sequences"][i]),
                "frame": int(name.rpartition("-")[2]),
                "image_id": image_id,
            },
        )


def _encoded(extension: str, image: np.ndarray) -> np.ndarray:
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if extension == ".jpg" else []
    _, encoded = cv2.imencode(extension, image, options)
    return encoded.reshape(-1)


def _millimetres(depth: np.ndarray) -> np.ndarray:
    return np.rint(depth * 1000).astype(np.uint16)

"""Writes COLMAP models, text and binary, for tests of reading them."""

import os
import pathlib
import struct
from collections.abc import Sequence

from jaxreloc import files
from jaxreloc.files import write_text
from jaxreloc.formats.common import colmap_cameras
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.formats.readers import colmap_model
from jaxreloc.formats.readers.colmap_model import ModelCamera, ModelImage
from jaxreloc.formats.rigid_arrays import inverse, quaternion_wxyz
from jaxreloc.usage import UsageError


def write_colmap(path: str | pathlib.Path, frames: PosedFrames, *, binary: bool = False) -> None:
    """Writes `frames` as a COLMAP model of pinhole cameras without points into the folder `path`.

    Images of equal size and intrinsics share a camera. The image names are those of `frames`.
    """
    path = pathlib.Path(path)
    ids: dict[ModelCamera, int] = {}
    images = []
    for i, (name, cam_from_world) in enumerate(zip(frames.names, inverse(frames.world_from_cam))):
        if any(character.isspace() for character in name):
            raise UsageError(f"{name!r}: COLMAP's text format allows no space in an image's name")
        (fx, _, cx), (_, fy, cy), _ = frames.intrinsics[i].tolist()
        width, height = frames.image_sizes[i].tolist()
        camera = ModelCamera("PINHOLE", width, height, (fx, fy, cx + 0.5, cy + 0.5))
        key = ids.setdefault(camera, len(ids) + 1)
        q_wxyz = tuple(quaternion_wxyz(cam_from_world).tolist())
        images.append(ModelImage(name, key, q_wxyz, tuple(cam_from_world[:3, 3].tolist())))
    if binary:
        _write_binary(path, {key: camera for camera, key in ids.items()}, images)
        return
    image_lines = ["# image_id qw qx qy qz tx ty tz camera_id name; then a line of its 2D points"]
    for number, image in enumerate(images, start=1):
        pose = " ".join(map(repr, (*image.q_wxyz, *image.translation)))
        image_lines += [f"{number} {pose} {image.camera_id} {image.name}", ""]
    camera_lines = [
        f"{key} {camera.model} {camera.width} {camera.height} "
        + " ".join(map(repr, camera.parameters))
        for camera, key in ids.items()
    ]
    write_text(path / "cameras.txt", "\n".join(camera_lines) + "\n")
    write_text(path / "images.txt", "\n".join(image_lines) + "\n")
    write_text(path / "points3D.txt", "")


def _write_binary(
    folder: pathlib.Path, cameras: dict[int, ModelCamera], images: Sequence[ModelImage]
) -> None:
    """Writes cameras.bin, images.bin and an empty points3D.bin."""
    numbers_by_name = {name: number for number, (name, _) in colmap_cameras.CAMERA_MODELS.items()}
    content = [colmap_model._COUNT.pack(len(cameras))]
    for key, camera in cameras.items():
        number = numbers_by_name[camera.model]
        content.append(colmap_model._CAMERA.pack(key, number, camera.width, camera.height))
        content.append(struct.pack(f"<{len(camera.parameters)}d", *camera.parameters))
    files.write_bytes(folder / "cameras.bin", b"".join(content))
    content = [colmap_model._COUNT.pack(len(images))]
    for key, image in enumerate(images, start=1):
        pose = *image.q_wxyz, *image.translation
        content.append(colmap_model._IMAGE.pack(key, *pose, image.camera_id))
        content.append(os.fsencode(image.name) + b"\0" + colmap_model._COUNT.pack(0))
    files.write_bytes(folder / "images.bin", b"".join(content))
    files.write_bytes(folder / "points3D.bin", colmap_model._COUNT.pack(0))

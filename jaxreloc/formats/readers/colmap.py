"""COLMAP sparse models, text and binary.

An image's pose is `cam_from_world`; the principal point counts from the corner of the top-left
pixel. COLMAP ignores EXIF orientation: poses and cameras are of the picture as it is stored, unless
the camera's size says that it is upright.
"""

import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from jaxreloc.formats.common.collector import (
    BadFrames,
    FrameCollector,
    NamedPose,
    note_unposed,
    relative_name,
    unlisted_images,
)
from jaxreloc.formats.common.colmap_cameras import from_colmap
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.formats.readers.colmap_model import ModelCamera, ModelImage, read_model
from jaxreloc.formats.rigid_arrays import inverse, rigid_from_quaternion
from jaxreloc.usage import UsageError

MODEL_FILES = ("images.bin", "images.txt")
MODEL_FOLDERS = (".", "sparse/0", "sparse", "colmap/sparse/0", "dense/sparse")


def read_colmap(
    path: str | pathlib.Path,
    *,
    images: str | pathlib.Path | None = None,
    scene: str | None = None,
    skip_bad_frames: bool = False,
) -> PosedFrames:
    """The registered images of a COLMAP model, with lens distortion undone as they are read.

    The scale is the model's own: metres only if it was aligned to metres. One warning counts the
    images beside the registered ones, which COLMAP found no pose for.

    Args:
      path: the folder of the model, or a project folder with the model in MODEL_FOLDERS.
      images: the folder that image names refer to; by default `images` beside or above the model.
      scene: the scene's name; by default the project folder's.
      skip_bad_frames: lists bad frames in one warning instead of raising at the first.

    Raises:
      UsageError: the model cannot be read, or a frame is bad.
    """
    project = pathlib.Path(path)
    model = find_model(project)
    cameras, registered = _read_registered(model)
    names = [image.name for image in registered]
    folder = pathlib.Path(images) if images else _find_images(project, model, names)
    beside = unlisted_images(folder / name for name in names)
    note_unposed(model, {relative_name(image, folder) for image in beside})
    collector = FrameCollector(
        scene or project.resolve().name, model, skip_bad_frames=skip_bad_frames
    )
    for image in registered:
        with collector.bad.guard():
            pose = _named_pose(cameras, image, model)
            picture = folder / image.name
            camera = pose.camera(picture)
            collector.add(image.name, picture, pose.world_from_cam, camera, stored=True)
    return collector.finish()


def named_poses(model: pathlib.Path, bad: BadFrames) -> Iterator[NamedPose]:
    """The registered images of the model in the folder `model`, wherever the images are.

    Raises:
      UsageError: the model cannot be read. Bad frames are `bad`'s.
    """
    cameras, registered = _read_registered(model)
    for image in registered:
        with bad.guard():
            yield _named_pose(cameras, image, model)


def find_model(project: pathlib.Path) -> pathlib.Path:
    """The folder of the model in a project folder.

    Raises:
      UsageError: there is none.
    """
    for folder in MODEL_FOLDERS:
        if any(os.path.isfile(project / folder / name) for name in MODEL_FILES):
            return project / folder
    raise UsageError(
        f"{project}: no COLMAP model; looked for {' or '.join(MODEL_FILES)} in "
        f"{', '.join(MODEL_FOLDERS)}"
    )


def _read_registered(model: pathlib.Path) -> tuple[dict[int, ModelCamera], list[ModelImage]]:
    """Its cameras, and its images by name."""
    cameras, images = read_model(model)
    if not images:
        raise UsageError(f"{model}: no image has a pose; run COLMAP's mapper first")
    return cameras, sorted(images, key=lambda image: image.name)


def _named_pose(
    cameras: Mapping[int, ModelCamera], image: ModelImage, model: pathlib.Path
) -> NamedPose:
    source = f"{model}: {image.name}"
    values = (*image.q_wxyz, *image.translation)
    if not np.isfinite(values).all():
        raise UsageError(f"{source}: its pose is NaN or infinite; remove the image or mend it")
    cam_from_world = rigid_from_quaternion(image.q_wxyz, image.translation, source)
    if image.camera_id not in cameras:
        raise UsageError(f"{source}: its camera {image.camera_id} is not in the model; export it")
    stored = cameras[image.camera_id]
    camera = from_colmap(stored.model, stored.width, stored.height, stored.parameters, source)
    return NamedPose(image.name, inverse(cam_from_world), lambda picture: camera, stored=True)


def _find_images(
    project: pathlib.Path, model: pathlib.Path, names: Sequence[str]
) -> pathlib.Path:
    """The likely folder nearest to the model in which any of the images exists.

    The nearest, since undistorted images lie beside their own model, under the names of the others.
    """
    near = (model, *model.resolve().parents[:2], project)
    for folder in [folder / "images" for folder in near] + list(near):
        if any(os.path.isfile(folder / name) for name in names):
            return folder
    raise UsageError(
        f"{project}: the model's image {names[0]} is not there, nor any other; put the images into "
        f"{project / 'images'}"
    )

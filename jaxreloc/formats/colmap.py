"""COLMAP sparse models, text and binary.

An image's pose is `cam_from_world`; the principal point counts from the corner of the top-left
pixel. COLMAP ignores EXIF orientation: poses and cameras are of the picture as it is stored, unless
the camera's size says that it is upright. Reading and binary writing go through pycolmap, which is imported only then: its import has
SIGTERM answered with a native stack trace.
"""

import pathlib
import signal
import tempfile
import threading
import types
import typing
from collections.abc import Iterator, Sequence

import numpy as np

from jaxreloc.extras import extra
from jaxreloc.files import write_text
from jaxreloc.formats.cameras import Camera, from_corner_convention
from jaxreloc.formats.collector import (
    BadFrames,
    FrameCollector,
    NamedPose,
    note_unposed,
    relative_name,
    unlisted_images,
)
from jaxreloc.formats.frames import PosedFrames, rigid
from jaxreloc.formats.rigid_arrays import inverse, quaternion_wxyz
from jaxreloc.usage import UsageError

if typing.TYPE_CHECKING:
    import pycolmap

MODEL_FILES = ("images.bin", "images.txt")
MODEL_FOLDERS = (".", "sparse/0", "sparse", "colmap/sparse/0", "dense/sparse")

# Models whose distortion is OpenCV's, in OpenCV's order.
_PERSPECTIVE = {"SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV"}
_FISHEYE = {"SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE", "OPENCV_FISHEYE"}


def read_colmap(
    path: str | pathlib.Path,
    *,
    images: str | pathlib.Path | None = None,
    scene: str | None = None,
    skip_bad_frames: bool = False,
) -> PosedFrames:
    """The registered images of a COLMAP model, with lens distortion undone as they are read.

    The scale is the model's own: metres only if it was aligned to metres. One warning counts the
    images that COLMAP found no pose for, in the model and beside the registered ones.

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
    reconstruction, registered = _read_model(model)
    names = [image.name for image in registered]
    folder = pathlib.Path(images) if images else _find_images(project, model, names)
    unposed = {image.name for image in reconstruction.images.values()} - set(names)
    beside = unlisted_images(folder / name for name in names)
    note_unposed(model, unposed | {relative_name(image, folder) for image in beside})
    collector = FrameCollector(
        scene or project.resolve().name, model, skip_bad_frames=skip_bad_frames
    )
    for image in registered:
        with collector.bad.guard():
            pose = _named_pose(reconstruction, image, model)
            picture = folder / image.name
            camera = pose.camera(picture)
            collector.add(image.name, picture, pose.world_from_cam, camera, stored=True)
    return collector.finish()


def named_poses(model: pathlib.Path, bad: BadFrames) -> Iterator[NamedPose]:
    """The registered images of the model in the folder `model`, wherever the images are.

    Raises:
      UsageError: the model cannot be read. Bad frames are `bad`'s.
    """
    reconstruction, registered = _read_model(model)
    for image in registered:
        with bad.guard():
            yield _named_pose(reconstruction, image, model)


def write_colmap(path: str | pathlib.Path, frames: PosedFrames, *, binary: bool = False) -> None:
    """Writes `frames` as a COLMAP model of pinhole cameras without points into the folder `path`.

    Images of equal size and intrinsics share a camera. The image names are those of `frames`.
    """
    if binary:
        with tempfile.TemporaryDirectory() as text:
            write_colmap(text, frames)
            pathlib.Path(path).mkdir(parents=True, exist_ok=True)
            _import_pycolmap().Reconstruction(text).write_binary(path)
        return
    path = pathlib.Path(path)
    camera_ids: dict[str, int] = {}
    image_lines = ["# image_id qw qx qy qz tx ty tz camera_id name; then a line of its 2D points"]
    for index, (name, cam_from_world) in enumerate(
        zip(frames.names, inverse(frames.world_from_cam)), start=1
    ):
        if any(character.isspace() for character in name):
            raise UsageError(f"{name!r}: COLMAP's text format allows no space in an image's name")
        fx, fy, cx, cy = (frames.intrinsics[index - 1][i] for i in ((0, 0), (1, 1), (0, 2), (1, 2)))
        width, height = frames.image_sizes[index - 1]
        camera = f"PINHOLE {width} {height} " + _digits([fx, fy, cx + 0.5, cy + 0.5])
        camera_id = camera_ids.setdefault(camera, len(camera_ids) + 1)
        pose = _digits([*quaternion_wxyz(cam_from_world), *cam_from_world[:3, 3]])
        image_lines += [f"{index} {pose} {camera_id} {name}", ""]
    camera_lines = [f"{number} {camera}" for camera, number in camera_ids.items()]
    write_text(path / "cameras.txt", "\n".join(camera_lines) + "\n")
    write_text(path / "images.txt", "\n".join(image_lines) + "\n")
    write_text(path / "points3D.txt", "")


def _import_pycolmap() -> types.ModuleType:
    """pycolmap, with SIGTERM left as it was."""
    with extra("colmap"):
        import pycolmap

    if threading.current_thread() is threading.main_thread():  # only there may it be set
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM) or signal.SIG_DFL)
    return pycolmap


def find_model(project: pathlib.Path) -> pathlib.Path:
    """The folder of the model in a project folder.

    Raises:
      UsageError: there is none.
    """
    for folder in MODEL_FOLDERS:
        if any((project / folder / name).is_file() for name in MODEL_FILES):
            return project / folder
    raise UsageError(
        f"{project}: no COLMAP model; looked for {' or '.join(MODEL_FILES)} in "
        f"{', '.join(MODEL_FOLDERS)}"
    )


def _read_model(
    model: pathlib.Path,
) -> tuple["pycolmap.Reconstruction", list["pycolmap.Image"]]:
    """A model and its registered images by name."""
    try:
        reconstruction = _import_pycolmap().Reconstruction(model)
    except (ValueError, IndexError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(
            f"{model}: not a readable COLMAP model ({reason}); mend it or export it again"
        ) from error
    registered = sorted(
        (image for image in reconstruction.images.values() if image.has_pose),
        key=lambda image: image.name,
    )
    if not registered:
        raise UsageError(f"{model}: no image has a pose; run COLMAP's mapper first")
    return reconstruction, registered


def _named_pose(
    reconstruction: "pycolmap.Reconstruction", image: "pycolmap.Image", model: pathlib.Path
) -> NamedPose:
    source = f"{model}: {image.name}"
    cam_from_world = np.eye(4)
    cam_from_world[:3] = image.cam_from_world().matrix()
    camera = _camera(reconstruction.cameras[image.camera_id], source)
    pose = inverse(rigid(cam_from_world, source))
    return NamedPose(image.name, pose, lambda picture: camera, stored=True)


def _find_images(
    project: pathlib.Path, model: pathlib.Path, names: Sequence[str]
) -> pathlib.Path:
    """The likely folder nearest to the model in which any of the images exists.

    The nearest, since undistorted images lie beside their own model, under the names of the others.
    """
    near = (model, *model.resolve().parents[:2], project)
    for folder in [folder / "images" for folder in near] + list(near):
        if any((folder / name).is_file() for name in names):
            return folder
    raise UsageError(
        f"{project}: the model's image {names[0]} is not there, nor any other; put the images into "
        f"{project / 'images'}"
    )


def _camera(camera: "pycolmap.Camera", source: str) -> Camera:
    model = camera.model_name
    if model not in _PERSPECTIVE | _FISHEYE:
        raise UsageError(
            f"{source}: camera model {model} is not read; run COLMAP's image_undistorter first"
        )
    parameters = [float(value) for value in camera.params]
    if len(camera.focal_length_idxs()) == 1:
        parameters.insert(0, parameters[0])
    fx, fy, cx, cy, *distortion = parameters
    distortion = tuple(distortion)
    if distortion:
        distortion += (0.0,) * (4 - len(distortion))
    return from_corner_convention(
        fx,
        fy,
        cx,
        cy,
        camera.width,
        camera.height,
        distortion=distortion,
        fisheye=model in _FISHEYE,
    ).check(source)


def _digits(values) -> str:
    """Numbers with all the digits that tell them from their neighbours."""
    return " ".join(repr(float(value)) for value in values)

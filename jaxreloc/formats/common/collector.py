"""Gathering the frames of one scene while reading files: what every reader ends in."""

import contextlib
import dataclasses
import logging
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator

import cv2
import numpy as np
from jaxtyping import Float64

from jaxreloc.files import printable
from jaxreloc.formats.common.camera_models import Camera, UndistortedImages, turned_upright
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.formats.rigid_arrays import MAX_COORDINATE
from jaxreloc.images import (
    DepthFiles,
    ImageFiles,
    check_shape,
    note_unread_formats,
    read_depth,
    read_header,
    read_image,
)
from jaxreloc.usage import CommonError, UsageError

logger = logging.getLogger(__name__)
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".PNG", ".JPG", ".JPEG")
_WAY_OUT = (
    "leave such frames out with --skip_bad_frames, in training "
    "--config.data.skip_bad_frames=True, in TFDS builder_kwargs={'skip_bad_frames': True}"
)


@dataclasses.dataclass(frozen=True)
class NamedPose:
    """A pose as a file lists it, by the name that the file has for its image."""

    name: str
    world_from_cam: Float64[np.ndarray, "4 4"]
    camera: Callable[[pathlib.Path], Camera] | None  # of the picture; None: the file has none
    stored: bool = False  # as in `FrameCollector.add`


class BadFrames:
    """What to do with a frame that cannot be used: raise, or skip it and list it at the end.

    Args:
      source: the file or folder being read, for the summary.
      skip: whether to skip; otherwise the first bad frame raises.
    """

    def __init__(self, source: str | pathlib.Path, *, skip: bool):
        self.source = source
        self.skip = skip
        self.problems: list[str] = []

    @contextlib.contextmanager
    def guard(self) -> Iterator[None]:
        """Runs the reading of one frame; a UsageError in it passes on or is noted.

        What all frames share (CommonError) passes on.
        """
        try:
            yield
        except CommonError:
            raise
        except UsageError as error:
            if not self.skip:
                raise UsageError(f"{error}; or {_WAY_OUT}") from error
            self.problems.append(str(error))

    def report(self) -> None:
        """One warning with the count and the list of the skipped frames, if there are any."""
        if self.problems:
            listed = "\n  ".join(self.problems)
            logger.warning(
                "%s: skipped %d bad frame(s):\n  %s", self.source, len(self.problems), listed
            )


@dataclasses.dataclass(frozen=True)
class _Frame:
    name: str
    image: pathlib.Path
    world_from_cam: Float64[np.ndarray, "4 4"]
    camera: Camera
    sequence: str | None
    depth: pathlib.Path | None


class FrameCollector:
    """Collects checked frames and makes `PosedFrames` of them.

    A frame is bad if its picture is absent, unreadable or of another size than its camera, if its
    depth picture is named but absent, or if its name came before. Pictures and depth are decoded
    here only where bad frames are to be skipped, so that one that breaks off in the middle is
    found too; otherwise it raises when it is decoded.

    Args:
      scene: the scene's name.
      source: the file or folder being read.
      skip_bad_frames: lists bad frames in one warning instead of raising at the first.
      depth_per_metre: the depth pictures' units in a metre.
    """

    def __init__(
        self,
        scene: str,
        source: str | pathlib.Path,
        *,
        skip_bad_frames: bool = False,
        depth_per_metre: float = 1000.0,
    ):
        self.scene = scene
        self.source = source
        self.bad = BadFrames(source, skip=skip_bad_frames)
        self._depth_per_metre = depth_per_metre
        self._frames: dict[str, _Frame] = {}

    def add(
        self,
        name: str,
        image: pathlib.Path,
        world_from_cam: Float64[np.ndarray, "4 4"],
        camera: Camera,
        *,
        sequence: str | None = None,
        depth: pathlib.Path | None = None,
        stored: bool = False,
    ) -> None:
        """Adds one frame; call inside `bad.guard()`.

        Where EXIF turns the picture, the size of the camera says whether it and the pose are of
        the picture as it is stored; both are turned along then.

        Args:
          stored: whether they are, where the size does not tell.
        """
        if name in self._frames:
            raise UsageError(f"{self.source}: {name} is listed twice; remove one of its poses")
        header = read_header(image)
        check_shape(header.size, str(image))
        source = f"{image}: its intrinsics in {self.source}"
        camera, upright_from_given = turned_upright(camera, header, source, stored=stored)
        if not np.abs(world_from_cam[:3, 3]).max() < MAX_COORDINATE:
            raise UsageError(
                f"{self.source}: {name} stands at {world_from_cam[:3, 3]}, further than "
                f"{MAX_COORDINATE:g} from the origin; mend its pose"
            )
        world_from_cam = np.array(world_from_cam)
        world_from_cam[:3, :3] = world_from_cam[:3, :3] @ upright_from_given.T
        if depth is not None and not os.path.isfile(depth):
            raise UsageError(f"{depth}: depth picture of {name} is missing; restore it")
        if depth is not None and header.orientation != 1:
            raise UsageError(
                f"{image}: EXIF orientation {header.orientation} turns it, but not its depth "
                "picture; store it upright"
            )
        if self.bad.skip:
            read_image(image)
            if depth is not None:
                read_depth(depth, per_metre=self._depth_per_metre)
        self._frames[name] = _Frame(name, image, world_from_cam, camera, sequence, depth)

    def finish(self) -> PosedFrames:
        """The frames in the order they were added, after a report of the skipped ones.

        Raises:
          UsageError: none is left.
        """
        self.bad.report()
        frames = list(self._frames.values())
        if not frames:
            raise UsageError(f"{self.source}: no usable frame; check that the images lie beside it")
        cameras = tuple(frame.camera for frame in frames)
        images = ImageFiles(tuple(frame.image for frame in frames))
        depths = None
        depth_paths = tuple(frame.depth for frame in frames)
        if not (without := depth_paths.count(None)):
            depths = DepthFiles(depth_paths, self._depth_per_metre)
        elif without < len(frames):
            logger.warning(
                "%s: %d of %d frames have no depth picture; the others' depth is not used",
                self.source,
                without,
                len(frames),
            )
        if distorted := {camera for camera in cameras if not camera.is_pinhole}:
            images = UndistortedImages(images, cameras)
            depths = depths and UndistortedImages(depths, cameras, cv2.INTER_NEAREST)
            _note_distortion(self.source, distorted)
        sequences = [frame.sequence for frame in frames]
        return PosedFrames(
            scene=self.scene,
            names=tuple(frame.name for frame in frames),
            world_from_cam=np.stack([frame.world_from_cam for frame in frames]),
            intrinsics=np.stack([camera.intrinsics for camera in cameras]),
            image_sizes=np.array([(camera.width, camera.height) for camera in cameras], np.int64),
            images=images,
            depths=depths,
            sequences=None if None in sequences else tuple(sequences),
        )


def relative_name(image: pathlib.Path, folder: pathlib.Path) -> str:
    """The name of an image by its path from `folder`, which it need not lie in."""
    return pathlib.Path(os.path.relpath(image, folder)).as_posix()


def unlisted_images(listed: Iterable[pathlib.Path]) -> list[pathlib.Path]:
    """The pictures that are not `listed` in the folders of those that are, in order.

    Those of formats that are not read are counted in a warning.
    """
    listed = {pathlib.Path(os.path.abspath(image)) for image in listed}
    unlisted = []
    for folder in sorted({image.parent for image in listed}):
        if os.path.isdir(folder):
            beside = sorted(folder.iterdir())
            note_unread_formats(folder, beside)
            unlisted += [x for x in beside if x.suffix in IMAGE_SUFFIXES and x not in listed]
    return unlisted


def note_unposed(source: str | pathlib.Path, names: Iterable[str]) -> None:
    """One warning with the number of images that no pose was found for, if there are any."""
    if names := sorted(names):
        logger.warning(
            "%s: %d image(s) have no pose and are left out, the first is %s",
            source,
            len(names),
            printable(names[0]),
        )


def _note_distortion(source: str | pathlib.Path, cameras: set[Camera]) -> None:
    coefficients = "; ".join(
        " ".join(f"{value:.4g}" for value in camera.distortion) for camera in list(cameras)[:3]
    )
    logger.warning(
        "%s: %d camera(s) have lens distortion (%s); images are undistorted as they are read",
        source,
        len(cameras),
        coefficients,
    )

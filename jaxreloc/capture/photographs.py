"""Photographs without poses: which there are, and which of them share a camera."""

import dataclasses
import hashlib
import logging
import os
import pathlib
from collections.abc import Hashable, Sequence

from jaxreloc.formats.common.camera_models import camera_by_exif
from jaxreloc.formats.common.collector import BadFrames
from jaxreloc.formats.posed_images import FORMATS
from jaxreloc.images import (
    PICTURE_SUFFIXES,
    PictureHeader,
    check_shape,
    read_bytes,
    read_header,
)
from jaxreloc.localization.jobs.query_images import VIDEO_SUFFIXES, find_query_images
from jaxreloc.usage import UsageError

logger = logging.getLogger(__name__)
FEWEST = 3
MANY_CAMERAS = 3


@dataclasses.dataclass(frozen=True)
class Photograph:
    """A picture file."""

    name: str
    path: pathlib.Path
    header: PictureHeader

    @property
    def camera(self) -> Hashable:
        """The same for pictures that one camera took at one focal length, as far as is known."""
        return self.header.size, self.header.camera_name, self.focal_px

    @property
    def focal_px(self) -> float | None:
        """By EXIF; None where that says nothing, or nothing that can be."""
        return self.header.focal_px if camera_by_exif(self.header) else None


def lacks_poses(source: str | pathlib.Path) -> bool:
    """Whether it is a video, or a folder of pictures in no format of posed images."""
    path = pathlib.Path(source).expanduser()
    if not os.path.isdir(path):
        return path.suffix.lower() in VIDEO_SUFFIXES and os.path.isfile(path)
    if any(form.fits(path) for form in FORMATS):
        return False
    return any(x.suffix.lower() in PICTURE_SUFFIXES for x in path.rglob("*"))


def find_photographs(
    source: str | pathlib.Path, *, skip_bad_frames: bool = False
) -> list[Photograph]:
    """The pictures of a folder and its subfolders, by name, each content once.

    Raises:
      UsageError: there are fewer than FEWEST, or one is no picture and is not to be skipped.
    """
    bad = BadFrames(source, skip=skip_bad_frames)
    found: dict[str, Photograph] = {}
    doubles = []
    for name, path in find_query_images(source).pictures:
        with bad.guard():
            content = read_bytes(path)
            header = read_header(content, str(path))
            check_shape(header.size, str(path))
            digest = hashlib.sha256(content).hexdigest()
            if digest in found:
                doubles.append((name, found[digest].name))
            else:
                found[digest] = Photograph(name, path, header)
    bad.report()
    if doubles and len(found) > 1:
        logger.warning(
            "%s: %d picture(s) are there twice and are used once, the first is %s, the same as %s",
            source,
            len(doubles),
            *doubles[0],
        )
    photographs = list(found.values())
    check_enough(source, photographs, len(doubles))
    return photographs


def check_enough(
    source: str | pathlib.Path, photographs: Sequence[Photograph], num_doubles: int = 0
) -> None:
    """Raises UsageError if there are fewer than FEWEST."""
    if len(photographs) >= FEWEST:
        return
    same = f" (and {num_doubles} cop{'y' if num_doubles == 1 else 'ies'})" if num_doubles else ""
    raise UsageError(
        f"{source}: {len(photographs)} picture(s){same} without poses; a map needs at least "
        f"{FEWEST}, better 20 or more, taken from different places and each showing most of what "
        "the one before shows"
    )


def note_cameras(source: str | pathlib.Path, photographs: Sequence[Photograph]) -> None:
    """One warning where there are many cameras that nothing is known of."""
    unknown = {x.camera for x in photographs if x.focal_px is None}
    if len(unknown) >= MANY_CAMERAS:
        logger.warning(
            "%s: %d kinds of pictures of unknown focal length; it is found for each of them, less "
            "surely than for one: photograph with one camera, without zoom",
            source,
            len(unknown),
        )

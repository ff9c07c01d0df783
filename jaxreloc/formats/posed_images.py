"""Anyone's posed photographs: finds out which format a folder is in and reads it."""

import dataclasses
import os
import pathlib
from collections.abc import Callable

from jaxreloc.formats.frames import PosedFrames
from jaxreloc.formats.readers import colmap, pose_list, seven_scenes, transforms_json, tum
from jaxreloc.formats.readers.separate_poses import read_separate_poses
from jaxreloc.usage import UsageError


@dataclasses.dataclass(frozen=True)
class Format:
    """A format that a folder of posed images may be in."""

    name: str
    markers: tuple[str, ...]  # a file that matches any of these glob patterns tells the format
    read: Callable[..., PosedFrames]  # (folder, *, scene, skip_bad_frames)

    def fits(self, folder: pathlib.Path) -> bool:
        return any(next(folder.glob(marker), None) is not None for marker in self.markers)


FORMATS = (
    Format("transforms.json", (transforms_json.FILE_NAME,), transforms_json.read_transforms_json),
    Format(
        "COLMAP",
        tuple(
            (pathlib.PurePosixPath(folder) / name).as_posix()
            for folder in colmap.MODEL_FOLDERS
            for name in colmap.MODEL_FILES
        ),
        colmap.read_colmap,
    ),
    Format("TUM RGB-D", ("groundtruth.txt",), tum.read_tum),
    Format(
        "7-Scenes", ("frame-*.pose.txt", "seq-*/frame-*.pose.txt"), seven_scenes.read_seven_scenes
    ),
    Format("CSV", (pose_list.CSV_NAME,), pose_list.read_csv),
    Format("TUM pose list", pose_list.TUM_NAMES, pose_list.read_tum_list),
)


def read_posed_images(
    path: str | pathlib.Path,
    *,
    images: str | pathlib.Path | None = None,
    scene: str | None = None,
    skip_bad_frames: bool = False,
) -> PosedFrames:
    """The posed frames of a folder in any of `FORMATS`; the first whose marker file is there.

    Args:
      path: the folder (a transforms.json itself will do).
      images: the folder of the images, where the poses in `path` lie apart from them; see
        `separate_poses.read_separate_poses`.
      scene: the scene's name; by default the folder's.
      skip_bad_frames: lists bad frames in one warning instead of raising at the first.

    Raises:
      UsageError: no format fits, or a frame is bad.
    """
    path = pathlib.Path(path).expanduser()
    if images is not None:
        return read_separate_poses(path, images, scene=scene, skip_bad_frames=skip_bad_frames)
    if path.name == transforms_json.FILE_NAME and os.path.isfile(path):
        path = path.parent
    if not os.path.isdir(path):
        raise UsageError(f"{path}: no such folder; give the folder of your images and poses")
    for form in FORMATS:
        if form.fits(path):
            return form.read(path, scene=scene, skip_bad_frames=skip_bad_frames)
    found = sorted(entry.name + "/" * os.path.isdir(entry) for entry in path.iterdir())
    known = "; ".join(f"{form.name} ({' or '.join(form.markers[:4])})" for form in FORMATS)
    raise UsageError(
        f"{path}: no poses in a known format. Known: {known}. "
        f"Found: {', '.join(found[:8]) or 'nothing'}{', ...' if len(found) > 8 else ''}"
    )

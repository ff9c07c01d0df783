"""Features of turned and moved views of pictures, computed once and kept on disk.

A picture shows what its camera would have seen had it been turned a little, and with depth, had it
been moved, but for what lies outside. With the backbone frozen, the features of some such views of
each picture are all that the pair head has to be trained on.
"""

import dataclasses
import pathlib
import zlib
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Float16, UInt8
from scipy.spatial.transform import Rotation

from jaxreloc.data.color_jitter import color_jitter
from jaxreloc.data.kept_arrays import kept_arrays
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.images import resize_to_fit
from jaxreloc.models.weights.network_weights import imagenet_features
from jaxreloc.training.inputs.views.novel_views import (
    largest_move,
    moved_views,
    points_of,
    turned_views,
)
from jaxreloc.usage import UsageError

ENCODED_TOGETHER = 40  # pictures, with all their views


@dataclasses.dataclass(frozen=True)
class ViewSettings:
    """Which views there are of a picture, and what sees them.

    Attributes:
      image_size: height and width of a view.
      views: of each picture; the first is the picture as it is.
      turn_deg: the others are turned by up to this about the y, x and z axes of the camera (pan,
        tilt, roll), evenly distributed,
      move_m: moved by up to this along the x, y and z axes (metres), which needs depth,
      jitter: and their colours changed (`color_jitter`).
      backbone: with ImageNet's weights.
      grid: of the head, see `ConcatHead`.
    """

    image_size: tuple[int, int]
    views: int
    turn_deg: tuple[float, float, float]
    move_m: tuple[float, float, float]
    jitter: float
    backbone: str
    grid: tuple[int, int] | None
    seed: int


@dataclasses.dataclass(frozen=True)
class ViewFeatures:
    """The views of n pictures of a scene.

    Attributes:
      features: all that the head sees.
      cam_from_view: from a view's camera to the picture's.
    """

    features: Float16[np.ndarray, "n views *shape"]
    cam_from_view: Float[np.ndarray, "n views 4 4"]


def view_features(
    frames: PosedFrames, settings: ViewSettings, folder: pathlib.Path, say: Callable[[str], None]
) -> ViewFeatures:
    """Those of a scene, read from `folder` or made and kept there.

    The file's name has a digest of the settings and the frames' names, poses and intrinsics.

    Raises:
      UsageError: a picture cannot be read, has no depth where views are moved, or the file is
        damaged or cannot be written.
    """
    if any(settings.move_m) and frames.depths is None:
        raise UsageError(
            f"{frames.scene}: has no depth, and moved views need it; set data.move_m=(0.0,0.0,0.0)"
        )
    shape = len(frames), settings.views

    def check(found: ViewFeatures) -> None:
        if found.features.shape[:2] != shape or found.cam_from_view.shape != (*shape, 4, 4):
            raise ValueError(f"features of shape {found.features.shape}")

    digest = frames.digest(dataclasses.asdict(settings))
    return kept_arrays(
        folder / f"{frames.scene}-{digest[:16]}.npz",
        ViewFeatures,
        lambda: _made(frames, settings, say),
        check,
        "views",
    )


def _made(
    frames: PosedFrames, settings: ViewSettings, say: Callable[[str], None]
) -> ViewFeatures:
    say(f"features of {settings.views} views of each of {len(frames)} pictures of {frames.scene}")
    rng = np.random.default_rng([settings.seed, zlib.crc32(frames.scene.encode())])
    encode = imagenet_features(settings.backbone, settings.grid)
    features, poses = [], []
    for first in range(0, len(frames), ENCODED_TOGETHER):
        views = []
        for i in range(first, min(first + ENCODED_TOGETHER, len(frames))):
            own, cam_from_view = _views(frames, i, settings, rng)
            views += own
            poses.append(cam_from_view)
        features.append(np.asarray(encode(np.stack(views)), np.float16))
    features = np.concatenate(features)
    shape = len(frames), settings.views, *features.shape[1:]
    return ViewFeatures(features.reshape(shape), np.stack(poses))


def _views(
    frames: PosedFrames, i: int, settings: ViewSettings, rng: np.random.Generator
) -> tuple[list[UInt8[np.ndarray, "height width 3"]], Float[np.ndarray, "views 4 4"]]:
    """Picture `i` as it is and other views of it, and `cam_from_view` of each."""
    image, intrinsics, size = frames.images[i], frames.intrinsics[i], settings.image_size
    turns, moves = np.deg2rad(settings.turn_deg), np.array(settings.move_m)
    turns, moves = (x * rng.uniform(-1, 1, (settings.views - 1, 3)) for x in (turns, moves))
    cam_from_view = np.tile(np.eye(4), (settings.views, 1, 1))
    cam_from_view[1:, :3, :3] = Rotation.from_euler("yxz", turns).as_matrix()
    if any(settings.move_m):
        of_depth = frames.depth_intrinsics
        points = points_of(frames.depths[i], intrinsics if of_depth is None else of_depth[i])
        length = np.maximum(np.linalg.norm(moves, axis=1, keepdims=True), 1e-9)
        cam_from_view[1:, :3, 3] = moves * np.minimum(1.0, largest_move(points) / length)
        others = moved_views(image, intrinsics, points, cam_from_view[1:], size)
    else:
        others = turned_views(image, intrinsics, cam_from_view[1:, :3, :3], size)
    views = [resize_to_fit(image, intrinsics, *size)[0]]
    views += [color_jitter(view, intrinsics, settings.jitter, rng)[0] for view in others]
    return views, cam_from_view

"""Features of turned and moved views of pictures, computed once and kept on disk.

A picture shows what its camera would have seen had it been turned a little, but for what lies
outside. With depth, it and the pictures beside it show what a moved camera would have seen. With
the backbone frozen, the features of some such views of each picture are all that the pair head has
to be trained on.
"""

import dataclasses
import pathlib
import zlib
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Float16

from jaxreloc.data.kept_arrays import kept_arrays
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.models.weights.network_weights import imagenet_features
from jaxreloc.progress_bars import progress_bar
from jaxreloc.training.inputs.views.view_painter import ViewPainter, ViewSettings
from jaxreloc.usage import UsageError

ENCODED_TOGETHER = 40  # pictures, with all their views


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
    painter = ViewPainter(frames, settings)
    features, poses = [], []
    views = []
    for i in progress_bar(range(len(frames)), f"views of {frames.scene}", "picture"):
        own, cam_from_view = painter.views(i, rng)
        views += own
        poses.append(cam_from_view)
        if len(poses) % ENCODED_TOGETHER == 0 or len(poses) == len(frames):
            features.append(np.asarray(encode(np.stack(views)), np.float16))
            views = []
    features = np.concatenate(features)
    shape = len(frames), settings.views, *features.shape[1:]
    return ViewFeatures(features.reshape(shape), np.stack(poses))

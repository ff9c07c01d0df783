"""Pooled features of turned views of pictures, computed once and kept on disk.

A picture shows what its camera would have seen had it been turned a little, but for what lies
outside. With the backbone frozen, the features of some such views of each picture are all that the
pair head has to be trained on.
"""

import dataclasses
import hashlib
import json
import pathlib
import zlib
from collections.abc import Callable, Iterator

import cv2
import numpy as np
from jaxtyping import Float, Float16, UInt8
from scipy.spatial.transform import Rotation

from jaxreloc import files
from jaxreloc.data.color_jitter import color_jitter
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.images import resize_to_fit
from jaxreloc.models.weights.network_weights import imagenet_features
from jaxreloc.usage import UsageError

ENCODED_TOGETHER = 40  # pictures, with all their views
# The picture that a view is sampled from has so many times its sides, so that sampling averages.
FINER = 2


@dataclasses.dataclass(frozen=True)
class ViewSettings:
    """Which views there are of a picture, and what sees them.

    Attributes:
      image_size: height and width of a view.
      views: of each picture; the first is the picture as it is.
      turn_deg: the others are turned by up to this about the y, x and z axes of the camera (pan,
        tilt, roll), evenly distributed,
      jitter: and their colours changed (`color_jitter`).
      backbone: with ImageNet's weights.
    """

    image_size: tuple[int, int]
    views: int
    turn_deg: tuple[float, float, float]
    jitter: float
    backbone: str
    seed: int


@dataclasses.dataclass(frozen=True)
class ViewFeatures:
    """The views of n pictures of a scene.

    Attributes:
      pooled: the backbone's pooled features.
      cam_from_view: rotation from a view's axes to the picture's.
    """

    pooled: Float16[np.ndarray, "n views dim"]
    cam_from_view: Float[np.ndarray, "n views 3 3"]


def turned_views(
    image: UInt8[np.ndarray, "h w 3"],
    intrinsics: Float[np.ndarray, "3 3"],
    cam_from_view: Float[np.ndarray, "views 3 3"],
    image_size: tuple[int, int],
) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
    """What a camera of the same lens, turned on the spot, sees of a picture.

    A view's pixel v is the picture's `K cam_from_view K_v^-1 v`, K_v being the intrinsics that
    fit the whole picture into `image_size` (height, width). Beyond its edges the picture's last
    pixels go on. The first view is the whole picture itself, whatever its rotation.
    """
    height, width = image_size
    whole, K_view = resize_to_fit(image, intrinsics, height, width)
    yield whole
    finer, K = resize_to_fit(image, intrinsics, FINER * height, FINER * width)
    for rotation in cam_from_view[1:]:
        yield cv2.warpPerspective(
            finer,
            K @ rotation @ np.linalg.inv(K_view),
            (width, height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )


def view_features(
    frames: PosedFrames, settings: ViewSettings, folder: pathlib.Path, say: Callable[[str], None]
) -> ViewFeatures:
    """Those of a scene, read from `folder` or made and kept there.

    The file's name has a digest of the settings and the frames' names, poses and intrinsics.

    Raises:
      UsageError: a picture cannot be read, or the file is damaged or cannot be written.
    """
    path = folder / f"{frames.scene}-{_digest(frames, settings)[:16]}.npz"
    if path.exists():
        return _read(path, (len(frames), settings.views))
    say(f"features of {settings.views} views of each of {len(frames)} pictures of {frames.scene}")
    made = _made(frames, settings)
    with files.replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **dataclasses.asdict(made))
    return made


def _made(frames: PosedFrames, settings: ViewSettings) -> ViewFeatures:
    rng = np.random.default_rng([settings.seed, zlib.crc32(frames.scene.encode())])
    n, shape = len(frames), (len(frames), settings.views)
    turns = np.deg2rad(settings.turn_deg) * rng.uniform(-1, 1, (*shape, 3))
    turns[:, 0] = 0.0
    cam_from_view = Rotation.from_euler("yxz", turns.reshape(-1, 3)).as_matrix()
    cam_from_view = cam_from_view.reshape(*shape, 3, 3)
    encode = imagenet_features(settings.backbone)
    pooled = []
    for first in range(0, n, ENCODED_TOGETHER):
        views = []
        for i in range(first, min(first + ENCODED_TOGETHER, n)):
            image, intrinsics = frames.images[i], frames.intrinsics[i]
            whole, *turned = turned_views(image, intrinsics, cam_from_view[i], settings.image_size)
            views.append(whole)
            views += [color_jitter(view, intrinsics, settings.jitter, rng)[0] for view in turned]
        pooled.append(np.asarray(encode(np.stack(views)).pooled, np.float16))
    return ViewFeatures(np.concatenate(pooled).reshape(*shape, -1), cam_from_view)


def _read(path: pathlib.Path, shape: tuple[int, int]) -> ViewFeatures:
    files.check_regular(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = ViewFeatures(**dict(archive))
        if found.pooled.shape[:2] != shape or found.cam_from_view.shape != (*shape, 3, 3):
            raise ValueError(f"pooled features of shape {found.pooled.shape}")
        return found
    except Exception as error:  # of the zip, of its members and of NumPy's headers: any
        message = f"{path}: not a file of views ({error}); delete it, and it is made again"
        raise UsageError(message) from error


def _digest(frames: PosedFrames, settings: ViewSettings) -> str:
    text = json.dumps([dataclasses.asdict(settings), frames.names])
    digest = hashlib.sha256(text.encode("utf-8", "backslashreplace"))
    digest.update(np.ascontiguousarray(frames.world_from_cam))
    digest.update(np.ascontiguousarray(frames.intrinsics))
    return digest.hexdigest()

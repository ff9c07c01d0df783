"""Draws turned and moved views of a scene's pictures."""

import dataclasses
import functools

import numpy as np
from jaxtyping import Float, UInt8
from scipy.spatial.transform import Rotation

from jaxreloc.data.color_jitter import change_light, color_jitter
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.formats.rigid_arrays import inverse
from jaxreloc.images import resize_to_fit
from jaxreloc.training.inputs.views.novel_views import (
    ColouredPoints,
    NovelView,
    coloured_points,
    novel_view,
    turned_views,
)

KEPT_PICTURES = 1_000  # whose points stay in memory, 1.2 MB each at 192x256
NEAR_M, NEAR_RAD = 0.5, 0.5  # pictures are as near to a view in position as in direction
MAX_DISTANCE = 3.0  # of a picture from a view, the sum of both in these units
APART_M, APART_RAD, MIN_APART = 0.1, 0.1, 1.5  # pictures nearer to each other show the same
COARSER = 4  # sides of a view, in those of the sketch that shows whether it is worth painting
SKETCHED = 13  # one of so many points, prime, so that no column of pixels is left out
TRIES = 4  # for a view that shows enough, each of a shorter move and a smaller turn
SHORTER = 0.75
MIN_COVERED = 0.7  # of a view's pixels are seen in pictures
NEAREST_SHARE = 0.05  # of a picture's pixels, which are the nearest things,
CLOSEST = 0.5  # and no camera comes nearer to things than this share of their distance


@dataclasses.dataclass(frozen=True)
class ViewSettings:
    """Which views there are of a picture, and what sees them.

    Attributes:
      image_size: height and width of a view.
      views: of each picture; the first is the picture as it is.
      turn_deg: the others are turned by up to this about the y, x and z axes of the camera (pan,
        tilt, roll), evenly distributed,
      move_m: moved by up to this along the x, y and z axes (metres), which needs depth; where the
        pictures show too little of what such a camera sees, both are less,
      jitter: and their colours changed (`color_jitter`), after their light (`change_light`).
      pictures: at most, of which a moved view is put together.
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
    pictures: int = 5


class ViewPainter:
    """Draws views of pictures, each with its pose.

    Args:
      frames: with depth, where views are moved.
    """

    def __init__(self, frames: PosedFrames, settings: ViewSettings):
        self._frames, self._settings = frames, settings
        self._points = functools.lru_cache(KEPT_PICTURES)(self._points_of)

    def views(
        self, i: int, rng: np.random.Generator
    ) -> tuple[list[UInt8[np.ndarray, "height width 3"]], Float[np.ndarray, "views 4 4"]]:
        """Picture `i` as it is and other views of it, and `cam_from_view` of each."""
        settings, number = self._settings, self._settings.views - 1
        image, intrinsics = self._frames.images[i], self._frames.intrinsics[i]
        turns = np.deg2rad(settings.turn_deg) * rng.uniform(-1, 1, (number, 3))
        moves = np.array(settings.move_m) * rng.uniform(-1, 1, (number, 3))
        cam_from_view = np.tile(np.eye(4), (settings.views, 1, 1))
        own, K_view = resize_to_fit(image, intrinsics, *settings.image_size)
        if any(settings.move_m):
            others = []
            for k, (turn, move) in enumerate(zip(turns, moves, strict=True), 1):
                view, cam_from_view[k] = self._moved(i, turn, move, K_view)
                others.append(view.image)
        else:
            cam_from_view[1:, :3, :3] = Rotation.from_euler("yxz", turns).as_matrix()
            others = turned_views(
                image, intrinsics, cam_from_view[1:, :3, :3], settings.image_size
            )
        changed = [self._changed(view, intrinsics, rng) for view in others]
        return [own, *changed], cam_from_view

    def _changed(
        self, view: np.ndarray, intrinsics: np.ndarray, rng: np.random.Generator
    ) -> UInt8[np.ndarray, "height width 3"]:
        if not self._settings.jitter:
            return view
        return color_jitter(change_light(view, rng), intrinsics, self._settings.jitter, rng)[0]

    def _moved(
        self, i: int, turn: np.ndarray, move: np.ndarray, K_view: np.ndarray
    ) -> tuple[NovelView, Float[np.ndarray, "4 4"]]:
        """A view of what is moved and turned by so much or by less, and its `cam_from_view`.

        By less, where the pictures show too little of it or the camera would run into things.
        """
        closest = CLOSEST * _nearest(self._points(i).xyz[2])
        cam_from_view = np.eye(4)
        for scale in SHORTER ** np.arange(TRIES):
            cam_from_view[:3, :3] = Rotation.from_euler("yxz", scale * turn).as_matrix()
            cam_from_view[:3, 3] = scale * move
            sketch = self._seen(i, cam_from_view, K_view, COARSER)
            if sketch.covered >= MIN_COVERED and _nearest(sketch.depth) >= closest:
                break
        else:
            cam_from_view[:3, 3] = 0.0
        return self._seen(i, cam_from_view, K_view), cam_from_view

    def _seen(
        self, i: int, cam_from_view: np.ndarray, K_view: np.ndarray, coarser: int = 1
    ) -> NovelView:
        """A view, or a sketch of it."""
        height, width = self._settings.image_size
        size = height // coarser, width // coarser
        to_size = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, coarser]]) / coarser
        to_size[:2, 2] -= 0.5  # pixels' middles are whole numbers
        world_from_view = self._frames.world_from_cam[i] @ cam_from_view
        pictures = self._pictures_near(i, world_from_view)
        view_from_cam = inverse(world_from_view) @ self._frames.world_from_cam[pictures]
        points = [self._points(int(k)) for k in pictures]
        if coarser > 1:
            points = [
                ColouredPoints(x.xyz[:, ::SKETCHED], x.colours[::SKETCHED]) for x in points
            ]
        return novel_view(points, view_from_cam, to_size @ K_view, size)

    def _pictures_near(self, i: int, world_from_view: np.ndarray) -> np.ndarray:
        """Picture `i`, then those near to a view, no two of which are near to each other."""
        poses = self._frames.world_from_cam
        distance = _distance(poses, world_from_view, NEAR_M, NEAR_RAD)
        chosen = [i]
        apart = _distance(poses, poses[i], APART_M, APART_RAD)
        for k in np.argsort(distance, kind="stable"):
            if len(chosen) == self._settings.pictures or distance[k] > MAX_DISTANCE:
                break
            if apart[k] > MIN_APART:
                chosen.append(int(k))
                apart = np.minimum(apart, _distance(poses, poses[k], APART_M, APART_RAD))
        return np.array(chosen)

    def _points_of(self, i: int) -> ColouredPoints:
        frames = self._frames
        of_depth = frames.intrinsics if frames.depth_intrinsics is None else frames.depth_intrinsics
        return coloured_points(
            *(frames.images[i], frames.intrinsics[i], frames.depths[i], of_depth[i]),
            self._settings.image_size,
        )


def _nearest(depth: np.ndarray) -> float:
    """How far the nearest things are, of a picture's depths; 0 where there are none."""
    known = depth[np.isfinite(depth)]
    return float(np.quantile(known, NEAREST_SHARE)) if len(known) else 0.0


def _distance(
    poses: Float[np.ndarray, "n 4 4"], pose: Float[np.ndarray, "4 4"], metres: float, radians: float
) -> Float[np.ndarray, " n"]:
    """How far cameras are from one, in position and in angle, in these units, added."""
    apart = np.linalg.norm(poses[:, :3, 3] - pose[:3, 3], axis=1)
    cos = (np.einsum("nij,ij->n", poses[:, :3, :3], pose[:3, :3]) - 1) / 2
    return apart / metres + np.arccos(np.clip(cos, -1, 1)) / radians

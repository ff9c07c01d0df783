"""What cameras beside a picture's own would have seen of it."""

from collections.abc import Iterator

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from jaxreloc.images import resize_to_fit

# The grid that a view is sampled on has so many times its sides, so that sampling averages.
FINER = 2
NEAREST_SHARE = 0.05  # of a picture's pixels, which are the nearest things,
CLOSEST = 0.5  # and no camera moves by more than this share of their distance
NEAREST = 2e-3  # metres; what is nearer to a camera is not seen
DEPTH_STEP = 2e-4  # metres; points are sorted by depth to this


def turned_views(
    image: UInt8[np.ndarray, "h w 3"],
    intrinsics: Float[np.ndarray, "3 3"],
    cam_from_view: Float[np.ndarray, "views 3 3"],
    image_size: tuple[int, int],
) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
    """What a camera of the same lens, turned on the spot, sees of a picture.

    A view's pixel v is the picture's `K cam_from_view K_v^-1 v`, K_v being the intrinsics that
    fit the whole picture into `image_size` (height, width). Beyond its edges the picture's last
    pixels go on.
    """
    height, width = image_size
    K_view = resize_to_fit(image, intrinsics, height, width)[1]
    finer, K = resize_to_fit(image, intrinsics, FINER * height, FINER * width)
    for rotation in cam_from_view:
        yield cv2.warpPerspective(
            finer,
            K @ rotation @ np.linalg.inv(K_view),
            (width, height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )


def moved_views(
    image: UInt8[np.ndarray, "h w 3"],
    intrinsics: Float[np.ndarray, "3 3"],
    points: Float[np.ndarray, "n 3"],
    cam_from_view: Float[np.ndarray, "views 4 4"],
    image_size: tuple[int, int],
) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
    """What a camera of the same lens, moved and turned, sees of a picture with depth.

    Each point falls on the pixel `K_v (cam_from_view^-1 X)`, and the nearest of them is seen there.
    A pixel on which none falls takes the colour of the nearest pixel that has one.

    Args:
      points: the pixels that have depth, in the picture's camera (metres); see `points_of`.
    """
    height, width = image_size
    shape = FINER * height, FINER * width
    K = resize_to_fit(image, intrinsics, *shape)[1]
    index, inside = _pixels(points.T, intrinsics, image.shape[:2])
    points = np.ascontiguousarray(points[inside].T, np.float32)
    colours = image.reshape(-1, 3)[index[inside]]
    for pose in cam_from_view.astype(np.float32):
        seen = pose[:3, :3].T @ points - (pose[:3, :3].T @ pose[:3, 3])[:, None]
        index, inside = _pixels(seen, K, shape)
        ahead = np.flatnonzero(inside)
        far = np.minimum(seen[2, ahead] / DEPTH_STEP, 65535).astype(np.uint16)
        order = ahead[np.argsort(65535 - far, kind="stable")]  # the farthest first
        source = np.full(shape, -1, np.int32)
        source.ravel()[index[order]] = order
        view = colours[_filled(source)]
        yield cv2.resize(view, (width, height), interpolation=cv2.INTER_AREA)


def points_of(
    depth: Float[np.ndarray, "h w"], intrinsics: Float[np.ndarray, "3 3"]
) -> Float[np.ndarray, "n 3"]:
    """The points in the camera's axes of the pixels of a depth picture that are not 0, metres."""
    row, column = np.nonzero(depth)
    rays = np.stack([column, row, np.ones_like(row)], 1) @ np.linalg.inv(intrinsics).T
    return rays * depth[row, column, None]


def largest_move(points: Float[np.ndarray, "n 3"]) -> float:
    """How far a camera may move among the points without running into them, metres."""
    if not len(points):
        return 0.0
    return CLOSEST * float(np.quantile(points[:, 2], NEAREST_SHARE))


def _pixels(
    points: Float[np.ndarray, "3 n"], intrinsics: Float[np.ndarray, "3 3"], shape: tuple[int, int]
) -> tuple[Int[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """The pixel of a picture of this height and width that each point falls on, row by row.

    The second says for which points there is one; the number of others is arbitrary.
    """
    focal, centre, z = intrinsics[[0, 1], [0, 1]], intrinsics[:2, 2], points[2]
    ahead = z > NEAREST
    inverse = 1.0 / np.where(ahead, z, 1.0)
    column, row = (points[k] * inverse * float(focal[k]) + float(centre[k]) for k in (0, 1))
    inside = ahead & (column > -0.5) & (column < shape[1] - 0.5)
    inside &= (row > -0.5) & (row < shape[0] - 0.5)
    column, row = (np.rint(np.where(inside, x, 0)).astype(np.int32) for x in (column, row))
    return row * shape[1] + column, inside


def _filled(source: Int[np.ndarray, "h w"]) -> Int[np.ndarray, "h w"]:
    """Each -1 replaced by the nearest other number; all 0 where there is none."""
    empty = source < 0
    if empty.all():
        return np.zeros_like(source)
    _, labels = cv2.distanceTransformWithLabels(
        empty.astype(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    of_label = np.zeros(labels.max() + 1, source.dtype)
    of_label[labels[~empty]] = source[~empty]
    return of_label[labels]

"""What cameras beside a picture's own would have seen of its scene."""

import dataclasses
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8

from jaxreloc.images import resize_to_fit

# The grid that a turned view is sampled on has so many times its sides, so that sampling averages.
FINER = 2
DENSER = 1.25  # sides of the picture whose pixels become points, in those of a view
NEAREST = 2e-3  # of the farthest depth; what is nearer to a camera is not seen
SEEN_THROUGH = 1.15  # times the depth around a pixel: it is seen through a gap between points
IN_FRONT = 0.93  # times the depth of another picture's pixel: this hides that
SAME_SURFACE = 0.03  # of the depth, between pixels of two pictures that show one thing
MIN_SHARED = 0.007  # of a view's pixels, by which two pictures' brightness is compared
WHOLE = 0.985  # of a view's pixels; no more pictures are asked


@dataclasses.dataclass(frozen=True)
class ColouredPoints:
    """The pixels of a picture that have depth.

    Attributes:
      xyz: in the camera's axes (metres).
    """

    xyz: Float32[np.ndarray, "3 n"]
    colours: UInt8[np.ndarray, "n 3"]


@dataclasses.dataclass(frozen=True)
class NovelView:
    """What a camera sees of pictures with depth.

    Attributes:
      image: a pixel that no picture shows has the colour of the nearest one that has any.
      depth: along z (metres); infinite where no picture shows anything.
    """

    image: UInt8[np.ndarray, "h w 3"]
    depth: Float32[np.ndarray, "h w"]

    @property
    def covered(self) -> float:
        """The share of its pixels that pictures show."""
        return float(np.isfinite(self.depth).mean())


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


def coloured_points(
    image: UInt8[np.ndarray, "h w 3"],
    intrinsics: Float[np.ndarray, "3 3"],
    depth: Float[np.ndarray, "h2 w2"],
    depth_intrinsics: Float[np.ndarray, "3 3"],
    image_size: tuple[int, int],
) -> ColouredPoints:
    """The points of a picture, about as dense as views of `image_size` (height, width) need."""
    height, width = image_size
    step = max(1, int(min(depth.shape[0] / height, depth.shape[1] / width) / DENSER))
    row, column = (step * x for x in np.nonzero(depth[::step, ::step]))
    pixels = np.stack([column, row, np.ones_like(row)]).astype(np.float64)
    xyz = np.linalg.inv(depth_intrinsics) @ pixels * depth[row, column]
    shape = (image.shape[0] // step, image.shape[1] // step)
    smaller, K = resize_to_fit(image, intrinsics, *shape)
    index, inside = _pixels(xyz, K, shape)
    return ColouredPoints(
        xyz[:, inside].astype(np.float32), smaller.reshape(-1, 3)[index[inside]]
    )


def novel_view(
    pictures: Sequence[ColouredPoints],
    view_from_cam: Float[np.ndarray, "pictures 4 4"],
    intrinsics: Float[np.ndarray, "3 3"],
    image_size: tuple[int, int],
) -> NovelView:
    """What a camera sees of the points of pictures, the first ones of which come first.

    A point falls on the pixel K (view_from_cam X), and the nearest of a picture's is seen there. A
    later picture fills what the earlier ones leave empty and hides what lies clearly behind. It is
    made as bright, in each colour, as they are on the surfaces that both show. Where hardly
    anything is left empty no more pictures are asked.

    Args:
      intrinsics: of the view.
      image_size: its height and width.
    """
    image = np.zeros((*image_size, 3), np.uint8)
    depth = np.full(image_size, np.inf, np.float32)
    for k, (points, pose) in enumerate(zip(pictures, view_from_cam, strict=True)):
        colours, behind = _drawn(points, pose, intrinsics, image_size)
        new, old = np.isfinite(behind), np.isfinite(depth)
        both = new & old
        both[both] = np.abs(behind[both] - depth[both]) < SAME_SURFACE * depth[both]
        if k and both.sum() > MIN_SHARED * both.size:
            gain = (image[both].mean(0) + 1) / (colours[both].mean(0) + 1)
            colours = np.clip(colours * gain, 0, 255).astype(np.uint8)
        taken = new & (~old | (behind < IN_FRONT * depth))
        image[taken], depth[taken] = colours[taken], behind[taken]
        if np.isfinite(depth).mean() > WHOLE:
            break
    return NovelView(_filled(image, np.isfinite(depth)), depth)


def _drawn(
    points: ColouredPoints,
    view_from_cam: Float[np.ndarray, "4 4"],
    intrinsics: Float[np.ndarray, "3 3"],
    shape: tuple[int, int],
) -> tuple[UInt8[np.ndarray, "h w 3"], Float32[np.ndarray, "h w"]]:
    """The colours and depths that one picture gives to a view; infinitely far where it has none."""
    pose = view_from_cam.astype(np.float32)
    seen = pose[:3, :3] @ points.xyz + pose[:3, 3:]
    index, inside = _pixels(seen, intrinsics, shape)
    ahead = np.flatnonzero(inside)
    depth = np.full(shape, np.inf, np.float32)
    if not len(ahead):
        return np.zeros((*shape, 3), np.uint8), depth
    z = seen[2, ahead]
    order = ahead[np.argsort((65535 * (1 - z / z.max())).astype(np.uint16), kind="stable")]
    source = np.full(shape, -1, np.int32)
    source.ravel()[index[order]] = order  # the farthest first, so that the nearest stays
    hit = source >= 0
    depth[hit] = seen[2, source[hit]]
    around = cv2.medianBlur(np.where(hit, depth, 0), 5)
    depth[(around > 0) & (depth > SEEN_THROUGH * around)] = np.inf
    return points.colours[np.maximum(source, 0)], depth


def _pixels(
    points: Float[np.ndarray, "3 n"], intrinsics: Float[np.ndarray, "3 3"], shape: tuple[int, int]
) -> tuple[Int[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """The pixel of a picture of this height and width that each point falls on, row by row.

    The second says for which points there is one; the number of others is arbitrary.
    """
    focal, centre, z = intrinsics[[0, 1], [0, 1]], intrinsics[:2, 2], points[2]
    ahead = z > NEAREST * np.max(z, initial=0.0)
    inverse = 1.0 / np.where(ahead, z, 1.0)
    column, row = (points[k] * inverse * float(focal[k]) + float(centre[k]) for k in (0, 1))
    inside = ahead & (column > -0.5) & (column < shape[1] - 0.5)
    inside &= (row > -0.5) & (row < shape[0] - 0.5)
    column, row = (np.rint(np.where(inside, x, 0)).astype(np.int32) for x in (column, row))
    return row * shape[1] + column, inside


def _filled(
    image: UInt8[np.ndarray, "h w 3"], shown: Bool[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "h w 3"]:
    """Each pixel that is not shown has the colour of the nearest one that is."""
    if shown.all() or not shown.any():
        return image
    _, labels = cv2.distanceTransformWithLabels(
        (~shown).astype(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    of_label = np.zeros((labels.max() + 1, 3), np.uint8)
    of_label[labels[shown]] = image[shown]
    return of_label[labels]

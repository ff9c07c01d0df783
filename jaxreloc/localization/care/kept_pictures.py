"""The pictures that a map keeps, without the margins of the network's canvas."""

import numpy as np
from jaxtyping import Float64, UInt8

from jaxreloc.images import decode_image
from jaxreloc.localization.map.scene_map import SceneMap


def kept_picture(
    scene_map: SceneMap, row: int
) -> tuple[UInt8[np.ndarray, "h w 3"], Float64[np.ndarray, "3 3"]]:
    """An image as the network saw it, and its intrinsics there.

    Of a network that does not match it is a small one; its intrinsics mean nothing.
    """
    picture = decode_image(scene_map.pictures[row], f"picture {row} of the map")
    K = scene_map.network_intrinsics[row].astype(np.float64)
    width, height = scene_map.image_sizes[row]
    corners = np.array([[-0.5, -0.5, 1], [width - 0.5, height - 0.5, 1]])
    in_picture = corners @ (K @ np.linalg.inv(scene_map.intrinsics[row])).T + 0.5
    (left, top), (right, bottom) = np.rint(in_picture).astype(int)[:, :2]
    if not (0 <= left < right <= picture.shape[1] and 0 <= top < bottom <= picture.shape[0]):
        return picture, K
    K[:2, 2] -= left, top
    return picture[top:bottom, left:right], K

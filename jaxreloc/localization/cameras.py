"""Intrinsics for a query that comes without."""

import numpy as np
from jaxtyping import Float

from jaxreloc.localization.scene_map import SceneMap


def assumed_intrinsics(scene_map: SceneMap, width: int, height: int) -> Float[np.ndarray, "3 3"]:
    """Intrinsics of a width x height image taken with a camera like the map's.

    The focal length is the map's median in lengths of the longer side; the principal point is the
    centre of the image. A guess: the true focal length of another camera may differ by a factor.
    """
    focal_px = np.mean(scene_map.intrinsics[:, [0, 1], [0, 1]], axis=1)
    relative_focal = np.median(focal_px / scene_map.image_sizes.max(axis=1))
    focal = relative_focal * max(width, height)
    return np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])

"""Intrinsics for a query that comes without."""

import dataclasses
import logging

import numpy as np
from jaxtyping import Float

from jaxreloc.formats.common.camera_models import Camera, camera_by_exif, contradiction
from jaxreloc.images import PictureHeader
from jaxreloc.localization.map.scene_map import SceneMap

logger = logging.getLogger(__name__)

# Of the logarithm of a focal length that nothing is known of, and of one that EXIF says.
UNKNOWN_DEVIATION, EXIF_DEVIATION = 0.5, 0.03


@dataclasses.dataclass(frozen=True)
class PresumedCamera:
    """What a picture's camera is taken to be.

    Attributes:
      focal_deviation: of the logarithm of the focal length, which is found along with the pose;
        None: it is taken as it is.
      source: "exif", or "map": a camera like the map's.
    """

    intrinsics: Float[np.ndarray, "3 3"]
    focal_deviation: float | None
    source: str


def intrinsics_of_size(
    scene_map: SceneMap, width: int, height: int
) -> Float[np.ndarray, "k 3 3"]:
    """Of the map's images of this size, which are likely of one camera."""
    return scene_map.intrinsics[(scene_map.image_sizes == (width, height)).all(axis=1)]


class AssumedCamera:
    """A camera like the map's, for images of any size.

    The intrinsics are the median of the map's images of the same size, which are likely of the same
    camera. Where there are none, the focal length is the map's median in lengths of the longer
    side, and the principal point the centre of the image. A guess: the true focal length of another
    camera may differ by a factor.
    """

    def __init__(self, scene_map: SceneMap):
        self._scene_map = scene_map
        focal_px = np.mean(scene_map.intrinsics[:, [0, 1], [0, 1]], axis=1)
        self._relative_focal = np.median(focal_px / scene_map.image_sizes.max(axis=1))
        self._known: dict[tuple[int, int], np.ndarray] = {}

    def of_picture(self, header: PictureHeader, *, searches: bool) -> PresumedCamera:
        """The camera of a picture by its EXIF, else like the map's.

        Args:
          searches: the focal length is then found along with the pose.
        """
        by_exif = camera_by_exif(header)
        if by_exif is not None:
            return PresumedCamera(by_exif.intrinsics, EXIF_DEVIATION if searches else None, "exif")
        assumed = self.intrinsics(*header.size, is_start=searches)
        return PresumedCamera(assumed, UNKNOWN_DEVIATION if searches else None, "map")

    def intrinsics(
        self, width: int, height: int, *, is_start: bool
    ) -> Float[np.ndarray, "3 3"]:
        """Intrinsics of a width x height image; warns once of each size.

        Args:
          is_start: a search begins there, which the warning says.
        """
        if (width, height) not in self._known:
            same = intrinsics_of_size(self._scene_map, width, height)
            if len(same):
                intrinsics = np.median(same, axis=0)
            else:
                focal = self._relative_focal * max(width, height)
                intrinsics = Camera.centred(focal, width, height).intrinsics
            how = "searched from" if is_start else "taken to be"
            logger.warning(
                "no intrinsics given: the focal length of %d x %d images is %s %.0f px, as the "
                "map's have",
                width,
                height,
                how,
                np.mean(intrinsics[[0, 1], [0, 1]]),
            )
            self._known[width, height] = intrinsics
        return self._known[width, height]


def check_intrinsics(intrinsics: Float[np.ndarray, "3 3"], width: int, height: int) -> None:
    """Raises ValueError where these cannot be the intrinsics of a width x height image."""
    if problem := contradiction(intrinsics, width, height):
        raise ValueError(problem)

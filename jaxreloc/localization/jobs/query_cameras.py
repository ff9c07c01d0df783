"""The camera of each query: given, or by EXIF, or assumed and found with the pose."""

import dataclasses
import logging
import pathlib

import numpy as np
from jaxtyping import Float, UInt8

from jaxreloc.formats.common.camera_models import Camera, turned_upright, undistorted
from jaxreloc.formats.common.colmap_cameras import CameraList, is_camera_list
from jaxreloc.formats.common.intrinsics_file import read_intrinsics, read_pinhole
from jaxreloc.images import PictureHeader
from jaxreloc.localization.jobs.query_images import QueryImage
from jaxreloc.localization.localizer import Localizer

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class SeenQuery:
    """A query as a pinhole camera sees it.

    Attributes:
      focal_deviation: of the logarithm of the focal length; None: it is known.
    """

    image: UInt8[np.ndarray, "h w 3"]
    intrinsics: Float[np.ndarray, "3 3"]
    focal_deviation: float | None = None


class QueryCameras:
    """Finds each query's camera, and undoes the distortion that it has.

    Args:
      path: `fx fy cx cy` of all queries, or rows `name MODEL width height parameters` as COLMAP
        has them, of each picture or folder. None: what the queries' source tells, else EXIF.

    Raises:
      UsageError: the file is neither.
    """

    def __init__(self, localizer: Localizer, path: str | pathlib.Path | None):
        self._assumed = localizer.assumed_camera
        self._searches = localizer.method.finds_focal_length
        self._path = path
        self._list = CameraList(path) if path is not None and is_camera_list(path) else None
        if path is not None and self._list is None:
            read_pinhole(path)  # so that a wrong file is said before the work
        self._known: dict[tuple[tuple[int, int], int], Camera] = {}

    @property
    def may_search(self) -> bool:
        """Whether focal lengths are found along with the poses, as far as no source tells them."""
        return self._searches and self._path is None

    def see(self, query: QueryImage) -> SeenQuery:
        """The query, whose image could be read.

        Raises:
          UsageError: the camera is not of this picture.
        """
        if query.camera is not None:
            return SeenQuery(query.image, query.camera.intrinsics)
        header = query.header
        if self._list is not None:
            source = f"{self._path}: the intrinsics of {query.name}"
            camera, _ = turned_upright(self._list.of(query.name), header, source, stored=True)
            return SeenQuery(undistorted(query.image, camera), camera.intrinsics)
        if self._path is not None:
            return SeenQuery(query.image, self._pinhole(header).intrinsics)
        presumed = self._assumed.of_picture(header, searches=self._searches)
        return SeenQuery(query.image, presumed.intrinsics, presumed.focal_deviation)

    def _pinhole(self, header: PictureHeader) -> Camera:
        """The one camera of all queries, for pictures of one size and orientation."""
        kind = header.stored_size, header.orientation
        if kind not in self._known:
            self._known[kind] = self._read(header)
        return self._known[kind]

    def _read(self, header: PictureHeader) -> Camera:
        given = read_intrinsics(self._path, header)
        camera, _ = turned_upright(given, header, f"{self._path}: intrinsics", stored=False)
        sizes = {(known.width, known.height) for known in self._known.values()}
        if sizes and (camera.width, camera.height) not in sizes:
            logger.warning(
                "%s: is used for %d x %d images, too; they should be of one size",
                self._path,
                camera.width,
                camera.height,
            )
        return camera

"""What a request brings: a picture with its camera, a place that is known roughly, a pose."""

import dataclasses
import json
import pathlib

import numpy as np
from jaxtyping import Bool, Float, UInt8

from jaxreloc import images
from jaxreloc.formats.common.camera_models import pinhole, turned_upright
from jaxreloc.formats.frames import rigid
from jaxreloc.images import headers
from jaxreloc.localization.assumed_camera import PresumedCamera
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.serving.answering.map_shelf import OpenMap
from jaxreloc.serving.request_limits import Refused
from jaxreloc.usage import UsageError

PICTURE = "the picture"
MAX_NAME = 200  # characters
Numbers = tuple[float | None, float | None, float | None, float | None]


@dataclasses.dataclass(frozen=True)
class Upload:
    """A picture with its camera.

    Attributes:
      focal_deviation: see `PresumedCamera`.
      camera_source: "given", "exif", or "map": a camera like the map's is assumed.
    """

    image: UInt8[np.ndarray, "h w 3"]
    intrinsics: Float[np.ndarray, "3 3"]
    focal_deviation: float | None
    camera_source: str


def read_upload(
    encoded: bytes, given: Numbers, opened: OpenMap, max_pixels: int
) -> Upload:
    """Decodes a picture; nothing is decoded of one that is too large.

    Args:
      given: fx, fy, cx, cy; all None: taken from EXIF, or else from the map, and the focal length
        is found along with the pose once the map is ready for that.

    Raises:
      Refused: it is no picture, too large, or of another camera.
    """
    if not encoded:
        raise Refused(400, "the picture is empty; send a JPEG, PNG or WebP file")
    try:
        header = images.read_header(encoded, PICTURE)
    except headers.TooManyPixels as error:
        raise _too_large(headers.MAX_PIXELS) from error
    except UsageError as error:
        raise _unreadable() from error
    if header.size[0] * header.size[1] > max_pixels:
        raise _too_large(max_pixels)
    try:
        images.check_shape(header.size, PICTURE)
    except UsageError as error:
        raise Refused(422, str(error)) from error
    camera = _camera(header, given, opened)
    try:
        image = images.decode_image(encoded, PICTURE)
    except UsageError as error:
        raise _unreadable() from error
    return Upload(image, camera.intrinsics, camera.focal_deviation, camera.source)


def _camera(
    header: images.PictureHeader, given: Numbers, opened: OpenMap
) -> PresumedCamera:
    names = ("fx", "fy", "cx", "cy")
    missing = [name for name, value in zip(names, given, strict=True) if value is None]
    if not missing:
        try:
            camera = pinhole(*given, header, "the intrinsics")
            camera, _ = turned_upright(camera, header, "the intrinsics", stored=False)
        except UsageError as error:
            raise Refused(422, str(error)) from error
        return PresumedCamera(camera.intrinsics, None, "given")
    if len(missing) < 4:
        raise Refused(
            422, f"fx, fy, cx and cy belong together, but {missing[0]} is missing; give all or none"
        )
    return opened.localizer.assumed_camera.of_picture(header, searches=opened.searches.is_set())


def read_prior(text: str | None, scene_map: SceneMap) -> Bool[np.ndarray, "M"] | None:
    """The images near `x,y,z,radius`, in the axes and the unit of the map; None if not given.

    Raises:
      Refused: these are no such numbers, or no image is there.
    """
    if not text:
        return None
    try:
        numbers = np.array([float(x) for x in text.split(",", 4)])
    except ValueError:
        numbers = np.zeros(0)
    if len(numbers) != 4 or not np.isfinite(numbers).all() or numbers[3] <= 0:
        raise Refused(422, "near is not x,y,z,radius in the unit of the map; give four numbers")
    try:
        return scene_map.images_near(numbers)
    except UsageError as error:
        raise Refused(422, str(error)) from error


def read_pose(text: str) -> Float[np.ndarray, "4 4"]:
    """`world_from_cam` of JSON rows.

    Raises:
      Refused: it is no rigid 4x4 matrix.
    """
    try:
        return rigid(np.array(json.loads(text), np.float64), "world_from_cam")
    except UsageError as error:
        raise Refused(422, str(error)) from error
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise Refused(
            422, "world_from_cam is no JSON list of four rows of four numbers; mend it"
        ) from error


def read_name(name: str | None) -> str:
    """The name of a new image of a map.

    Raises:
      Refused: it is none of a picture, or leads elsewhere.
    """
    name = name or ""
    suffix = pathlib.PurePosixPath(name).suffix.lower()
    if (
        name != pathlib.PurePosixPath(name).name
        or name.startswith(".")
        or not 0 < len(name) <= MAX_NAME
        or not name.isprintable()
    ):
        raise Refused(422, "the name of the image is no plain file name; give another as name")
    if suffix not in images.PICTURE_SUFFIXES:
        known = ", ".join(sorted(images.PICTURE_SUFFIXES))
        raise Refused(422, f"the name of the image does not end in {known}; give another as name")
    return name


def _unreadable() -> Refused:
    return Refused(
        415, "the picture is no readable JPEG, PNG, WebP, BMP or TIFF; send another file"
    )


def _too_large(max_pixels: int) -> Refused:
    return Refused(
        413, f"the picture has more than {max_pixels / 1e6:g} million pixels; scale it down"
    )

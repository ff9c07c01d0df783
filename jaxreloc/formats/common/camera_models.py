"""Camera models of other tools, brought to the pinhole camera that the package works with."""

import dataclasses
import functools
from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float64
from numpy.typing import ArrayLike

from jaxreloc.extras import extra
from jaxreloc.images import PictureHeader, turn_camera
from jaxreloc.usage import UsageError

# Beyond these, intrinsics are taken for those of another picture, or for a mistake.
MIN_FOCAL, MAX_FOCAL = 0.25, 10.0  # lengths of the longer side
MAX_FOCAL_RATIO = 2.0  # fx to fy
MAX_SKEW = 1e-6  # lengths of fx
OUTSIDE = -1e4  # pixels
MAX_OFF_CENTRE = 0.12  # of the principal point, in widths, where it fits the turned picture


@dataclasses.dataclass(frozen=True)
class Camera:
    """Intrinsics in pixels, pixel (0, 0) being the centre of the top-left pixel, and distortion.

    `distortion` is OpenCV's: k1 k2 p1 p2 [k3 [k4 k5 k6]], or k1 k2 k3 k4 of the equidistant model
    if `fisheye`. Empty: none. `colmap_model` has the distortion that OpenCV has not: the name and
    the parameters of COLMAP's.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int
    distortion: tuple[float, ...] = ()
    fisheye: bool = False
    colmap_model: tuple[str, tuple[float, ...]] | None = None

    @classmethod
    def centred(cls, focal_px: float, width: int, height: int) -> "Camera":
        """With its principal point in the middle of the image."""
        return cls(focal_px, focal_px, (width - 1) / 2, (height - 1) / 2, width, height)

    @classmethod
    def of_matrix(
        cls, intrinsics: Float64[np.ndarray, "3 3"], width: int, height: int
    ) -> "Camera":
        """A pinhole camera without skew."""
        (fx, _, cx), (_, fy, cy), _ = np.asarray(intrinsics, np.float64).tolist()
        return cls(fx, fy, cx, cy, int(width), int(height))

    @property
    def intrinsics(self) -> Float64[np.ndarray, "3 3"]:
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], dtype=np.float64)

    @property
    def is_pinhole(self) -> bool:
        return not (self.fisheye or any(self.distortion) or self.colmap_model)

    def check(self, source: str) -> "Camera":
        """Self; UsageError if a value cannot be a camera's."""
        if not np.isfinite(self.distortion).all():
            raise UsageError(f"{source}: distortion is NaN or infinite; mend the camera")
        if problem := contradiction(self.intrinsics, self.width, self.height):
            raise UsageError(f"{source}: {problem}")
        return self


def camera_by_exif(header: PictureHeader) -> Camera | None:
    """None where EXIF says no focal length, or one that cannot be."""
    if header.focal_px is None:
        return None
    camera = Camera.centred(header.focal_px, *header.size)
    return None if contradiction(camera.intrinsics, *header.size) else camera


def contradiction(intrinsics: ArrayLike, width: int, height: int) -> str | None:
    """Why these cannot be the intrinsics of a width x height picture; None where they can."""
    K = np.asarray(intrinsics)
    if K.shape != (3, 3) or K.dtype.kind not in "iuf" or not np.isfinite(K).all():
        return f"intrinsics are not a 3x3 matrix of finite numbers but {K}"
    fx, fy, cx, cy = (float(value) for value in (K[0, 0], K[1, 1], K[0, 2], K[1, 2]))
    given = f"fx fy cx cy = {fx:g} {fy:g} {cx:g} {cy:g}"
    longer = max(width, height)
    if not (width >= 1 and height >= 1):
        return f"a picture of {width} x {height} pixels has no camera; mend its size"
    if (K[2] != (0, 0, 1)).any():
        return "the last row of the intrinsics is not 0 0 1; transpose or mend the matrix"
    if K[1, 0] or abs(K[0, 1]) > MAX_SKEW * abs(fx):
        return f"intrinsics have skew ({K[0, 1]:g}, {K[1, 0]:g}), which no camera has; set it to 0"
    if not all(MIN_FOCAL * longer <= focal <= MAX_FOCAL * longer for focal in (fx, fy)):
        return (
            f"{given} are not of a {width} x {height} image, whose focal length lies between "
            f"{MIN_FOCAL:g} and {MAX_FOCAL:g} times its longer side; scale them to its size"
        )
    if not 1 / MAX_FOCAL_RATIO <= fx / fy <= MAX_FOCAL_RATIO:
        return f"{given}: focal lengths of such different size are no camera's; mend them"
    off = off_centre(cx, cy, width, height)
    if off > 0.5:
        return (
            f"{given} are not of a {width} x {height} image, which the principal point lies "
            "outside of; scale them to its size"
        )
    if off > MAX_OFF_CENTRE and off_centre(cx, cy, height, width) < MAX_OFF_CENTRE / 2:
        return (
            f"{given} are of a {height} x {width} image, the picture is {width} x {height}; give "
            "them as the picture is turned"
        )
    return None


def pinhole(
    fx: float, fy: float, cx: float, cy: float, header: PictureHeader, source: str
) -> Camera:
    """The camera of a picture from a source that does not say which size it is for.

    It is the upright picture's, unless the principal point is nearer to the centre of the stored
    one, whose sides EXIF exchanges.

    Raises:
      UsageError: a value cannot be a camera's.
    """
    return Camera(fx, fy, cx, cy, *fitting_size(cx, cy, header)).check(source)


def fitting_size(cx: float, cy: float, header: PictureHeader) -> tuple[int, int]:
    """Width and height of the upright picture or the stored one, whose centre is nearer."""
    sizes = (header.size, header.stored_size)  # the first where both are as near
    return min(sizes, key=lambda size: off_centre(cx, cy, *size))


def off_centre(cx: float, cy: float, width: int, height: int) -> float:
    """How far a principal point lies from the centre, in widths or heights; the greater one."""
    return max(abs((cx + 0.5) / width - 0.5), abs((cy + 0.5) / height - 0.5))


def turned_upright(
    camera: Camera, header: PictureHeader, source: str, *, stored: bool
) -> tuple[Camera, Float64[np.ndarray, "3 3"]]:
    """The camera of the upright picture from one of the stored or the upright picture.

    Its size says which it is of.

    Args:
      header: of the picture.
      stored: whether it is of the stored one where the size does not tell.

    Returns:
      The camera, and the rotation upright_from_given of the axes.

    Raises:
      UsageError: it is of neither size, or of a stored picture that is mirrored.
    """
    size, stored_size = (camera.width, camera.height), header.stored_size
    if size not in (header.size, stored_size):
        raise UsageError(
            f"{source} are for {camera.width} x {camera.height} pixels, the picture is "
            f"{header.size[0]} x {header.size[1]}; scale one to the other"
        )
    is_stored = stored if header.size == stored_size else size == stored_size
    if header.orientation == 1 or not is_stored:
        return camera, np.eye(3)
    if header.is_mirrored or camera.colmap_model:
        raise UsageError(
            f"{source} are for the picture as it is stored, which EXIF orientation "
            f"{header.orientation} mirrors or turns; store it upright"
        )
    K, rotation = turn_camera(camera.intrinsics, *stored_size, header.quarter_turns)
    distortion = camera.distortion
    if distortion and not camera.fisheye:  # tangential distortion is p2 r^2 + 2 x (p2 x + p1 y)
        (p2, p1), (k1, k2, _, _, *rest) = rotation[:2, :2] @ distortion[3:1:-1], distortion
        distortion = (k1, k2, float(p1), float(p2), *rest)
    upright = dataclasses.replace(
        camera,
        **dict(zip(("fx", "fy", "cx", "cy"), map(float, (K[0, 0], K[1, 1], K[0, 2], K[1, 2])))),
        width=header.size[0],
        height=header.size[1],
        distortion=distortion,
    )
    return upright, rotation


@dataclasses.dataclass(frozen=True)
class UndistortedImages(Sequence):
    """`images` resampled to the pinhole part of `cameras[i]`, on access; size and intrinsics stay.

    What the pinhole camera sees outside the picture is 0. Depth images need INTER_NEAREST.
    """

    images: Sequence[np.ndarray]
    cameras: tuple[Camera, ...]
    interpolation: int = cv2.INTER_LINEAR

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> np.ndarray:
        return undistorted(self.images[i], self.cameras[i], self.interpolation)


def undistorted(
    image: np.ndarray, camera: Camera, interpolation: int = cv2.INTER_LINEAR
) -> np.ndarray:
    """A picture as the pinhole part of its camera sees it."""
    if camera.is_pinhole:
        return image
    return cv2.remap(image, *_undistortion_maps(camera), interpolation=interpolation)


def from_corner_convention(
    fx: float, fy: float, cx: float, cy: float, width: int, height: int, **distortion
) -> Camera:
    """A camera whose (0, 0) is the corner of the top-left pixel (COLMAP, nerfstudio)."""
    return Camera(fx, fy, cx - 0.5, cy - 0.5, width, height, **distortion)


@functools.lru_cache(maxsize=8)
def _undistortion_maps(camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    K, size = camera.intrinsics, (camera.width, camera.height)
    distortion = np.array(camera.distortion)
    if camera.colmap_model:
        return _maps_by_colmap(camera)
    if camera.fisheye:
        return cv2.fisheye.initUndistortRectifyMap(
            K, distortion, np.eye(3), K, size, cv2.CV_32FC1
        )
    return cv2.initUndistortRectifyMap(K, distortion, None, K, size, cv2.CV_32FC1)


def _maps_by_colmap(camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """The same by pycolmap, whose pixels count from the corner."""
    with extra("colmap"):
        import pycolmap
    model, parameters = camera.colmap_model
    x, y = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    rays = np.stack([(x - camera.cx) / camera.fx, (y - camera.cy) / camera.fy], axis=-1)
    size = {"width": camera.width, "height": camera.height}
    with_distortion = pycolmap.Camera(model=model, params=parameters, **size)
    homogeneous = np.concatenate([rays, np.ones((*rays.shape[:2], 1))], axis=-1)
    places = with_distortion.img_from_cam(homogeneous.reshape(-1, 3)).reshape(rays.shape) - 0.5
    places = np.nan_to_num(places, nan=OUTSIDE).astype(np.float32)
    return places[..., 0], places[..., 1]

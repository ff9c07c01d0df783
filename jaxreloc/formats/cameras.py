"""Camera models of other tools, brought to the pinhole camera that the package works with."""

import dataclasses
import functools
from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float64

from jaxreloc.usage import UsageError


@dataclasses.dataclass(frozen=True)
class Camera:
    """Intrinsics in pixels, pixel (0, 0) being the centre of the top-left pixel, and distortion.

    `distortion` is OpenCV's: k1 k2 p1 p2 [k3 [k4 k5 k6]], or k1 k2 k3 k4 of the equidistant model
    if `fisheye`. Empty: none.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int
    distortion: tuple[float, ...] = ()
    fisheye: bool = False

    @property
    def intrinsics(self) -> Float64[np.ndarray, "3 3"]:
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], dtype=np.float64)

    @property
    def is_pinhole(self) -> bool:
        return not self.fisheye and not any(self.distortion)

    def check(self, source: str) -> "Camera":
        """Self; UsageError if a value cannot be a camera's."""
        positive = np.array([self.fx, self.fy, self.width, self.height])
        finite = np.isfinite([*positive, self.cx, self.cy, *self.distortion])
        if not (positive > 0).all() or not finite.all():
            raise UsageError(
                f"{source}: focal length and image size must be positive and every value finite "
                f"(fx {self.fx}, fy {self.fy}, {self.width} x {self.height}); mend the camera"
            )
        return self


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
        image, camera = self.images[i], self.cameras[i]
        if camera.is_pinhole:
            return image
        return cv2.remap(image, *_undistortion_maps(camera), interpolation=self.interpolation)


def from_corner_convention(
    fx: float, fy: float, cx: float, cy: float, width: int, height: int, **distortion
) -> Camera:
    """A camera whose (0, 0) is the corner of the top-left pixel (COLMAP, nerfstudio)."""
    return Camera(fx, fy, cx - 0.5, cy - 0.5, width, height, **distortion)


@functools.lru_cache(maxsize=8)
def _undistortion_maps(camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    K, size = camera.intrinsics, (camera.width, camera.height)
    distortion = np.array(camera.distortion)
    if camera.fisheye:
        return cv2.fisheye.initUndistortRectifyMap(
            K, distortion, np.eye(3), K, size, cv2.CV_32FC1
        )
    return cv2.initUndistortRectifyMap(K, distortion, None, K, size, cv2.CV_32FC1)

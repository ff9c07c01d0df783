"""Resizing and cropping of one image; the intrinsics follow the pixels.

Images are uint8 RGB, height x width x 3. Intrinsics are 3x3 in pixels, (0, 0) being the centre of
the top-left pixel: scaling an axis by s maps its focal length to f * s and its principal point to
(c + 0.5) * s - 0.5; cutting k pixels off the front maps c to c - k.
"""

import cv2
import numpy as np
from jaxtyping import Float, UInt8

Image = UInt8[np.ndarray, "h w 3"]


def shrunk(image: UInt8[np.ndarray, "h w 3"], long_side: int) -> UInt8[np.ndarray, "h2 w2 3"]:
    """The picture with at most `long_side` pixels along its longer side."""
    height, width = image.shape[:2]
    scale = min(1.0, long_side / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def resize(
    image: Image, intrinsics: Float[np.ndarray, "3 3"], height: int, width: int
) -> tuple[UInt8[np.ndarray, "height width 3"], Float[np.ndarray, "3 3"]]:
    """The image at `height` x `width`: averaged over areas to shrink it, bilinear to enlarge it."""
    old_height, old_width = image.shape[:2]
    if (old_height, old_width) == (height, width):
        return image, intrinsics
    shrinks = height * width < old_height * old_width
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized = cv2.resize(image, (width, height), interpolation=method)
    return resized, _scaled_intrinsics(intrinsics, width / old_width, height / old_height)


def resize_short_side(
    image: Image, intrinsics: Float[np.ndarray, "3 3"], size: int
) -> tuple[UInt8[np.ndarray, "h2 w2 3"], Float[np.ndarray, "3 3"]]:
    """The image with its shorter side `size` pixels long and its aspect kept to half a pixel."""
    height, width = image.shape[:2]
    scale = size / min(height, width)
    return resize(image, intrinsics, round(height * scale), round(width * scale))


def resize_to_fit(
    image: Image, intrinsics: Float[np.ndarray, "3 3"], height: int, width: int
) -> tuple[UInt8[np.ndarray, "height width 3"], Float[np.ndarray, "3 3"]]:
    """The whole image, as large as fits in `height` x `width`, centred on black."""
    scale = min(height / image.shape[0], width / image.shape[1])
    inner_height = min(height, round(image.shape[0] * scale))
    inner_width = min(width, round(image.shape[1] * scale))
    image, intrinsics = resize(image, intrinsics, inner_height, inner_width)
    if (inner_height, inner_width) == (height, width):
        return image, intrinsics
    top, left = (height - inner_height) // 2, (width - inner_width) // 2
    padded = np.zeros((height, width, 3), np.uint8)
    padded[top : top + inner_height, left : left + inner_width] = image
    return padded, _shifted_intrinsics(intrinsics, left, top)


def resize_frame(
    image: Image,
    intrinsics: Float[np.ndarray, "3 3"],
    size: int | tuple[int, int],
) -> tuple[UInt8[np.ndarray, "h2 w2 3"], Float[np.ndarray, "3 3"]]:
    """By one number `resize_short_side`, by height and width `resize_to_fit`."""
    if isinstance(size, int):
        return resize_short_side(image, intrinsics, size)
    return resize_to_fit(image, intrinsics, *size)


def center_crop(
    image: Image, intrinsics: Float[np.ndarray, "3 3"], size: int
) -> tuple[UInt8[np.ndarray, "size size 3"], Float[np.ndarray, "3 3"]]:
    """The middle square; the odd pixel is left over at the bottom or the right.

    Raises:
      ValueError: the image is smaller than `size`.
    """
    spare_y, spare_x = _spare(image, size)
    return _crop(image, intrinsics, spare_y // 2, spare_x // 2, size)


def random_crop(
    image: Image,
    intrinsics: Float[np.ndarray, "3 3"],
    size: int,
    rng: np.random.Generator,
) -> tuple[UInt8[np.ndarray, "size size 3"], Float[np.ndarray, "3 3"]]:
    """A square anywhere in the image, every position equally likely.

    Raises:
      ValueError: the image is smaller than `size`.
    """
    spare_y, spare_x = _spare(image, size)
    top, left = int(rng.integers(spare_y + 1)), int(rng.integers(spare_x + 1))
    return _crop(image, intrinsics, top, left, size)


def _crop(
    image: Image, intrinsics: Float[np.ndarray, "3 3"], top: int, left: int, size: int
) -> tuple[UInt8[np.ndarray, "size size 3"], Float[np.ndarray, "3 3"]]:
    """The square whose first pixel is at (`left`, `top`)."""
    cropped = np.ascontiguousarray(image[top : top + size, left : left + size])
    return cropped, _shifted_intrinsics(intrinsics, -left, -top)


def _spare(image: Image, size: int) -> tuple[int, int]:
    """Rows and columns that a square of `size` pixels leaves over."""
    left_over = image.shape[0] - size, image.shape[1] - size
    if min(left_over) < 0:
        raise ValueError(f"crop of {size} px from an image of {image.shape[1]}x{image.shape[0]}")
    return left_over


def _scaled_intrinsics(intrinsics: np.ndarray, scale_x: float, scale_y: float) -> np.ndarray:
    scaling = np.array(
        [
            [scale_x, 0.0, 0.5 * scale_x - 0.5],
            [0.0, scale_y, 0.5 * scale_y - 0.5],
            [0.0, 0.0, 1.0],
        ]
    )
    return scaling @ intrinsics


def _shifted_intrinsics(intrinsics: np.ndarray, right: int, down: int) -> np.ndarray:
    shifted = np.array(intrinsics, dtype=np.float64)
    shifted[0, 2] += right
    shifted[1, 2] += down
    return shifted

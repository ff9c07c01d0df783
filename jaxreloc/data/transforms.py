"""Resizing, cropping, turning and colour jitter of one image; the intrinsics follow the pixels.

Images are uint8 RGB, height x width x 3. Intrinsics are 3x3 in pixels, (0, 0) being the centre of
the top-left pixel: scaling an axis by s maps its focal length to f * s and its principal point to
(c + 0.5) * s - 0.5; cutting k pixels off the front maps c to c - k.
"""

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from jaxreloc.images import turn_camera

Image = UInt8[np.ndarray, "h w 3"]

LUMA_RGB = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


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


def turn(
    image: Image, intrinsics: Float[np.ndarray, "3 3"], quarter_turns: int
) -> tuple[UInt8[np.ndarray, "h2 w2 3"], Float[np.ndarray, "3 3"], Float[np.ndarray, "3 3"]]:
    """The image turned counterclockwise by `quarter_turns` of 90 degrees, and its camera.

    Returns:
      The image, and what `images.turn_camera` does.
    """
    height, width = image.shape[:2]
    camera = turn_camera(intrinsics, width, height, quarter_turns)
    return np.ascontiguousarray(np.rot90(image, quarter_turns)), *camera


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


def color_jitter(
    image: Image,
    intrinsics: Float[np.ndarray, "3 3"],
    strength: float,
    rng: np.random.Generator,
) -> tuple[Image, Float[np.ndarray, "3 3"]]:
    """Brightness, contrast and saturation in random order, each by a factor of 1 +- `strength`.

    The same operations as torchvision's ColorJitter(strength, strength, strength), rounded to
    uint8 after each.
    """
    adjustments = (adjust_brightness, adjust_contrast, adjust_saturation)
    factors = rng.uniform(max(0.0, 1.0 - strength), 1.0 + strength, len(adjustments))
    for k in rng.permutation(len(adjustments)):
        image = adjustments[k](image, factors[k])
    return image, intrinsics


def adjust_brightness(image: Image, factor: float) -> Image:
    """factor * image."""
    return cv2.LUT(image, _to_uint8(factor * np.arange(256)))


def adjust_contrast(image: Image, factor: float) -> Image:
    """factor * image + (1 - factor) * the mean luma of the image."""
    mean_luma = LUMA_RGB @ cv2.mean(image)[:3]
    return cv2.LUT(image, _to_uint8(factor * np.arange(256) + (1 - factor) * mean_luma))


def adjust_saturation(image: Image, factor: float) -> Image:
    """factor * image + (1 - factor) * the luma of each pixel."""
    return cv2.transform(image, factor * np.eye(3) + (1 - factor) * LUMA_RGB[None, :])


def sample_depth(
    depth: Float[np.ndarray, "h w"],
    depth_intrinsics: Float[np.ndarray, "3 3"],
    intrinsics: Float[np.ndarray, "3 3"],
    shape: tuple[int, int],
    stride: int,
) -> Float[np.ndarray, "rows columns"]:
    """Depth at the centres of the cells of an image resized or cropped from the depth's view.

    Args:
      depth: metres along z, 0 where not known.
      depth_intrinsics: of the depth map.
      intrinsics: of the image, whose camera and axes are the same.
      shape: height and width of the image.
      stride: side of its cells, pixels.

    Returns:
      float32; of the nearest pixel, 0 outside the map.
    """
    rows, columns = (np.arange(side // stride) * stride + (stride - 1) / 2 for side in shape)
    mapping = depth_intrinsics @ np.linalg.inv(intrinsics)
    x = np.rint(mapping[0, 0] * columns + mapping[0, 2]).astype(np.int64)
    y = np.rint(mapping[1, 1] * rows + mapping[1, 2]).astype(np.int64)
    height, width = depth.shape
    inside = ((y >= 0) & (y < height))[:, None] & ((x >= 0) & (x < width))[None, :]
    sampled = depth[np.clip(y, 0, height - 1)[:, None], np.clip(x, 0, width - 1)[None, :]]
    return np.where(inside, sampled, 0.0).astype(np.float32)


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


def _crop(image: np.ndarray, intrinsics: np.ndarray, top: int, left: int, size: int):
    cropped = np.ascontiguousarray(image[top : top + size, left : left + size])
    return cropped, _shifted_intrinsics(intrinsics, -left, -top)


def _spare(image: np.ndarray, size: int) -> tuple[int, int]:
    spare = image.shape[0] - size, image.shape[1] - size
    if min(spare) < 0:
        raise ValueError(f"crop of {size} px from an image of {image.shape[1]}x{image.shape[0]}")
    return spare


def _to_uint8(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)

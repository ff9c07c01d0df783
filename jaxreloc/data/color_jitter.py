"""Changed colours of a training image (uint8 RGB, height x width x 3)."""

import cv2
import numpy as np
from jaxtyping import Float, UInt8

Image = UInt8[np.ndarray, "h w 3"]

GAIN, GAMMA = 0.12, 0.2
LUMA_RGB = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


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


def change_light(image: Image, rng: np.random.Generator) -> Image:
    """255 g_c (image / 255)^gamma: another lamp and another camera's tones.

    The gains g_c of the colours and gamma are log-normal, of deviations GAIN and GAMMA.
    """
    gains, gamma = np.exp(rng.normal(0, GAIN, 3)), np.exp(rng.normal(0, GAMMA))
    tones = 255 * gains * (np.arange(256) / 255)[:, None] ** gamma
    return cv2.LUT(image, _to_uint8(tones)[None])


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


def _to_uint8(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)

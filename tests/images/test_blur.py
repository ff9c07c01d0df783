"""How sharp pictures are, beside what blurs and shrinks them."""

import cv2
import numpy as np

from jaxreloc.images import sharpness


def test_a_blurred_picture_is_less_sharp_at_any_size_and_contrast(rng):
    sharp = cv2.resize(rng.integers(0, 256, (120, 160, 3), np.uint8), (1280, 960))
    blurred = cv2.GaussianBlur(sharp, (0, 0), 9)
    small = cv2.resize(sharp, (640, 480), interpolation=cv2.INTER_AREA)
    values = [sharpness(x) for x in (sharp, small, sharp // 2 + 60, blurred)]
    assert min(values[:3]) > 3 * values[3]
    assert max(values[:3]) < 1.3 * min(values[:3])

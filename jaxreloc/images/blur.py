"""How sharp a picture is, in a number that can be compared between pictures."""

import cv2
import numpy as np
from jaxtyping import UInt8

from jaxreloc.images.resizing import shrunk

SIDE = 640  # pixels, that the larger ones are brought to


def sharpness(image: UInt8[np.ndarray, "h w 3"]) -> float:
    """How much of the contrast is fine detail: the Laplacian's deviation over the brightness'."""
    grey = cv2.cvtColor(shrunk(image, SIDE), cv2.COLOR_RGB2GRAY).astype(np.float32)
    return float(cv2.Laplacian(grey, cv2.CV_32F).std() / (grey.std() + 1.0))

"""What is written of a scene: images with their poses and cameras, and points."""

import dataclasses

import numpy as np
from jaxtyping import Float, Float64, Int, UInt8

from jaxreloc.formats.common.camera_models import Camera


@dataclasses.dataclass(frozen=True)
class PosedCamera:
    """An image with its pose and its pinhole camera."""

    name: str
    world_from_cam: Float64[np.ndarray, "4 4"]
    camera: Camera


@dataclasses.dataclass(frozen=True)
class ScenePoints:
    """P points of a scene, and K pixels of its images that show them."""

    positions: Float64[np.ndarray, "P 3"]
    colors: UInt8[np.ndarray, "P 3"]
    point_of: Int[np.ndarray, "K"]
    image_of: Int[np.ndarray, "K"]  # its place among the images
    pixels: Float[np.ndarray, "K 2"]  # (0, 0) is the centre of the top-left pixel

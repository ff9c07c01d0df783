"""Turning pictures by quarter turns; the camera follows the pixels."""

import numpy as np
from jaxtyping import Float, UInt8


def turn(
    image: UInt8[np.ndarray, "h w 3"], intrinsics: Float[np.ndarray, "3 3"], quarter_turns: int
) -> tuple[UInt8[np.ndarray, "h2 w2 3"], Float[np.ndarray, "3 3"], Float[np.ndarray, "3 3"]]:
    """The image turned counterclockwise by `quarter_turns` of 90 degrees, and its camera.

    Returns:
      The image, and what `turn_camera` does.
    """
    height, width = image.shape[:2]
    camera = turn_camera(intrinsics, width, height, quarter_turns)
    return np.ascontiguousarray(np.rot90(image, quarter_turns)), *camera


def turn_camera(
    intrinsics: Float[np.ndarray, "3 3"], width: int, height: int, quarter_turns: int
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3 3"]]:
    """The camera of a picture that is turned counterclockwise by `quarter_turns` of 90 degrees.

    A quarter turn shows pixel (x, y) of an image of width w at M (x, y, 1) = (y, w - 1 - x, 1). Its
    camera is the given one turned about the optical axis by R, and has the intrinsics K' for which
    M K = K' R, K' being upper triangular: without skew fx and fy change places.

    Args:
      width: of the picture before it is turned.
      height: the same.

    Returns:
      K', and the rotation R = turned_from_given, which takes points of the given camera's frame to
      the turned one's.
    """
    turned_from_given = np.eye(3)
    for _ in range(quarter_turns % 4):
        pixels = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, width - 1.0], [0.0, 0.0, 1.0]])
        mapped = pixels @ intrinsics
        down = mapped[1, :2] / np.linalg.norm(mapped[1, :2])  # the turned camera's y axis
        rotation = np.array([[down[1], -down[0], 0.0], [down[0], down[1], 0.0], [0.0, 0.0, 1.0]])
        intrinsics = mapped @ rotation.T
        intrinsics[1, 0] = 0.0  # but for rounding it is
        turned_from_given = rotation @ turned_from_given
        width, height = height, width
    return intrinsics, turned_from_given

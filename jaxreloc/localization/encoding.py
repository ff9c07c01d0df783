"""What the network makes of database images, computed once and kept."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Sequence

import cv2
import jax
import numpy as np
from jaxtyping import Float32, Float64, Int64, PyTree, UInt8

from jaxreloc.formats.frames import PosedFrames
from jaxreloc.localization.network import InferenceNetwork

BATCH_SIZE = 16
THUMBNAIL_SIDE = 160


@dataclasses.dataclass(frozen=True)
class EncodedImages:
    """M database images as a struct of arrays on the host, leading axis M."""

    names: tuple[str, ...]
    world_from_cam: Float64[np.ndarray, "M 4 4"]
    intrinsics: Float64[np.ndarray, "M 3 3"]  # of the stored image
    image_sizes: Int64[np.ndarray, "M 2"]  # width, height
    network_intrinsics: Float32[np.ndarray, "M 3 3"]  # of the network's input
    descriptors: Float32[np.ndarray, "M dim"]  # L2-normalised
    features: tuple[Sequence[np.ndarray], ...]  # leaves of what the pair head takes, M rows each
    thumbnails: Sequence[bytes | pathlib.Path]  # JPEG: its bytes, or the file

    def __len__(self) -> int:
        return len(self.names)


def encode_frames(
    frames: PosedFrames,
    network: InferenceNetwork,
    *,
    batch_size: int = BATCH_SIZE,
    progress: Callable[[Iterable[int]], Iterable[int]] = lambda indices: indices,
) -> EncodedImages:
    """Encodes every image once, in batches of one fixed shape.

    Args:
      progress: wraps the iteration over the images, as tqdm does.

    Raises:
      UsageError: a picture cannot be read.
    """
    encoder = _BatchEncoder(network, batch_size)
    intrinsics, thumbnails = [], []
    for i in progress(range(len(frames))):
        image = frames.images[i]
        network_image, network_intrinsics = network.prepare(image, frames.intrinsics[i])
        encoder.add(network_image)
        intrinsics.append(network_intrinsics)
        thumbnails.append(_thumbnail(image))
    features, descriptors = encoder.finish()
    return EncodedImages(
        names=frames.names,
        world_from_cam=frames.world_from_cam,
        intrinsics=frames.intrinsics,
        image_sizes=frames.image_sizes,
        network_intrinsics=np.stack(intrinsics).astype(np.float32),
        descriptors=descriptors,
        features=tuple(jax.tree.leaves(features)),
        thumbnails=thumbnails,
    )


class _BatchEncoder:
    """Gathers images into batches of one size, so that the network compiles once."""

    def __init__(self, network: InferenceNetwork, batch_size: int):
        self._network = network
        self._batch_size = batch_size
        self._waiting: list[np.ndarray] = []
        self._encoded: list[PyTree] = []

    def add(self, image: np.ndarray) -> None:
        self._waiting.append(image)
        if len(self._waiting) == self._batch_size:
            self._encode()

    def finish(self) -> tuple[PyTree, np.ndarray]:
        """Features and descriptors of all images, in the order of `add`."""
        if self._waiting:
            self._encode()
        return jax.tree.map(lambda *x: np.concatenate(x), *self._encoded)

    def _encode(self) -> None:
        n = len(self._waiting)
        images = np.stack(self._waiting)
        padding = [(0, self._batch_size - n)] + [(0, 0)] * (images.ndim - 1)
        features = self._network.encode(np.pad(images, padding))
        encoded = (features, self._network.descriptor(features))
        self._encoded.append(jax.tree.map(lambda x: np.asarray(x[:n]), encoded))
        self._waiting.clear()


def _thumbnail(image: UInt8[np.ndarray, "h w 3"]) -> bytes:
    height, width = image.shape[:2]
    scale = min(1.0, THUMBNAIL_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR))[1].tobytes()

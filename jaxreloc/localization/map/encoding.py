"""What the network makes of database images, computed once and kept."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence

import jax
import numpy as np
from jaxtyping import Float, Float32, Float64, Int, Int64, PyTree, UInt16

from jaxreloc.formats.frames import Chain, PosedFrames
from jaxreloc.images import encode_jpeg, sample_depth, shrunk
from jaxreloc.localization.networks.matcher import Matcher
from jaxreloc.localization.networks.pose_network import PoseNetwork

BATCH_SIZE = 16
# Of pictures: all that a network that does not match needs of one is to be shown.
THUMBNAIL_SIDE = 160
JPEG_QUALITY = 75
# Of cells: the bounds of what is told apart, in logarithmic steps.
INVERSE_DEPTHS, DEPTH_LEVELS = (1e-6, 1e4), 4096
RELATIVE_DEVIATIONS, DEVIATION_LEVELS = (0.01, 0.5), 16
MEASURED_DEVIATION = 0.02  # of a depth camera's depth, relative; a cell is no point

Progress = Callable[[Iterable], Iterable]  # wraps an iteration over images, as tqdm does


@dataclasses.dataclass(frozen=True)
class CellDepth:
    """Inverse depth 1 / z of the cells of M images, and its deviation, in units of 1 / `unit`.

    A cell takes two bytes. The upper twelve bits are the logarithm of the inverse depth, right to
    0.3%; the lower four are the logarithm of its relative deviation, right to 13%. 0 is unknown.
    """

    codes: Sequence[np.ndarray] | UInt16[np.ndarray, "M h w"]
    unit: Float32[np.ndarray, "M"]
    measured: bool = False  # by a depth camera

    def take(self, rows: Int[np.ndarray, "N"]) -> Float32[np.ndarray, "N h w 2"]:
        """Of some images, in the unit of the poses; no others are read."""
        values = np.stack([decode_depth(self.codes[row]) for row in rows])
        return values / self.unit[rows][:, None, None, None]


def encode_depth(
    inverse: Float[np.ndarray, "*cells"], deviation: Float[np.ndarray, "*cells"]
) -> UInt16[np.ndarray, "*cells"]:
    """The codes of `CellDepth`; an inverse depth that is not positive is unknown."""
    is_known = inverse > 0
    inverse = np.where(is_known, inverse, 1.0)
    level = _level(inverse, INVERSE_DEPTHS, DEPTH_LEVELS - 1) + 1
    spread = _level(deviation / inverse, RELATIVE_DEVIATIONS, DEVIATION_LEVELS)
    return np.where(is_known, level * DEVIATION_LEVELS + spread, 0).astype(np.uint16)


def decode_depth(codes: np.ndarray) -> Float32[np.ndarray, "h w 2"]:
    """Inverse depth and deviation of one image; [h, w, 2] of earlier versions are these already."""
    return codes.astype(np.float32) if codes.ndim == 3 else _depth_by_code()[codes]


@functools.cache
def _depth_by_code() -> Float32[np.ndarray, "codes 2"]:
    codes = np.arange(DEPTH_LEVELS * DEVIATION_LEVELS)
    level, spread = np.divmod(codes, DEVIATION_LEVELS)
    inverse = np.where(codes > 0, _at_level(level - 1, INVERSE_DEPTHS, DEPTH_LEVELS - 1), 0.0)
    relative = _at_level(spread, RELATIVE_DEVIATIONS, DEVIATION_LEVELS)
    return np.stack([inverse, relative * inverse], axis=-1).astype(np.float32)


def _level(values: np.ndarray, bounds: tuple[float, float], count: int) -> np.ndarray:
    """The nearest of `count` numbers between the bounds whose logarithms lie equally apart."""
    low, high = np.log(bounds)
    x = np.log(np.clip(values, *bounds))
    return np.round((x - low) * (count - 1) / (high - low)).astype(np.int32)


def _at_level(level: np.ndarray, bounds: tuple[float, float], count: int) -> np.ndarray:
    low, high = np.log(bounds)
    return np.exp(low + level * (high - low) / (count - 1))


@dataclasses.dataclass(frozen=True)
class EncodedImages:
    """M database images as a struct of arrays on the host, leading axis M."""

    names: tuple[str, ...]
    world_from_cam: Float64[np.ndarray, "M 4 4"]
    intrinsics: Float64[np.ndarray, "M 3 3"]  # of the stored image
    image_sizes: Int64[np.ndarray, "M 2"]  # width, height
    network_intrinsics: Float32[np.ndarray, "M 3 3"]  # of the network's input
    descriptors: Float[np.ndarray, "M dim"]  # L2-normalised; half precision suffices
    features: tuple[Sequence[np.ndarray] | np.ndarray, ...]  # leaves for the head, M rows each
    pictures: Sequence[bytes]  # JPEG: what the network saw, if it matches; else a small one
    depth: "CellDepth | None" = None

    def __len__(self) -> int:
        return len(self.names)


def joined(parts: Sequence[EncodedImages]) -> EncodedImages:
    """The images of all parts, which agree on having depths; what is on disk stays there."""
    depth = None
    if parts[0].depth is not None:
        depth = CellDepth(
            Chain(tuple(part.depth.codes for part in parts)),
            np.concatenate([part.depth.unit for part in parts]),
            measured=all(part.depth.measured for part in parts),
        )
    arrays = ("world_from_cam", "intrinsics", "image_sizes", "network_intrinsics", "descriptors")
    return EncodedImages(
        names=tuple(name for part in parts for name in part.names),
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in arrays},
        features=tuple(Chain(leaves) for leaves in zip(*(x.features for x in parts), strict=True)),
        pictures=Chain(tuple(part.pictures for part in parts)),
        depth=depth,
    )


def in_memory(images: EncodedImages) -> EncodedImages:
    """With all arrays read, as a new segment is written of them."""
    depth = images.depth
    if depth is not None:
        depth = dataclasses.replace(depth, codes=np.stack(list(depth.codes)))
    features = tuple(np.stack(list(leaf)) for leaf in images.features)
    return dataclasses.replace(images, features=features, depth=depth)


def encode_frames(
    frames: PosedFrames,
    network: PoseNetwork,
    *,
    feature_format: jax.tree_util.PyTreeDef | None = None,
    batch_size: int = BATCH_SIZE,
    progress: Callable[[Iterable[int]], Iterable[int]] = lambda indices: indices,
) -> EncodedImages:
    """Encodes every image once, in batches of one fixed shape.

    Args:
      feature_format: of the map that they are added to; None: as `PoseNetwork.kept` makes them.
      progress: wraps the iteration over the images, as tqdm does.

    Raises:
      UsageError: a picture cannot be read.
    """
    is_kept = feature_format is None or feature_format == network.feature_formats[0]
    encoder = _BatchEncoder(network, is_kept, batch_size)
    intrinsics, pictures, matches = [], [], isinstance(network, Matcher)
    for i in progress(range(len(frames))):
        image = frames.images[i]
        network_image, network_intrinsics = network.prepare(image, frames.intrinsics[i])
        encoder.add(network_image)
        intrinsics.append(network_intrinsics)
        picture = network_image if matches else shrunk(image, THUMBNAIL_SIDE)
        pictures.append(encode_jpeg(picture, JPEG_QUALITY))
    features, descriptors = encoder.finish()
    network_intrinsics = np.stack(intrinsics).astype(np.float32)
    has_depth = matches and frames.depths is not None
    return EncodedImages(
        names=frames.names,
        world_from_cam=frames.world_from_cam,
        intrinsics=frames.intrinsics,
        image_sizes=frames.image_sizes,
        network_intrinsics=network_intrinsics,
        descriptors=descriptors.astype(np.float16),
        features=tuple(jax.tree.leaves(features)),
        pictures=pictures,
        depth=_measured_depth(frames, network, network_intrinsics) if has_depth else None,
    )


def _measured_depth(
    frames: PosedFrames, network: Matcher, network_intrinsics: Float32[np.ndarray, "M 3 3"]
) -> CellDepth:
    """What a depth camera saw at the centres of the cells."""
    matrices = frames.intrinsics if frames.depth_intrinsics is None else frames.depth_intrinsics
    found = []
    for i in range(len(frames)):
        metres = sample_depth(
            frames.depths[i], matrices[i], network_intrinsics[i], network.cell_pixels()
        )
        inverse = np.where(metres > 0, 1 / np.maximum(metres, 1e-6), 0.0)
        found.append(encode_depth(inverse, MEASURED_DEVIATION * inverse))
    unit = np.ones(len(frames), np.float32)
    return CellDepth(np.stack(found), unit, measured=True)


class _BatchEncoder:
    """Gathers images into batches of one size, so that the network compiles once."""

    def __init__(self, network: PoseNetwork, is_kept: bool, batch_size: int):
        self._network = network
        self._is_kept = is_kept
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
        kept = self._network.kept(features) if self._is_kept else features
        encoded = (kept, self._network.descriptor(features))
        self._encoded.append(jax.tree.map(lambda x: np.asarray(x[:n]), encoded))
        self._waiting.clear()

"""Described cells of pictures and their depth, computed once and kept on disk.

With the backbone and the description frozen, a matcher of coarse cells needs nothing else of a
picture. Every other picture's descriptors have gone through the few bits that a map keeps, so that
the matcher learns from both kinds: a query's, and the database's.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Float16, Float32, Int8

from jaxreloc import files
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.images import cell_centres, sample_depth
from jaxreloc.localization.networks.match_network import MatchNetwork
from jaxreloc.models.matching import descriptors
from jaxreloc.models.matching.descriptors import DETAIL_STRIDE
from jaxreloc.usage import UsageError

ENCODED_TOGETHER = 8


@dataclasses.dataclass(frozen=True)
class CellFeatures:
    """The cells of n pictures of a scene, fitted into a canvas.

    Attributes:
      coarse: descriptors of the coarse cells in eight bits.
      depth: metres along z at the centres of the detail grid's cells, 0 where not known.
      intrinsics: of the canvas.
    """

    coarse: Int8[np.ndarray, "n h w C"]
    depth: Float16[np.ndarray, "n 4*h 4*w"]
    intrinsics: Float32[np.ndarray, "n 3 3"]


def cell_features(
    frames: PosedFrames,
    network: MatchNetwork,
    description: str,
    folder: pathlib.Path,
    say: Callable[[str], None],
) -> CellFeatures:
    """Those of a scene, read from `folder` or made and kept there.

    Args:
      description: what tells the network's descriptors from others
        (`network_weights.description_name`); the file's name has a digest of it, of the canvas and
        of the frames.

    Raises:
      UsageError: the frames have no depth, a picture cannot be read, or the file is damaged or
        cannot be written.
    """
    if frames.depths is None:
        raise UsageError(f"{frames.scene}: true matches need depth, which these frames lack")
    path = folder / f"{frames.scene}-{_digest(frames, network, description)[:16]}.npz"
    if path.exists():
        return _read(path, len(frames), network.canvas)
    say(f"cells of {len(frames)} pictures of {frames.scene}, {network.canvas[1]} pixels wide")
    made = _made(frames, network)
    with files.replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **dataclasses.asdict(made))
    return made


def _made(frames: PosedFrames, network: MatchNetwork) -> CellFeatures:
    centres = cell_centres(network.canvas, DETAIL_STRIDE)
    of_depth = frames.intrinsics if frames.depth_intrinsics is None else frames.depth_intrinsics
    coarse, depth, intrinsics = [], [], []
    for first in range(0, len(frames), ENCODED_TOGETHER):
        rows = range(first, min(first + ENCODED_TOGETHER, len(frames)))
        prepared = [network.prepare(frames.images[i], frames.intrinsics[i]) for i in rows]
        images = np.stack([image for image, _ in prepared])
        padding = [(0, ENCODED_TOGETHER - len(images))] + [(0, 0)] * 3
        encoded = network.encode(np.pad(images, padding))
        plain, kept = encoded.cells, network.kept(encoded).cells
        plain, kept = (np.asarray(_eight_bits(x)) for x in (plain, kept))
        coarse += [(kept if i % 2 else plain)[k] for k, i in enumerate(rows)]
        intrinsics += [matrix for _, matrix in prepared]
        depth += [
            sample_depth(frames.depths[i], of_depth[i], intrinsics[i], centres) for i in rows
        ]
    return CellFeatures(
        coarse=np.stack(coarse),
        depth=np.stack(depth).astype(np.float16),
        intrinsics=np.stack(intrinsics).astype(np.float32),
    )


@jax.jit
def _eight_bits(cells: descriptors.CellDescriptors) -> jax.Array:
    return descriptors.quantise(descriptors.restore(cells)).coarse


def _read(path: pathlib.Path, count: int, canvas: tuple[int, int]) -> CellFeatures:
    files.check_regular(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = CellFeatures(**dict(archive))
        shape = (count, *(side // DETAIL_STRIDE for side in canvas))
        if found.depth.shape != shape or len(found.coarse) != count:
            raise ValueError(f"cells of shape {found.depth.shape}")
        return found
    except Exception as error:  # of the zip, of its members and of NumPy's headers: any
        message = f"{path}: not a file of cells ({error}); delete it, and it is made again"
        raise UsageError(message) from error


def _digest(frames: PosedFrames, network: MatchNetwork, description: str) -> str:
    text = json.dumps([description, network.canvas, frames.names])
    digest = hashlib.sha256(text.encode("utf-8", "backslashreplace"))
    digest.update(np.ascontiguousarray(frames.world_from_cam))
    digest.update(np.ascontiguousarray(frames.intrinsics))
    return digest.hexdigest()

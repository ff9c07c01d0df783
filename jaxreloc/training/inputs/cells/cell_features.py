"""Described cells of pictures and their depth, computed once and kept on disk.

With the backbone and the description frozen, a matcher of coarse cells needs nothing else of a
picture. Every other picture's descriptors have gone through the few bits that a map keeps, so that
the matcher learns from both kinds: a query's, and the database's.
"""

import dataclasses
import pathlib
from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Float16, Float32, Int8

from jaxreloc.data.kept_arrays import kept_arrays
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.images import cell_centres, sample_depth
from jaxreloc.localization.networks.match_network import MatchNetwork
from jaxreloc.models.matching import descriptors
from jaxreloc.models.matching.context.context_matching import by_blocks
from jaxreloc.models.matching.descriptors import DETAIL_STRIDE
from jaxreloc.progress_bars import progress_bar
from jaxreloc.usage import UsageError

ENCODED_TOGETHER = 8


@dataclasses.dataclass(frozen=True)
class CellFeatures:
    """The cells of n pictures of a scene, fitted into a canvas.

    Attributes:
      coarse: descriptors of the coarse cells in eight bits.
      fine: those of the four fine cells of each, by rows.
      depth: metres along z at the centres of the detail grid's cells, 0 where not known.
      intrinsics: of the canvas.
    """

    coarse: Int8[np.ndarray, "n h w C"]
    fine: Int8[np.ndarray, "n h w 4*F"]
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
    shape = len(frames), *(side // DETAIL_STRIDE for side in network.canvas)

    def check(found: CellFeatures) -> None:
        if found.depth.shape != shape or len(found.coarse) != len(frames):
            raise ValueError(f"cells of shape {found.depth.shape}")

    digest = frames.digest(description, network.canvas)
    return kept_arrays(
        folder / f"{frames.scene}-{digest[:16]}.npz",
        CellFeatures,
        lambda: _made(frames, network, say),
        check,
        "cells",
    )


def _made(frames: PosedFrames, network: MatchNetwork, say: Callable[[str], None]) -> CellFeatures:
    say(f"cells of {len(frames)} pictures of {frames.scene}, {network.canvas[1]} pixels wide")
    centres = cell_centres(network.canvas, DETAIL_STRIDE)
    of_depth = frames.intrinsics if frames.depth_intrinsics is None else frames.depth_intrinsics
    coarse, fine, depth, intrinsics = [], [], [], []
    firsts = range(0, len(frames), ENCODED_TOGETHER)
    for first in progress_bar(firsts, f"cells of {frames.scene}", counted=False):
        rows = range(first, min(first + ENCODED_TOGETHER, len(frames)))
        prepared = [network.prepare(frames.images[i], frames.intrinsics[i]) for i in rows]
        images = np.stack([image for image, _ in prepared])
        padding = [(0, ENCODED_TOGETHER - len(images))] + [(0, 0)] * 3
        encoded = network.encode(np.pad(images, padding))
        plain, kept = encoded.cells, network.kept(encoded).cells
        plain, kept = (jax.device_get(_eight_bits(x)) for x in (plain, kept))
        for k, i in enumerate(rows):
            of_cells = kept if i % 2 else plain
            coarse.append(of_cells[0][k])
            fine.append(of_cells[1][k])
        intrinsics += [matrix for _, matrix in prepared]
        depth += [sample_depth(frames.depths[i], of_depth[i], intrinsics[i], centres) for i in rows]
    return CellFeatures(
        coarse=np.stack(coarse),
        fine=np.stack(fine),
        depth=np.stack(depth).astype(np.float16),
        intrinsics=np.stack(intrinsics).astype(np.float32),
    )


@jax.jit
def _eight_bits(cells: descriptors.CellDescriptors) -> tuple[jax.Array, jax.Array]:
    """Of the coarse cells, and of the fine cells of each."""
    cells = descriptors.quantise(descriptors.restore(cells))
    return cells.coarse, by_blocks(cells.fine)

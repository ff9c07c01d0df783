"""`PosedFrames`: what every reader returns and every stage of the pipeline takes."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float64, Int64

from jaxreloc.usage import UsageError

MAX_ROTATION_DEFECT = 1e-2


@dataclasses.dataclass(frozen=True)
class PosedFrames:
    """n images of one scene with their poses, as a struct of arrays; images decode on access.

    Camera axes are OpenCV's (x right, y down, z forward); pixel (0, 0) is the centre of the
    top-left pixel; lengths are metres.
    """

    scene: str
    names: tuple[str, ...]  # unique within the scene, e.g. "seq-01/frame-000226.color.png"
    world_from_cam: Float64[np.ndarray, "n 4 4"]  # rigid
    intrinsics: Float64[np.ndarray, "n 3 3"]  # pixels of the stored image
    image_sizes: Int64[np.ndarray, "n 2"]  # width, height
    images: Sequence[np.ndarray]  # images[i]: uint8 RGB, height x width x 3
    depths: Sequence[np.ndarray] | None = None  # depths[i]: float32 metres along z, 0 where none
    sequences: tuple[str, ...] | None = None  # the camera path each frame was taken on
    depth_intrinsics: Float64[np.ndarray, "n 3 3"] | None = None  # None: those of the images

    def __post_init__(self):
        sizes = {
            field.name: len(getattr(self, field.name))
            for field in dataclasses.fields(self)
            if field.name != "scene" and getattr(self, field.name) is not None
        }
        if len(set(sizes.values())) != 1:
            raise ValueError(f"fields of different lengths: {sizes}")

    def __len__(self) -> int:
        return len(self.names)

    def digest(self, *told: object) -> str:
        """SHA-256 of the names, poses and intrinsics, and of what else is told (JSON)."""
        text = json.dumps([*told, self.names])
        digest = hashlib.sha256(text.encode("utf-8", "backslashreplace"))
        digest.update(np.ascontiguousarray(self.world_from_cam))
        digest.update(np.ascontiguousarray(self.intrinsics))
        return digest.hexdigest()

    def select(self, indices: Iterable[int]) -> "PosedFrames":
        """The frames at `indices`, in that order."""
        index = np.asarray(list(indices), dtype=np.int64)
        return dataclasses.replace(
            self,
            names=tuple(self.names[i] for i in index),
            world_from_cam=self.world_from_cam[index],
            intrinsics=self.intrinsics[index],
            image_sizes=self.image_sizes[index],
            images=Selection(self.images, index),
            depths=None if self.depths is None else Selection(self.depths, index),
            sequences=None if self.sequences is None else tuple(self.sequences[i] for i in index),
            depth_intrinsics=(
                None if self.depth_intrinsics is None else self.depth_intrinsics[index]
            ),
        )


@dataclasses.dataclass(frozen=True)
class Selection(Sequence):
    """A view of `items` at `index`; nothing is read before it is asked for."""

    items: Sequence
    index: np.ndarray

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, i: int):
        return self.items[int(self.index[i])]


@dataclasses.dataclass(frozen=True)
class Chain(Sequence):
    """Several sequences, one after the other; nothing is read before it is asked for."""

    parts: tuple[Sequence, ...]

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def __getitem__(self, i: int):
        part, k = self.find(i)
        return part[k]

    def find(self, i: int) -> tuple[Sequence, int]:
        """The part that has item `i`, and its place there."""
        i = range(len(self))[i]  # counts from the end if negative; IndexError beyond
        for part in self.parts:
            if i < len(part):
                break
            i -= len(part)
        return part, i


def rigid(matrix: np.ndarray, source: str) -> Float64[np.ndarray, "4 4"]:
    """`matrix` with its rotation projected to SO(3) (the nearest in Frobenius norm, by SVD).

    Args:
      matrix: 4x4, row-major, last row (0, 0, 0, 1).
      source: the file (and line or field) it came from, for the message.

    Raises:
      UsageError: it is not 4x4, not finite, or its rotation is off SO(3) by more than
        MAX_ROTATION_DEFECT in any entry of R^T R - I, or mirrors.
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    if matrix.shape != (4, 4):
        raise UsageError(f"{source}: pose has shape {matrix.shape}; give a rigid 4x4 matrix")
    if not np.isfinite(matrix).all():
        raise UsageError(f"{source}: pose has NaN or infinite entries; remove the frame or mend it")
    rotation = matrix[:3, :3]
    with np.errstate(over="ignore", invalid="ignore"):  # infinite or NaN, and refused
        defect = np.abs(rotation.T @ rotation - np.eye(3)).max()
    if np.abs(matrix[3] - (0, 0, 0, 1)).max() > 1e-6 or not defect <= MAX_ROTATION_DEFECT:
        raise UsageError(
            f"{source}: pose is not a rigid transform (its rotation is off SO(3) by {defect:.2g}, "
            f"allowed {MAX_ROTATION_DEFECT}); remove scale and shear, or the frame"
        )
    if np.linalg.det(rotation) < 0:
        raise UsageError(f"{source}: pose mirrors space (determinant -1); check its axes")
    u, _, vt = np.linalg.svd(rotation)
    result = np.eye(4)
    result[:3, :3] = u @ vt
    result[:3, 3] = matrix[:3, 3]
    return result

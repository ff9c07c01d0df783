"""All textures of a scene in one array, each with its mip levels, sampled by NumPy."""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float32, Int32, UInt8

MAX_LEVELS = 10


class TextureAtlas:
    """Square power-of-two textures that repeat, with prefiltered smaller copies (mip levels)."""

    def __init__(self, textures: Sequence[UInt8[np.ndarray, "size size 3"] | None]):
        """None stands for white. A texture that comes up twice is stored once."""
        stored: dict[int, tuple[int, ...]] = {}
        chains, offsets, sizes = [], np.zeros((len(textures), MAX_LEVELS), np.int32), []
        total = 0
        white = np.full((1, 1, 3), 255, np.uint8)
        for i, texture in enumerate(textures):
            texture = white if texture is None else texture
            key = id(texture)
            if key not in stored:
                chain = _mip_chain(texture)
                starts = total + np.cumsum([0] + [len(level) for level in chain])
                chains += chain
                total = int(starts[-1])
                stored[key] = tuple(starts[:-1])
            offsets[i, : len(stored[key])] = stored[key]
            sizes.append(texture.shape[0])
        self.sizes: Int32[np.ndarray, textures] = np.array(sizes, np.int32)
        self._top_level = np.round(np.log2(self.sizes)).astype(np.int32)
        self._offsets = offsets.reshape(-1)
        self._texels = np.concatenate(chains)

    def lookup(
        self,
        texture: Int32[np.ndarray, "n"],
        uvs: Float32[np.ndarray, "2 n"],
        level: Float32[np.ndarray, "n"],
    ) -> Float32[np.ndarray, "3 n"]:
        """Linear albedo (v / 255)^2, bilinear within the nearest mip level.

        Args:
          uvs: in texture widths from the top-left corner.
          level: log2 of the texels that one sample covers.
        """
        level = np.rint(level).astype(np.int32)
        np.clip(level, 0, np.take(self._top_level, texture), out=level)
        size = np.take(self.sizes, texture) >> level
        base = np.take(self._offsets, texture * MAX_LEVELS + level)
        mask = size - 1
        left, right, fx = _neighbours(uvs[0], size, mask)
        top, bottom, fy = _neighbours(uvs[1], size, mask)
        upper, lower = base + top * size, base + bottom * size
        corners = [
            np.take(self._texels, index)
            for index in (upper + left, upper + right, lower + left, lower + right)
        ]
        albedo = np.empty((3, len(texture)), np.float32)
        for channel in range(3):
            a, b, c, d = (
                texels.view(np.uint8)[channel::4].astype(np.float32) for texels in corners
            )
            a += fx * (b - a)
            c += fx * (d - c)
            a += fy * (c - a)
            a *= np.float32(1 / 255)
            np.multiply(a, a, out=albedo[channel])
        return albedo

    def mean_albedo(self) -> Float32[np.ndarray, "textures 3"]:
        """The linear albedo of each texture's one-texel level."""
        n = len(self.sizes)
        middle = np.full((2, n), 0.5, np.float32)
        return self.lookup(np.arange(n, dtype=np.int32), middle, self._top_level).T


def _neighbours(u: np.ndarray, size: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, ...]:
    """The texels before and after `u` along one axis, and how far it is from the first."""
    position = u * size.astype(np.float32) - np.float32(0.5)
    floor = np.floor(position)
    first = floor.astype(np.int32) & mask
    return first, (first + 1) & mask, position - floor


def _mip_chain(texture: UInt8[np.ndarray, "size size 3"]) -> list[np.ndarray]:
    """The texture and its halvings down to one texel, each as packed texels [size * size]."""
    size = texture.shape[0]
    if texture.shape != (size, size, 3) or size & (size - 1):
        raise ValueError(f"a texture is square with a power-of-two size, not {texture.shape}")
    levels = []
    while True:
        padded = np.zeros((size, size, 4), np.uint8)
        padded[..., :3] = texture
        levels.append(padded.reshape(-1).view(np.uint32))
        if size == 1:
            return levels
        size //= 2
        texture = cv2.resize(texture, (size, size), interpolation=cv2.INTER_AREA).reshape(
            size, size, 3
        )

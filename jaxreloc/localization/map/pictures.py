"""The pictures of a map's images."""

import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from jaxreloc.images import decode_grey

KEPT = 256  # decoded ones in memory


class Pictures(Sequence):
    """JPEG of each image; the grey values of those asked for last stay in memory."""

    def __init__(self, jpegs: Sequence[bytes]):
        self._jpegs = jpegs
        self._grey = functools.lru_cache(KEPT)(
            lambda i: decode_grey(jpegs[i], f"picture {i} of the map")
        )

    def __len__(self) -> int:
        return len(self._jpegs)

    def __getitem__(self, i: int) -> bytes:
        return self._jpegs[i]

    def grey(
        self, rows: Sequence[int], size: tuple[int, int]
    ) -> UInt8[np.ndarray, "N height width"] | None:
        """Grey values of some images; None unless all are of this height and width.

        Raises:
          UsageError: a picture is damaged.
        """
        pictures = [self._grey(int(i)) for i in rows]
        return np.stack(pictures) if all(x.shape == size for x in pictures) else None

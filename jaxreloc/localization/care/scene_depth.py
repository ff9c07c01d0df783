"""How far the things lie that a map's images see."""

import functools
from collections.abc import Iterable

import numpy as np

from jaxreloc.localization.map.scene_map import SceneMap


class SceneDepth:
    """In the unit of the map."""

    def __init__(self, scene_map: SceneMap):
        self._scene_map = scene_map
        centres = scene_map.world_from_db[:, :3, 3]
        extent = np.median(np.linalg.norm(centres - np.median(centres, axis=0), axis=1))
        self._otherwise = float(extent) or 1.0
        self._of_image = functools.cache(self._median)

    def __call__(self, rows: Iterable[int]) -> float:
        """The median of some images' medians; where no depth is known, the cameras' extent."""
        known = [x for row in rows if np.isfinite(x := self._of_image(int(row)))]
        return float(np.median(known)) if known else self._otherwise

    def _median(self, row: int) -> float:
        depth = self._scene_map.neighbor_depth(np.array([row]))
        known = [] if depth is None else depth[depth[..., 0] > 0][:, 0]
        return float(1 / np.median(known)) if len(known) else np.nan

"""Images of a map as queries, of the map without themselves or of another map.

What a map keeps of an image takes the place of a query's features: no picture is needed.
Pictures are not aligned at the end, which is worth hundredths of a degree, and nothing is looked at
again, turned or in context.
"""

import concurrent.futures
import dataclasses
import os
from collections.abc import Collection, Iterable, Iterator

import numpy as np
from jaxtyping import Int, UInt8

from jaxreloc.localization.clock import StageClock
from jaxreloc.localization.localizer import Localizer
from jaxreloc.localization.map.encoding import Progress
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.methods.all_matches_method import MODES, AllMatches
from jaxreloc.localization.networks.matcher import Matcher
from jaxreloc.localization.quarter_turns import View
from jaxreloc.localization.query_state import Localization, Query


class KeptLocalizer:
    """Localizes images in `scene_map` from what a map keeps of them.

    Args:
      scene_map: where they are to be found.
      source: the map that keeps them, made by the same network; None: the same map, and then no
        image is its own neighbour.
    """

    def __init__(self, scene_map: SceneMap, source: SceneMap | None = None):
        self.scene_map = scene_map
        self.source = scene_map if source is None else source
        self._is_own = source is None
        self._localizer = Localizer(scene_map, quarter_turns=False)
        without_pictures = dataclasses.replace(MODES["default"], precision=None)
        self._method = (
            AllMatches(scene_map, without_pictures)
            if isinstance(scene_map.network, Matcher)
            else self._localizer.method
        )

    def localize(self, row: int, excluded: Collection[int] = ()) -> Localization:
        """The pose of an image of the source.

        Args:
          excluded: images of the map that are no neighbours either.
        """
        return self._localizer.locate(self._query(row, {*excluded}), self._method)

    def localize_all(
        self,
        rows: Iterable[int],
        excluded: Collection[int] = (),
        progress: Progress = lambda images: images,
    ) -> Iterator[Localization]:
        """As `localize`, of several images, in their order; `progress` wraps the iteration."""
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
            yield from progress(threads.map(lambda row: self.localize(row, excluded), rows))

    def _query(self, row: int, excluded: set[int]) -> Query:
        features, network_intrinsics = self.source.neighbor_features(np.array([row]))
        ranking = self._ranking(row, excluded | ({row} if self._is_own else set()))
        chosen = self._method.choose(ranking, features, None)
        return Query(
            view=View(_blank(self.source.image_sizes[row]), self.source.intrinsics[row]),
            network_intrinsics=network_intrinsics.astype(np.float32),
            network_image=_blank((1, 1)),
            features=features,
            neighbors=chosen.index,
            is_neighbor=chosen.is_neighbor,
            candidates=None,
            clock=StageClock(),
            similarity=chosen.similarity,
        )

    def _ranking(self, row: int, excluded: set[int]) -> Int[np.ndarray, "ranked"]:
        count = self._method.num_ranked
        descriptor = np.asarray(self.source.descriptor_rows[row], np.float32)[None]
        (ranking,), _ = self._localizer.index.search(descriptor, count + len(excluded))
        return ranking[~np.isin(ranking, list(excluded))][:count]


def _blank(size: tuple[int, int] | Int[np.ndarray, "2"]) -> UInt8[np.ndarray, "h w 3"]:
    """In place of a picture of which only the width and height are asked for; takes no memory."""
    width, height = size
    return np.broadcast_to(np.uint8(0), (int(height), int(width), 3))

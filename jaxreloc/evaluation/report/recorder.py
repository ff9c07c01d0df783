"""Gathers what a report shows of a scene while its queries are being localized."""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, UInt8

from jaxreloc import files
from jaxreloc.evaluation.report.content import (
    Cameras,
    Estimates,
    QueryPictures,
    SceneContent,
)
from jaxreloc.evaluation.report.matchers import PairMatcher, matches_as_given
from jaxreloc.images import decode_image, encode_jpeg, image_size, shrunk
from jaxreloc.localization.query_state import Localization

MAX_PICTURED_QUERIES = 64
THUMBNAIL_SIDE = 400
JPEG_QUALITY = 82
MAX_THUMBNAIL_BYTES = 1 << 24


class SceneRecorder:
    """Takes queries one by one, any number of them; keeps the pictures of every k-th.

    Args:
      name: the scene's.
      database: the cameras of the map.
      db_images: their pictures, or JPEG thumbnails (bytes or files); read when needed.
      methods: titles by key, in the order in which they are shown.
      matcher: finds the matches to draw; None draws none.
      max_pictured: k grows so that at most so many queries come with pictures.
    """

    def __init__(
        self,
        name: str,
        database: Cameras,
        db_images: Sequence[UInt8[np.ndarray, "h w 3"] | bytes | pathlib.Path],
        *,
        methods: Mapping[str, str],
        matcher: PairMatcher | None,
        max_pictured: int = MAX_PICTURED_QUERIES,
    ):
        self._name = name
        self._database = database
        self._db_images = db_images
        self._methods = methods
        self._matcher = matcher
        self._max_pictured = max_pictured
        self._step = 1
        self._queries: list[tuple[str, np.ndarray, tuple[int, int], np.ndarray | None]] = []
        self._located: list[Mapping[str, Localization]] = []
        self._pictures: dict[int, QueryPictures] = {}

    def add(
        self,
        name: str,
        image: UInt8[np.ndarray, "h w 3"],
        intrinsics: Float[np.ndarray, "3 3"],
        located: Mapping[str, Localization],
        *,
        truth: Float[np.ndarray, "4 4"] | None = None,
    ) -> None:
        """One query and what each method made of it; `truth` is `world_from_query`."""
        index = len(self._queries)
        self._queries.append((name, intrinsics, (image.shape[1], image.shape[0]), truth))
        self._located.append(located)
        if index % self._step == 0:
            self._pictures[index] = self._picture(image, intrinsics, located)
        if len(self._pictures) > self._max_pictured:
            self._step *= 2
            kept = {i: p for i, p in self._pictures.items() if i % self._step == 0}
            self._pictures = kept

    def content(self) -> SceneContent:
        """All that was added so far."""
        names, intrinsics, sizes, truths = zip(*self._queries, strict=True)
        known = all(truth is not None for truth in truths)
        shown = {i for pictures in self._pictures.values() for i in pictures.neighbors}
        return SceneContent(
            name=self._name,
            database=self._database,
            queries=Cameras(
                names=names,
                world_from_cam=np.stack(truths) if known else None,
                intrinsics=np.stack(intrinsics),
                image_sizes=np.array(sizes),
            ),
            estimates={key: self._estimates(key) for key in self._methods},
            pictures=dict(self._pictures),
            db_thumbnails={i: _jpeg(self._db_images[i]) for i in sorted(shown)},
            matched_by=self._matcher.name if self._matcher else "",
        )

    def _estimates(self, method: str) -> Estimates:
        located = [each[method] for each in self._located]
        return Estimates(
            title=self._methods[method],
            world_from_query=np.stack([x.world_from_query for x in located]),
            success=np.array([x.success for x in located]),
            agreeing=tuple(
                np.isin(shown.neighbors, x.neighbors[x.location_inliers])
                for shown, x in zip(map(_shown, self._located), located, strict=True)
            ),
            position_std=np.array([_worst_std(x.position_covariance) for x in located]),
        )

    def _picture(
        self,
        image: np.ndarray,
        intrinsics: np.ndarray,
        located: Mapping[str, Localization],
    ) -> QueryPictures:
        shown = _shown(located)
        matches = None
        if self._matcher:
            matches = matches_as_given(self._matcher, image, intrinsics, shown)
        return QueryPictures(_jpeg(image), tuple(map(int, shown.neighbors)), matches)


def _shown(located: Mapping[str, Localization]) -> Localization:
    """The method whose retrieved images are shown: the first one."""
    return next(iter(located.values()))


def _worst_std(covariance: Float[np.ndarray, "3 3"]) -> float:
    if not np.isfinite(covariance).all():
        return np.inf
    return float(np.sqrt(max(0.0, np.linalg.eigvalsh(covariance)[-1])))


def _jpeg(image: UInt8[np.ndarray, "h w 3"] | bytes | pathlib.Path) -> bytes:
    if isinstance(image, pathlib.Path):
        return files.read_bytes(image, limit=MAX_THUMBNAIL_BYTES)
    if isinstance(image, bytes):
        if max(image_size(image, "picture")) <= THUMBNAIL_SIDE:
            return image
        image = decode_image(image, "picture")
    return encode_jpeg(shrunk(image, THUMBNAIL_SIDE), JPEG_QUALITY)

"""`Localizer`: one image in, one camera pose out."""

import concurrent.futures
import dataclasses
import functools
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree, UInt8

from jaxreloc.images import decode_image
from jaxreloc.localization.assumed_camera import (
    UNKNOWN_DEVIATION,
    AssumedCamera,
    check_intrinsics,
)
from jaxreloc.localization.clock import StageClock, added
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.methods.method import Method
from jaxreloc.localization.methods.method_choice import method_for
from jaxreloc.localization.neighbors.retrieval import ExactIndex, Index
from jaxreloc.localization.networks.matcher import Matcher
from jaxreloc.localization.quarter_turns import QUARTER_TURNS, View, turned_view
from jaxreloc.localization.query_state import Localization, Query
from jaxreloc.localization.second_looks import (
    best_in_context,
    best_of_turns,
    likeliest,
    to_match_in_context,
    turns_to_try,
)

BATCH_SIZE = 16


class Localizer:
    """Retrieves, relates and solves for the pose against one scene map.

    `retrieve` encodes the image and finds its neighbours; `locate` relates the query to them and
    makes the pose and its confidence of that, by the method; `localize` looks again at what was
    refused: turned, then in context.

    Whatever the size of an image, it is brought to one shape, so that everything compiles once, in
    `warm_up` or in the first query. A localizer keeps nothing of a query and may be called from
    several threads.

    Args:
      scene_map: the database, with the network that made its features.
      num_neighbors: N, the images that a query is related to; None takes the method's and mode's.
      method: of `method_choice.METHODS`. "all_matches" makes one pose of all matches, and is the
        default for networks that match; the others fuse relative poses (`geometry.fusion`).
      mode: of "all_matches" alone; None is "default". "fast" has fewer neighbours and leaves the
        pictures out, "precise" looks at more of them. With a network that has context, as what
        ships, all but "fast" match in context what no turn makes sure, in the view of which the map
        shows most, and "thorough" what is answered, too.
      min_baseline: of the other methods: the distance that neighbours keep from each other, in the
        unit of the map's poses (see `retrieval.diverse`); None takes `retrieval.default_baseline`
        of the map, of "median" 0, and 0 takes the most similar images.
      index: finds the most similar images; None takes that of the map, which compares all of them
        unless one is kept on disk.
      quarter_turns: a query that is refused is looked at again, turned by 90, 180 and 270 degrees,
        retrieval included. The turned picture of which the map shows most is matched; where that is
        not known, all three are. The most confident answer is taken if it is sure enough
        (`quarter_turns.MIN_CONFIDENCE`, which is more than for the picture as given; in context, in
        a map with depth, it is as much). An answer of a `Matcher` that is rolled by more than 45
        degrees against the neighbours gives way to a more confident one to the picture as they are
        held. The network hardly matches what is turned by 60 degrees or more, as in a picture of a
        phone on its side whose file does not say so. Networks that do not know how likely a pose is
        right refuse nothing, and see no picture turned.
    """

    def __init__(
        self,
        scene_map: SceneMap,
        *,
        num_neighbors: int | None = None,
        method: str | None = None,
        mode: str | None = None,
        min_baseline: float | None = None,
        index: Index | None = None,
        quarter_turns: bool = True,
    ):
        self.scene_map = scene_map
        self.network = scene_map.network
        self.quarter_turns = quarter_turns
        self.index = scene_map.index if index is None else index
        self._is_matcher = isinstance(self.network, Matcher)
        self.method: Method = method_for(
            scene_map,
            method,
            mode=mode,
            num_neighbors=num_neighbors,
            min_baseline=min_baseline,
        )
        self.num_neighbors = self.method.num_neighbors
        self.assumed_camera = AssumedCamera(scene_map)

    def __call__(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        intrinsics: Float[np.ndarray, "3 3"] | None = None,
        candidates: Int[np.ndarray, "C"] | None = None,
        expected: Float[np.ndarray, "G 4 4"] | None = None,
        allowed: Bool[np.ndarray, "M"] | None = None,
        near: Sequence[float] | None = None,
        focal_deviation: float | None = None,
    ) -> Localization:
        """Localizes one image.

        A refused image is retrieved again for each quarter turn, matched in one of them, and then
        in context, as the mode has it.

        Args:
          image: RGB, of any size.
          intrinsics: of that image, in pixels; (0, 0) is the centre of the top-left pixel. None
            takes the image to be of a camera like the map's, with a warning; "all_matches" finds
            its focal length along with the pose, beginning there.
          candidates: database images to consider besides the retrieved ones, at most
            `num_neighbors`, such as those that agreed on the frame before in a video. Where
            relative poses are fused, not None doubles their number.
          expected: up to two of world_from_query, such as the last one of a video: more
            hypotheses of "all_matches", which decide nothing by themselves.
          allowed: the database images that may be neighbours; None allows all.
          near: x, y, z and a radius, in the axes and the unit of the map: only images taken there
            may be neighbours.
          focal_deviation: of the logarithm of the focal length in `intrinsics`, which
            "all_matches" then finds along with the pose; None takes it as it is.

        Raises:
          ValueError: it is no such image, these are not its intrinsics, or nothing is allowed.
          UsageError: no image of the map was taken `near` there.
        """
        query = self.retrieve(
            image, intrinsics, candidates, expected, allowed, near, focal_deviation
        )
        return self.localize(query)

    def retrieve(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        intrinsics: Float[np.ndarray, "3 3"] | None = None,
        candidates: Int[np.ndarray, "C"] | None = None,
        expected: Float[np.ndarray, "G 4 4"] | None = None,
        allowed: Bool[np.ndarray, "M"] | None = None,
        near: Sequence[float] | None = None,
        focal_deviation: float | None = None,
    ) -> Query:
        """Encodes the image and finds its neighbours; see `__call__`."""
        view = self._view(image, intrinsics, focal_deviation)
        if near is not None:
            within = self.scene_map.images_near(near)
            allowed = within if allowed is None else within & allowed
        if allowed is not None and not (len(allowed) == len(self.scene_map) and allowed.any()):
            raise ValueError("allowed has to be a flag for each image of the map, one of them true")
        return self._retrieve([view], candidates=candidates, expected=expected, allowed=allowed)[0]

    def locate(self, query: Query, method: Method | None = None) -> Localization:
        """The pose of a query as given, by the localizer's method or another."""
        return _locate_batch(method or self.method, [query])[0]

    def localize(self, query: Query) -> Localization:
        """The pose of a query; looks again at what is refused or rolled."""
        found = [self.locate(query)]
        if self._is_looked_at_again(found[0]):
            self._look_again(found, [(0, query)], batch_size=1)
        return found[0]

    def localize_all(
        self,
        images: Sequence[UInt8[np.ndarray, "h w 3"]],
        intrinsics: Sequence[Float[np.ndarray, "3 3"]] | None = None,
        focal_deviations: Sequence[float | None] | None = None,
        *,
        batch_size: int = BATCH_SIZE,
    ) -> list[Localization]:
        """Localizes any number of images, of any sizes, in batches of one shape.

        Images are taken from their sequence a batch at a time, so that it may read them then. The
        answers are those of calling the localizer on each image; `stage_ms` is an image's share of
        its batches.

        Args:
          intrinsics: of each image; None as in `__call__`.
          focal_deviations: of each image, as `focal_deviation` there.
        """
        none = [None] * len(images)
        intrinsics = none if intrinsics is None else intrinsics
        deviations = none if focal_deviations is None else focal_deviations
        if not len(images) == len(intrinsics) == len(deviations):
            raise ValueError(
                f"{len(images)} images, but {len(intrinsics)} intrinsics and {len(deviations)} "
                "deviations of focal lengths"
            )

        views = map(self._view, images, intrinsics, deviations)
        found, again = [], []
        at_once = max(1, batch_size // len(QUARTER_TURNS))
        for query, answer in self._located(self._retrieved(views, batch_size), batch_size):
            if self._is_looked_at_again(answer):
                again.append((len(found), query))
            found.append(answer)
            if len(again) == at_once:
                self._look_again(found, again, batch_size)
                again = []
        self._look_again(found, again, batch_size)
        return found

    def warm_up(
        self, *, candidates: bool = False, batch_size: int | None = None, searching: bool = False
    ) -> float:
        """Compiles what a query needs, by localizing a picture of the map.

        Where the map has the picture that the network saw, it is found, so that nothing is left to
        compile for the first query that is, nor for one that is matched in context.

        Args:
          candidates: for queries with candidates, as a video's are.
          batch_size: for `localize_all` with that batch size.
          searching: for queries whose focal length is to be found.

        Returns:
          The latency then: the milliseconds of a query that is not refused, in a batch if
          `batch_size` is given.
        """
        image = decode_image(self.scene_map.pictures[0], "picture 0 of the map")
        height, width = image.shape[:2]
        intrinsics = np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1]])
        if self._is_matcher:
            intrinsics = self.scene_map.network_intrinsics[0].astype(np.float64)
        view = View(image, intrinsics, focal_deviation=UNKNOWN_DEVIATION if searching else None)
        none = np.zeros(0, int) if candidates else None
        for _ in range(2):
            start = time.perf_counter()
            if batch_size is None:
                (query,) = self._retrieve([view], candidates=none)
                answered = [(query, self.locate(query))]
            else:
                queries = list(self._retrieved([view] * batch_size, batch_size))
                answered = list(self._located(queries, batch_size))
            for query, found in answered:
                if found.success:
                    self._look_again([found], [(0, query)], batch_size=1)
            elapsed_ms = 1e3 * (time.perf_counter() - start)
        in_context = self.method.in_context(was_refused=True)
        if in_context is not None:
            in_context.relate(query)
        return elapsed_ms / (batch_size or 1)

    def _look_again(
        self, found: list[Localization], again: Sequence[tuple[int, Query]], batch_size: int
    ) -> None:
        """Turned, and then in context; puts the answers that are kept in `found`.

        Args:
          again: the queries, asked alike, with their places in `found`.
        """
        turns = [self._turns_to_try(found[i]) for i, _ in again]
        turned = (
            turned_view(query.view, k)
            for (_, query), tried in zip(again, turns, strict=True)
            for k in tried
        )
        asked = again[0][1].asked if again else {}
        retrieved = iter(list(self._retrieved(turned, batch_size, **asked)))
        tries = [list(itertools.islice(retrieved, len(tried))) for tried in turns]
        ranked = [likeliest(views) for views in tries]
        located = self._located((query for x, _ in ranked for query in x), batch_size)
        for (i, _), (likely, others) in zip(again, ranked, strict=True):
            answers = [answer for _, answer in itertools.islice(located, len(likely))]
            found[i] = best_of_turns(found[i], answers, others)
        views = {i: [query, *tried] for (i, query), tried in zip(again, tries, strict=True)}
        for was_refused in (False, True):
            rows = [i for i in views if found[i].refused == was_refused]
            method = self.method.in_context(was_refused=was_refused)
            if method is None:
                continue
            chosen = (to_match_in_context(found[i], views[i]) for i in rows)
            answers = self._located(chosen, batch_size, method)
            has_depth = self.scene_map.depth is not None
            for i, (_, answer) in zip(rows, answers, strict=True):
                found[i] = best_in_context(found[i], answer, judged_as_refused=has_depth)

    def _is_looked_at_again(self, found: Localization) -> bool:
        in_context = self.method.in_context(was_refused=found.refused)
        return bool(self._turns_to_try(found)) or in_context is not None

    def _turns_to_try(self, found: Localization) -> Sequence[int]:
        """The quarter turns of a picture that are worth a look, after it was located as given."""
        if not self.quarter_turns:
            return ()
        return turns_to_try(found, self.scene_map.world_from_db, rolled=self._is_matcher)

    def _view(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        intrinsics: Float[np.ndarray, "3 3"] | None,
        focal_deviation: float | None = None,
    ) -> View:
        """The image as given; see `__call__` for what is checked."""
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise ValueError(
                f"an image is RGB, uint8 of shape [h, w, 3], not {image.dtype} of {image.shape}"
            )
        height, width = image.shape[:2]
        if intrinsics is None:
            assumed = self.assumed_camera.intrinsics(
                width, height, is_start=self.method.finds_focal_length
            )
            return View(image, assumed, focal_deviation=focal_deviation or UNKNOWN_DEVIATION)
        check_intrinsics(intrinsics, width, height)
        return View(image, np.asarray(intrinsics, np.float64), focal_deviation=focal_deviation)

    def _retrieve(
        self,
        views: Sequence[View],
        *,
        candidates: Int[np.ndarray, "C"] | None = None,
        expected: Float[np.ndarray, "G 4 4"] | None = None,
        allowed: Bool[np.ndarray, "M"] | None = None,
        batch_size: int = 1,
        run: Callable[..., Iterable] = map,
    ) -> list[Query]:
        """Up to `batch_size` views at once, padded to as many with the last one."""
        total = StageClock()
        with total.stage("prepare"):
            prepared = [self.network.prepare(view.image, view.intrinsics) for view in views]
            images = [image for image, _ in prepared]
            padded = np.stack([*images, *[images[-1]] * (batch_size - len(images))])
        with total.stage("backbone"):
            features = self.network.encode(padded)
            descriptors = jax.block_until_ready(self.network.descriptor(features))
            each = _unstack(features, batch_size) if batch_size > 1 else [features]
        with total.stage("retrieval"):
            rankings = self._rank(descriptors, allowed)
            choose = functools.partial(self.method.choose, candidates=candidates, allowed=allowed)
            chosen = list(run(choose, rankings[: len(views)], each[: len(views)]))
        clock = StageClock({stage: ms / len(views) for stage, ms in total.stage_ms.items()})
        return [
            Query(
                view=view,
                network_intrinsics=prepared[i][1][None].astype(np.float32),
                network_image=images[i],
                features=each[i],
                neighbors=chosen[i].index,
                is_neighbor=chosen[i].is_neighbor,
                candidates=candidates,
                clock=clock,
                similarity=chosen[i].similarity,
                expected=expected,
                allowed=allowed,
            )
            for i, view in enumerate(views)
        ]

    def _rank(
        self, descriptors: Float[Array, "queries dim"], allowed: Bool[np.ndarray, "M"] | None
    ) -> Int[np.ndarray, "queries ranked"]:
        """The most similar images; where too few are allowed, others follow these."""
        ranked = self.method.num_ranked
        if allowed is None:
            return self.index.search(descriptors, ranked)[0]
        if isinstance(self.index, ExactIndex):
            rankings, _ = self.index.search(descriptors, len(self.index))
            order = np.argsort(~allowed[rankings], axis=1, kind="stable")
            return np.take_along_axis(rankings, order, axis=1)[:, :ranked]
        # An approximate search looks at a part of the map, in which none of them may be.
        rows, others = np.flatnonzero(allowed), np.flatnonzero(~allowed)[:ranked]
        of_map = self.scene_map.descriptor_rows
        own = ExactIndex(np.stack([np.asarray(of_map[int(row)], np.float32) for row in rows]))
        best = rows[own.search(descriptors, ranked)[0]]
        after = np.broadcast_to(others, (len(best), len(others)))
        return np.concatenate([best, after], axis=1)[:, :ranked]

    def _retrieved(
        self, views: Iterable[View], batch_size: int, **asked: np.ndarray | None
    ) -> Iterator[Query]:
        views = iter(views)
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
            while batch := list(itertools.islice(views, batch_size)):
                yield from self._retrieve(batch, batch_size=batch_size, run=threads.map, **asked)

    def _located(
        self, queries: Iterable[Query], batch_size: int, method: Method | None = None
    ) -> Iterator[tuple[Query, Localization]]:
        queries = iter(queries)
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
            while batch := list(itertools.islice(queries, batch_size)):
                found = _locate_batch(method or self.method, batch, batch_size, threads.map)
                yield from zip(batch, found, strict=True)


def _locate_batch(
    method: Method,
    queries: Sequence[Query],
    batch_size: int = 1,
    run: Callable[..., Iterable] = map,
) -> list[Localization]:
    """The poses of retrieved queries, each with its share of the time."""
    clock = StageClock()
    with clock.stage("relate"):
        related = list(run(method.relate, queries))
    with clock.stage("fusion"):
        found = method.solve(queries, related, batch_size=batch_size, run=run)
    share = {stage: ms / len(queries) for stage, ms in clock.stage_ms.items()}
    return [
        dataclasses.replace(x, stage_ms=added([query.clock.stage_ms, share]))
        for x, query in zip(found, queries, strict=True)
    ]


@functools.partial(jax.jit, static_argnums=1)
def _unstack(tree: PyTree, count: int) -> list[PyTree]:
    """Element by element of the leading axis, which stays as an axis of 1."""
    return [jax.tree.map(lambda x: x[i : i + 1], tree) for i in range(count)]

"""Ways to relate queries to their retrieved images, timed: matches, concatenation head, SIFT.

Each has `relate_scene(database, queries, neighbors) -> {name: Answers}`, where row q of `neighbors`
[Q, N] has the database images of query q. What it needs of the database is computed before, as in
a map, and not part of a query's time.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import jaxlie
import numpy as np

from jaxreloc.compilation import compiler_options
from jaxreloc.evaluation.baselines.sift import SiftRelator
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.geometry.fusion import FusionConfig
from jaxreloc.images import resize, resize_to_fit
from jaxreloc.localization.networks import match_relations
from jaxreloc.localization.networks.match_network import MatchNetwork
from jaxreloc.localization.networks.relations import PairRelations
from jaxreloc.models.inference import inference_functions
from jaxreloc.models.siamese import SiameseNetwork
from jaxreloc.models.weights.saved_network import LoadedNetwork
from jaxreloc.training.inputs.match_making import EncodedScene, encode_scene


@dataclasses.dataclass(frozen=True)
class Answers:
    """Relations of Q queries (leading axis), what suits their fusion, and the time of each.

    `ms` [Q] is for describing the query and relating it to its neighbours.
    """

    relations: PairRelations
    fusion_config: FusionConfig
    ms: np.ndarray


def concatenate(parts: list[Answers]) -> Answers:
    """The answers to the queries of several scenes."""
    relations = [part.relations for part in parts]
    return Answers(
        jax.tree.map(lambda *x: np.concatenate(x), *relations),
        parts[0].fusion_config,
        np.concatenate([part.ms for part in parts]),
    )


class Matching:
    """Matches of a network's features; an estimator each makes poses of them.

    Args:
      rows: the name of a row for each of `match_relations.ESTIMATORS` that is wanted.
    """

    def __init__(self, loaded: LoadedNetwork, rows: dict[str, str]):
        self.network = MatchNetwork(loaded)
        self._names = rows
        self._variables = jax.device_put(loaded.variables)
        self._relate = {name: _relate_function(loaded.network, name) for name in rows}

    def relate_scene(
        self, database: PosedFrames, queries: PosedFrames, neighbors: np.ndarray
    ) -> dict[str, Answers]:
        encoded = encode_scene(database, self.network)
        found = {name: [] for name in self._names}
        for image, intrinsics, nearest in _each(queries, neighbors):
            (matches, db, query_intrinsics), matched_ms = timed(
                self._match, image, intrinsics, encoded, nearest
            )
            for name, relate in self._relate.items():
                relations, ms = timed(
                    relate, self._variables, matches, db.intrinsics, query_intrinsics
                )
                found[name].append((relations, matched_ms + ms))
        return {
            self._names[name]: _stack(rows, MatchNetwork.fusion_config)
            for name, rows in found.items()
        }

    def _match(self, image, intrinsics, database: EncodedScene, nearest: np.ndarray):
        image, intrinsics = self.network.prepare(image, intrinsics)
        features = self.network.encode(image[None])
        db, intrinsics = database.select(nearest), np.float32(intrinsics)[None]
        matches = self.network.match(db.features, db.intrinsics, features, intrinsics)
        return matches, db, intrinsics


class Concatenation:
    """The paper's pair head on the pooled features of whole pictures, fitted into the canvas."""

    fusion_config = FusionConfig()

    def __init__(self, loaded: LoadedNetwork, canvas: tuple[int, int], name: str):
        self._functions = inference_functions(loaded)
        self._canvas, self._name = canvas, name

    def relate_scene(
        self, database: PosedFrames, queries: PosedFrames, neighbors: np.ndarray
    ) -> dict[str, Answers]:
        encoded = [
            self._encode(database.images[i], database.intrinsics[i]) for i in range(len(database))
        ]
        features = jax.tree.map(lambda *x: np.concatenate(x), *jax.device_get(encoded))
        rows = [
            timed(self._relate, image, intrinsics, jax.tree.map(lambda x: x[nearest], features))
            for image, intrinsics, nearest in _each(queries, neighbors)
        ]
        return {self._name: _stack(rows, self.fusion_config)}

    def _encode(self, image, intrinsics):
        image, _ = resize_to_fit(image, intrinsics, *self._canvas)
        return self._functions.encode(image[None])

    def _relate(self, image, intrinsics, db_features) -> PairRelations:
        count = len(db_features.pooled)
        features = jax.tree.map(
            lambda x: jnp.broadcast_to(x, (count, *x.shape[1:])), self._encode(image, intrinsics)
        )
        unused = np.tile(np.eye(3, dtype=np.float32), (count, 1, 1))  # by this head
        pose = self._functions.relate(db_features, features, unused, unused)
        q_wxyz = pose.q_wxyz / jnp.linalg.norm(pose.q_wxyz, axis=-1, keepdims=True)
        return _relations(jnp.concatenate([q_wxyz, pose.t], axis=-1), np.ones(count, bool))


class Sift:
    """SIFT, ratio test and an essential matrix (OpenCV), on pictures of the canvas's size.

    A picture's longer side is the canvas's, so that portrait ones are not smaller than others.
    """

    name = "SIFT + essential matrix"

    def __init__(self, canvas: tuple[int, int]):
        self._long_side = max(canvas)

    def relate_scene(
        self, database: PosedFrames, queries: PosedFrames, neighbors: np.ndarray
    ) -> dict[str, Answers]:
        relator = SiftRelator(self._resized(database))
        rows = []
        for image, intrinsics, nearest in _each(self._resized(queries), neighbors):
            relator.prefetch(nearest)
            rows.append(timed(self._relate, relator, image, intrinsics, nearest))
        return {self.name: _stack(rows, MatchNetwork.fusion_config)}

    def _relate(self, relator: SiftRelator, image, intrinsics, nearest) -> PairRelations:
        poses, valid = relator.relate(image, intrinsics, nearest)
        return _relations(jnp.where(valid[:, None], poses.wxyz_xyz, jnp.nan), valid)

    def _resized(self, frames: PosedFrames) -> PosedFrames:
        images, intrinsics = [], []
        for i in range(len(frames)):
            height, width = frames.image_sizes[i][::-1]
            scale = self._long_side / max(height, width)
            size = round(height * scale), round(width * scale)
            image, matrix = resize(frames.images[i], frames.intrinsics[i], *size)
            images.append(image)
            intrinsics.append(matrix)
        sizes = np.array([image.shape[1::-1] for image in images], np.int64)
        return dataclasses.replace(
            frames, images=images, intrinsics=np.stack(intrinsics), image_sizes=sizes, depths=None
        )


def timed(function: Callable, *arguments) -> tuple[Any, float]:
    """What it returns, and the milliseconds it took."""
    start = time.perf_counter()
    result = jax.block_until_ready(function(*arguments))
    return result, 1e3 * (time.perf_counter() - start)


@functools.cache
def _relate_function(network: SiameseNetwork, estimator: str) -> Callable:
    relate = functools.partial(match_relations.relate_matches, network, estimator=estimator)
    return jax.jit(relate, compiler_options=compiler_options.wide_vectors())


def _each(queries: PosedFrames, neighbors: np.ndarray) -> Iterable[tuple]:
    for q in range(len(queries)):
        yield queries.images[q], queries.intrinsics[q], neighbors[q]


def _relations(wxyz_xyz: jax.Array, valid: np.ndarray) -> PairRelations:
    ones = np.ones(len(valid), np.float32)
    return PairRelations(jaxlie.SE3(wxyz_xyz), valid, support=ones, overlap_probability=ones)


def _stack(rows: list[tuple[PairRelations, float]], config: FusionConfig) -> Answers:
    relations, ms = zip(*rows)
    return Answers(
        jax.tree.map(lambda *x: np.stack(x), *jax.device_get(relations)), config, np.array(ms)
    )

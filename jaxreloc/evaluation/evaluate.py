"""One evaluation for every caller: queries of a scene through the network and the baselines."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from jaxreloc.evaluation.baselines.nearest_pose import copy_nearest
from jaxreloc.evaluation.baselines.sift import SiftRelator
from jaxreloc.evaluation.metrics import PoseErrors, concatenate, pose_errors
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.localization.clock import STAGES
from jaxreloc.localization.localizer import Localizer
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.methods.pair_fusion import PairFusion
from jaxreloc.localization.query_state import Localization

# Key (on the command line, in file names) and name (in tables) of each method.
METHODS = {
    "nearest": "most similar image",
    "network": "network",
    "sift": "SIFT + essential matrix",
    "shipped": "the network that ships",
}
DEFAULT_METHODS = ("nearest", "network", "sift")
# Of `evaluate_fusions`.
ASKED_ALIKE = (("paper", "robust"), ("median",))  # with the same neighbours
MOST_NEIGHBORS = 10
BLOCK = 64  # queries that are kept in memory


@dataclasses.dataclass(frozen=True)
class MethodResult:
    """What one method made of the queries; nothing of a failed query but its name counts."""

    key: str  # of METHODS
    names: tuple[str, ...]
    world_from_query: Float[np.ndarray, "n 4 4"]
    success: Bool[np.ndarray, "n"]
    errors: PoseErrors
    stage_ms: dict[str, Float[np.ndarray, "n"]]

    @property
    def title(self) -> str:
        """The method's name in tables."""
        return METHODS[self.key]


class Located(NamedTuple):
    """What is measured of a `Localization`."""

    world_from_query: Float[np.ndarray, "4 4"]
    success: bool
    stage_ms: Mapping[str, float]


class SceneQueries:
    """Asks a scene's queries, by index, by every method.

    The network alone looks again at what it refuses, turned and with images retrieved anew
    (`Localizer.quarter_turns`): it is measured as it is used. SIFT finds what is turned without.

    Args:
      database: the frames of the localizer's map, whose pictures SIFT reads.
      methods: of METHODS' keys; the answers come in its order.
      shipped: of the method of this name, which retrieves images of its own.
    """

    def __init__(
        self,
        localizer: Localizer,
        database: PosedFrames,
        queries: PosedFrames,
        methods: Sequence[str] = DEFAULT_METHODS,
        shipped: Localizer | None = None,
    ):
        self._localizer, self._queries, self._shipped = localizer, queries, shipped
        self.methods = [method for method in METHODS if method in methods]
        self._sift = SiftRelator(database)
        self._by_sift = PairFusion(
            localizer.scene_map, localizer.method.fusion, relator=self._sift
        )

    def __call__(self, i: int) -> dict[str, Localization]:
        """The answers to query i, all but that of `shipped` on the same retrieved images."""
        localizer, located = self._localizer, {}
        image, intrinsics = self._queries.images[i], self._queries.intrinsics[i]
        query = localizer.retrieve(image, intrinsics)
        if "nearest" in self.methods:
            located["nearest"] = copy_nearest(localizer, query)
        if "network" in self.methods:
            located["network"] = localizer.localize(query)
        if "sift" in self.methods:
            self._sift.prefetch(query.neighbors)
            located["sift"] = localizer.locate(query, self._by_sift)
        if "shipped" in self.methods:
            located["shipped"] = self._shipped(image, intrinsics)
        return located


def evaluate_scene(
    localizer: Localizer,
    database: PosedFrames,
    queries: PosedFrames,
    *,
    methods: Sequence[str] = DEFAULT_METHODS,
    shipped: Localizer | None = None,
    progress: Callable[[Iterable[int]], Iterable[int]] = lambda indices: indices,
    observe: Callable[[int, Mapping[str, Localization]], None] | None = None,
) -> list[MethodResult]:
    """Every query by every method; see `SceneQueries`.

    Args:
      progress: wraps the iteration over the queries, as tqdm does.
      observe: is told of each query, by index, what each method made of it.
    """
    ask = SceneQueries(localizer, database, queries, methods, shipped)
    ask(0)  # compiles, so that the first query's time is like the others'
    located = []
    for i in progress(range(len(queries))):
        located.append(ask(i))
        if observe is not None:
            observe(i, located[-1])
    return gathered(located, queries)


def gathered(
    located: Sequence[Mapping[str, Located | Localization]], queries: PosedFrames
) -> list[MethodResult]:
    """The results of each method, from what `SceneQueries` made of each query."""
    return [_gather(method, [x[method] for x in located], queries) for method in located[0]]


def evaluate_fusions(
    scene_map: SceneMap,
    queries: PosedFrames,
    *,
    min_baseline: float | None = None,
    progress: Callable[[Iterable[int]], Iterable[int]] = lambda indices: indices,
) -> dict[str, PoseErrors]:
    """Every query by the fusions of pairs with 1 to MOST_NEIGHBORS neighbours, as "paper, N = 5".

    Each query is related once to the neighbours of the paper and `robust`, which keep a distance
    from each other, and once to those of `median`, the most similar. Where no two directions cross,
    as with one neighbour, the paper takes the nearest image's centre, which is an answer of that
    method.
    """
    found: dict[str, list[Localization]] = {}
    for fusions in ASKED_ALIKE:
        localizer = Localizer(
            scene_map, method=fusions[0], num_neighbors=MOST_NEIGHBORS, min_baseline=min_baseline
        )
        solvers = [PairFusion(scene_map, name, num_neighbors=MOST_NEIGHBORS) for name in fusions]
        indices = iter(progress(range(len(queries))))
        while block := list(itertools.islice(indices, BLOCK)):
            asked = [localizer.retrieve(queries.images[i], queries.intrinsics[i]) for i in block]
            related = [localizer.method.relate(query) for query in asked]
            for solver, n in itertools.product(solvers, range(1, MOST_NEIGHBORS + 1)):
                nearest = [
                    dataclasses.replace(
                        query,
                        is_neighbor=query.is_neighbor & (np.arange(len(query.neighbors)) < n),
                    )
                    for query in asked
                ]
                located = solver.solve(nearest, related, batch_size=BLOCK)
                found.setdefault(f"{solver.fusion}, N = {n}", []).extend(located)
    return {
        name: pose_errors(
            np.stack([x.world_from_query for x in located]),
            queries.world_from_cam,
            np.array([x.success or name.startswith("paper") for x in located]),
        )
        for name, located in found.items()
    }


def _gather(
    method: str, located: Sequence[Located | Localization], queries: PosedFrames
) -> MethodResult:
    poses = np.stack([x.world_from_query for x in located])
    success = np.array([x.success for x in located])
    return MethodResult(
        key=method,
        names=queries.names,
        world_from_query=poses,
        success=success,
        errors=pose_errors(poses, queries.world_from_cam, success),
        stage_ms={stage: np.array([x.stage_ms[stage] for x in located]) for stage in STAGES},
    )


def pool(results: Sequence[Sequence[MethodResult]]) -> list[MethodResult]:
    """The results of several scenes, method by method, as those of one set of queries."""
    return [
        MethodResult(
            key=parts[0].key,
            names=tuple(name for part in parts for name in part.names),
            world_from_query=np.concatenate([part.world_from_query for part in parts]),
            success=np.concatenate([part.success for part in parts]),
            errors=concatenate([part.errors for part in parts]),
            stage_ms={s: np.concatenate([part.stage_ms[s] for part in parts]) for s in STAGES},
        )
        for parts in zip(*results, strict=True)
    ]

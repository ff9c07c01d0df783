"""Maps on disk of a corridor, with a network and a method that need no compiling."""

import pathlib

import numpy as np

from jaxreloc.formats.frames import PosedFrames
from jaxreloc.localization.jobs import building
from jaxreloc.localization.localizer import Localizer
from jaxreloc.localization.map import scene_map
from jaxreloc.localization.map.encoding import encode_frames
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.methods.method import Neighbors
from jaxreloc.localization.query_state import TOO_FEW, Localization
from tests.localization.test_toy_network import BrightnessNetwork, corridor

COUNT = 9  # images of a map, a metre apart
INTRINSICS = np.array([[30.0, 0, 15.5], [0, 30, 11.5], [0, 0, 1]])


def install(setattr) -> None:
    """Maps are opened with the toy network; `setattr` is monkeypatch's, or the builtin."""
    for module in (scene_map, building):
        setattr(module, "load_network", lambda path: BrightnessNetwork())


def make_map(folder: pathlib.Path, first: float = 0.0, count: int = COUNT) -> PosedFrames:
    """Writes a map whose images begin at x = `first` metres."""
    frames = corridor(first + np.arange(count), 1.0)
    network = BrightnessNetwork()
    SceneMap.create(folder, network, [encode_frames(frames, network)])
    return frames


class MeanOfNeighbors:
    """The method: the mean of where each neighbour puts the query. Black pictures are refused."""

    num_ranked, num_neighbors = 12, 5
    finds_focal_length = False
    fusion = "robust"

    def __init__(self, scene_map):
        self._scene_map = scene_map

    def choose(self, ranking, features, candidates, allowed=None):
        index = ranking[: self.num_neighbors]
        is_neighbor = np.ones(len(index), bool) if allowed is None else allowed[index]
        return Neighbors(index, is_neighbor, None)

    def in_context(self, *, was_refused):
        return None

    def relate(self, query):
        x = query.features.item()
        return np.array([x, 0.0, 0.0]), x > 0

    def solve(self, queries, related, *, batch_size=1, run=map):
        return [self._solve(query, *one) for query, one in zip(queries, related, strict=True)]

    def _solve(self, query, centre, success):
        neighbors = query.neighbors[query.is_neighbor]
        pose = np.eye(4)
        pose[:3, 3] = centre
        agree = np.abs(self._scene_map.world_from_db[neighbors, 0, 3] - centre[0]) < 2
        return Localization(
            world_from_query=pose,
            success=success,
            confidence=float(agree.mean()),
            location_inliers=agree,
            rotation_inliers=agree,
            position_covariance=1e-4 * np.eye(3),
            rotation_std=0.01,
            neighbors=neighbors,
            stage_ms=query.clock.stage_ms,
            refused=not success,
            covariance=1e-4 * np.eye(6),
            reason="" if success else TOO_FEW,
        )


class ToyLocalizer(Localizer):
    """Of a map of the corridor."""

    def __init__(self, scene_map):
        super().__init__(scene_map, quarter_turns=False)
        self.method = MeanOfNeighbors(scene_map)


def open_localizer(folder: pathlib.Path) -> Localizer:
    """As the server does."""
    return ToyLocalizer(SceneMap.open(folder))


def picture(x_metres: float) -> np.ndarray:
    """What the camera sees at x = `x_metres`, at the height of 0."""
    return corridor(np.array([x_metres]), 0.0).images[0]

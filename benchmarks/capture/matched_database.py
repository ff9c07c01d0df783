"""A COLMAP database of the network's matches, in place of SIFT's."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from jaxreloc.capture.photographs import Photograph
from jaxreloc.capture.sfm import sift_features
from jaxreloc.capture.sfm.mapping import SEED
from jaxreloc.capture.sfm.quiet_colmap import pycolmap
from jaxreloc.capture.sfm.sift_features import quoted
from jaxreloc.capture.sfm.work_folder import WorkFolder
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.localization.map.encoding import encode_frames
from jaxreloc.localization.map.map_depth import match_image
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.neighbors.retrieval import ExactIndex
from jaxreloc.localization.networks.match_network import MatchNetwork

NEIGHBORS = 10
MIN_WEIGHT = 0.2  # of a match
BIN_PX = 1.0  # places that are nearer than this are one


class _Places:
    """The keypoints of one image, each place once."""

    def __init__(self):
        self._number: dict[tuple[int, int], int] = {}
        self.pixels: list[np.ndarray] = []

    def number(self, pixel: np.ndarray) -> int:
        key = tuple(np.round(pixel / BIN_PX).astype(int).tolist())
        if key not in self._number:
            self._number[key] = len(self.pixels)
            self.pixels.append(pixel)
        return self._number[key]


def fill(
    work: WorkFolder,
    photographs: Sequence[Photograph],
    unposed: PosedFrames,
    network: MatchNetwork,
    progress: Callable[[Iterable], Iterable] = lambda rows: rows,
) -> None:
    """Matches each photograph, as a query, with those that it resembles most; verifies the pairs.

    Args:
      unposed: the photographs with any poses, and the intrinsics that their rays are made with.
    """
    scene_map = SceneMap.from_images(network, encode_frames(unposed, network))
    index = ExactIndex(scene_map.descriptors)
    places = [_Places() for _ in photographs]
    matches: dict[tuple[int, int], set[tuple[int, int]]] = {}
    for row in progress(range(len(photographs))):
        chosen, found = match_image(scene_map, index, row, NEIGHBORS)
        here = _pixels(np.asarray(found.x_query), unposed.intrinsics[row])
        weights = np.asarray(found.weights)
        for k, other in enumerate(chosen.tolist()):
            there = _pixels(np.asarray(found.x_db[k]), unposed.intrinsics[other])
            pair = matches.setdefault((min(row, other), max(row, other)), set())
            for cell in np.flatnonzero(weights[k] > MIN_WEIGHT):
                a, b = places[row].number(here[cell]), places[other].number(there[cell])
                pair.add((a, b) if row < other else (b, a))
    _write(work, photographs, places, matches)


def _pixels(rays: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Of the picture at full size, as COLMAP counts them."""
    return rays * K[[0, 1], [0, 1]] + K[:2, 2] + 0.5


def _write(work, photographs, places, matches) -> None:
    with pycolmap.Database.open(work.database) as opened:
        keys, cameras = [], {}
        for photograph, found in zip(photographs, places, strict=True):
            if photograph.camera not in cameras:
                cameras[photograph.camera] = sift_features.write_camera(opened, photograph)
            camera = cameras[photograph.camera]
            image = pycolmap.Image(name=quoted(photograph.name), camera_id=camera)
            keys.append(sift_features.write_image(opened, image))
            pixels = np.array(found.pixels, np.float32).reshape(-1, 2)
            opened.write_keypoints(keys[-1], pixels)
        for (a, b), pair in matches.items():
            if pair:
                numbers = np.array(sorted(pair), np.uint32)
                opened.write_matches(keys[a], keys[b], numbers)
    listed = work.path / "pairs.txt"
    names = [quoted(x.name) for x in photographs]
    listed.write_text("".join(f"{names[a]} {names[b]}\n" for a, b in matches if matches[a, b]))
    options = pycolmap.TwoViewGeometryOptions()
    options.ransac.random_seed = SEED
    pycolmap.verify_matches(work.database, listed, options)

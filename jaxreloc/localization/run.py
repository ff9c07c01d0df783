"""Building, changing and querying maps: what run_localize.py does."""

import pathlib
import sys
from collections.abc import Callable, Iterable

import numpy as np
import tqdm
from absl import logging

from jaxreloc.files import replacing
from jaxreloc.formats.intrinsics_file import read_intrinsics
from jaxreloc.formats.localized_poses import LocalizedPose
from jaxreloc.formats.posed_images import read_posed_images
from jaxreloc.localization import map_files
from jaxreloc.localization.cameras import assumed_intrinsics
from jaxreloc.localization.encoding import encode_frames
from jaxreloc.localization.localizer import Localization, Localizer
from jaxreloc.localization.network import load_inference_network
from jaxreloc.localization.pretrained_network import pretrained_network
from jaxreloc.localization.query_images import find_query_images
from jaxreloc.localization.scene_map import SceneMap


def build_map(
    images: str | pathlib.Path,
    out: str | pathlib.Path,
    network_path: str | pathlib.Path | None = None,
) -> str:
    """Encodes posed images into a new map; returns a line that says what it holds.

    Args:
      network_path: a workdir or the folder of a saved network; None takes the network that needs
        no training (`pretrained_network`).
    """
    map_files.check_new(pathlib.Path(out))
    frames = read_posed_images(images)
    if network_path is None:
        network = pretrained_network(frames.image_sizes)
    else:
        network = load_inference_network(network_path)
    encoded = encode_frames(frames, network, progress=_progress("encoding"))
    SceneMap.create(out, network, encoded)
    return _summary(pathlib.Path(out), len(frames))


def add_to_map(map_path: str | pathlib.Path, images: str | pathlib.Path) -> str:
    """Encodes more posed images with the map's own network and adds them."""
    folder = pathlib.Path(map_path)
    network = load_inference_network(map_files.network_file(folder, map_files.read_manifest(folder)))
    frames = read_posed_images(images)
    map_files.add(folder, encode_frames(frames, network, progress=_progress("encoding")))
    return _summary(folder, len(frames))


def remove_from_map(map_path: str | pathlib.Path, names: Iterable[str]) -> str:
    """Takes images out of the map by name."""
    folder = pathlib.Path(map_path)
    names = set(names)
    map_files.remove(folder, names)
    return f"{folder}: removed {len(names)} images"


def localize_images(
    map_path: str | pathlib.Path,
    images: str | pathlib.Path,
    out: pathlib.Path,
    write_line: Callable[[LocalizedPose], str],
    *,
    intrinsics_path: str | pathlib.Path | None = None,
    num_neighbors: int = 5,
    fusion_method: str = "robust",
) -> str:
    """Localizes pictures or a video; prints a line for each as it is done and writes them to `out`.

    Args:
      write_line: of `localized_poses.LINE_FORMATS`.
      intrinsics_path: an intrinsics.txt of the queries; without it they are assumed to be taken
        with a camera like the map's.

    Returns:
      A line that counts what was localized.
    """
    queries = find_query_images(images)
    localizer = Localizer(
        SceneMap.open(map_path), num_neighbors=num_neighbors, fusion_method=fusion_method
    )
    intrinsics_of = _QueryIntrinsics(localizer.scene_map, intrinsics_path)
    candidates = np.zeros(0, int) if queries.is_video else None
    num_localized = num_queries = 0
    with replacing(out) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for name, image in queries:
            found = localizer(image, intrinsics_of(image), candidates)
            if queries.is_video:
                candidates = found.neighbors[found.location_inliers][:num_neighbors]
            line = write_line(_localized_pose(name, found))
            print(line, flush=True)
            file.write(line + "\n")
            num_queries += 1
            num_localized += found.success
    return f"{out}: {num_localized} of {num_queries} images localized"


class _QueryIntrinsics:
    """Intrinsics by image size: read from a file, or assumed with one warning."""

    def __init__(self, scene_map: SceneMap, path: str | pathlib.Path | None):
        self._scene_map = scene_map
        self._path = path
        self._known: dict[tuple[int, int], np.ndarray] = {}

    def __call__(self, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        if (width, height) not in self._known:
            self._known[width, height] = self._find(width, height)
        return self._known[width, height]

    def _find(self, width: int, height: int) -> np.ndarray:
        if self._path is not None:
            return read_intrinsics(self._path, width, height).intrinsics
        intrinsics = assumed_intrinsics(self._scene_map, width, height)
        logging.warning(
            "no --intrinsics: %d x %d images are taken to have a focal length of %.0f px, as the map's",
            width,
            height,
            intrinsics[0, 0],
        )
        return intrinsics


def _localized_pose(name: str, found: Localization) -> LocalizedPose:
    return LocalizedPose(
        name=name,
        success=found.success,
        world_from_cam=found.world_from_query,
        num_inliers=int(found.location_inliers.sum()),
        num_neighbors=len(found.neighbors),
        position_covariance=found.position_covariance,
        rotation_std_deg=float(np.rad2deg(found.rotation_std)),
        total_ms=sum(found.stage_ms.values()),
    )


def _summary(folder: pathlib.Path, num_images: int) -> str:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return f"{folder}: {num_images} images encoded; the map takes {size / 1e6:.1f} MB"


def _progress(label: str):
    def wrap(iterable):
        return tqdm.tqdm(iterable, label, unit="image", disable=not sys.stderr.isatty())

    return wrap

"""Maps of a matcher whose matches are known, in memory and on disk."""

import dataclasses
import pathlib

import numpy as np
from scipy.spatial.transform import Rotation

from jaxreloc.formats.frames import PosedFrames
from jaxreloc.localization.jobs import building
from jaxreloc.localization.map import scene_map
from jaxreloc.localization.map.encoding import EncodedImages, encode_frames
from jaxreloc.localization.map.map_depth import with_depth
from jaxreloc.localization.map.scene_map import SceneMap
from tests.localization.fakes import MatchingOracle

NETWORK_FILE = "network.safetensors"


class SavedOracle(MatchingOracle):
    """Can be written, as nothing but a mark."""

    mark = b"oracle"

    def save(self, folder: pathlib.Path) -> None:
        (folder / NETWORK_FILE).write_bytes(self.mark)


def install(monkeypatch, rng) -> None:
    """Maps on disk are opened with the oracle."""
    for module in (scene_map, building):
        monkeypatch.setattr(module, "load_network", lambda path: SavedOracle(rng))


def encoded(rng, frames: PosedFrames) -> EncodedImages:
    return encode_frames(frames, SavedOracle(rng))


def in_memory(rng, images: EncodedImages) -> SceneMap:
    return with_depth(SceneMap.from_images(SavedOracle(rng), images))


def on_disk(folder: pathlib.Path, rng, images: EncodedImages, origin=None) -> pathlib.Path:
    SceneMap.create(folder, SavedOracle(rng), [images], origin)
    building.triangulate_map(folder)
    return folder


def moved(images: EncodedImages, scale: float, rotation: Rotation, offset) -> EncodedImages:
    """In other axes: x_new = scale R x + offset."""
    poses = images.world_from_cam.copy()
    poses[:, :3, :3] = rotation.as_matrix() @ poses[:, :3, :3]
    poses[:, :3, 3] = scale * rotation.apply(poses[:, :3, 3]) + offset
    return dataclasses.replace(images, world_from_cam=poses)


def selected(frames: PosedFrames, rows, prefix: str = "") -> PosedFrames:
    part = frames.select(rows)
    return dataclasses.replace(part, names=tuple(f"{prefix}{name}" for name in part.names))


def angle(a, b, depth: float) -> float:
    """How far two poses lie apart."""
    turned = Rotation.from_matrix(a[:3, :3].T @ b[:3, :3]).magnitude()
    return float(np.hypot(turned, np.linalg.norm(a[:3, 3] - b[:3, 3]) / depth))

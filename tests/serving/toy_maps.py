"""Maps on disk of a corridor whose network needs no compiling: see `BrightnessNetwork`."""

import pathlib

import numpy as np

from jaxreloc.formats.frames import PosedFrames
from jaxreloc.localization.jobs import building
from jaxreloc.localization.localizer import Localizer
from jaxreloc.localization.map import scene_map
from jaxreloc.localization.map.encoding import encode_frames
from jaxreloc.localization.map.scene_map import SceneMap
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


def open_localizer(folder: pathlib.Path) -> Localizer:
    """As the server does, without compiling ahead."""
    return Localizer(SceneMap.open(folder))


def picture(x_metres: float) -> np.ndarray:
    """What the camera sees at x = `x_metres`, at the height of 0."""
    return corridor(np.array([x_metres]), 0.0).images[0]

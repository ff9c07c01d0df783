"""The rooms of `synthetic_rooms/furnished_hard`, made to be hard, without their depths."""

import dataclasses
import pathlib
from collections.abc import Sequence

from jaxreloc.data import datasets
from jaxreloc.data.upright import held_upright
from jaxreloc.formats.frames import PosedFrames

DATASET = "synthetic_rooms/furnished_hard"
UP = (0.0, 0.0, 1.0)
CANVAS = (384, 512)


def scene_names(split: str, data_dir: str | pathlib.Path | None) -> Sequence[str]:
    """Of "validation" or "test"."""
    return datasets.scene_names(DATASET, split=split, data_dir=data_dir)


def hard_frames(
    scene: str, split: str, data_dir: str | pathlib.Path | None, *, upright: bool
) -> PosedFrames:
    """Args: split: with "_query" for the queries. upright: turned to the quarter that is nearest
    to it; else as they were taken, by cameras rolled at random."""
    frames = datasets.load_frames(DATASET, scene, split, data_dir=data_dir)
    frames = dataclasses.replace(frames, depths=None, depth_intrinsics=None)
    return held_upright(frames, UP) if upright else frames

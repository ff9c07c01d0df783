"""Matching pictures of COLMAP's database, and mapping: groups of images whose poses hang together.
"""

import contextlib
import dataclasses
import enum
import os
import pathlib
import shutil
import sqlite3
import threading
import urllib.parse
from collections.abc import Callable, Sequence

import numpy as np

from jaxreloc.capture.sfm.quiet_colmap import pycolmap
from jaxreloc.capture.sfm.work_folder import WorkFolder
from jaxreloc.formats.readers.colmap_model import read_model
from jaxreloc.usage import UsageError

PAIRS_AT_ONCE = 64  # that an interrupt may lose
POLL_S = 0.5
SMALLEST_GROUP = 3
STILL_PX = 2.0  # that the same point may lie apart in pictures of one view
SEED = 0


class Motion(enum.Enum):
    """Of a camera between pictures."""

    NONE = enum.auto()
    TURNED = enum.auto()  # or moved before one plane
    MOVED = enum.auto()


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two pictures of COLMAP's names that show the same."""

    a: str
    b: str
    num_inliers: int  # matches that agree on one relative pose


def match(
    work: WorkFolder, pairs: Sequence[tuple[str, str]], progress: Callable[[float], object]
) -> None:
    """Matches the pairs that the database does not have, and verifies each.

    Args:
      pairs: COLMAP's names.
      progress: is told the share that is done.
    """
    listed = work.path / "pairs.txt"
    listed.write_text("".join(f"{a} {b}\n" for a, b in pairs))
    matching = pycolmap.FeatureMatchingOptions(use_gpu=False)
    pairing = pycolmap.ImportedPairingOptions(match_list_path=listed, block_size=PAIRS_AT_ONCE)
    verification = pycolmap.TwoViewGeometryOptions()
    verification.ransac.random_seed = SEED

    def run() -> None:
        pycolmap.match_image_pairs(
            work.database, matching, pairing, verification, pycolmap.Device.cpu
        )

    _watched(run, lambda: progress(_num_matched(work.database) / max(len(pairs), 1)))
    listed.unlink()


def find_models(work: WorkFolder, progress: Callable[[int], object]) -> None:
    """Maps what is matched; the folder of models appears whole, if there are any.

    Args:
      progress: is told how many images have a pose.
    """
    temporary = work.path / "mapping"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    options = pycolmap.IncrementalPipelineOptions(
        random_seed=SEED, min_model_size=SMALLEST_GROUP, extract_colors=False
    )
    count = 0

    def next_image() -> None:
        nonlocal count
        count += 1
        progress(count)

    try:
        pycolmap.incremental_mapping(
            work.database, work.path, temporary, options, next_image_callback=next_image
        )
    except (ValueError, RuntimeError) as error:
        raise UsageError(f"{work.path}: COLMAP's mapping failed ({error})") from error
    if any(temporary.iterdir()):
        os.rename(temporary, work.models)
    else:
        temporary.rmdir()


def read_groups(work: WorkFolder) -> dict[pathlib.Path, list[str]]:
    """The models with COLMAP's names of the images in each, the largest first."""
    if not work.has_models:
        return {}
    groups = {
        model: sorted(image.name for image in read_model(model)[1])
        for model in sorted(work.models.iterdir())
    }
    return dict(sorted(groups.items(), key=lambda item: -len(item[1])))


def verified_pairs(database: pathlib.Path) -> list[Pair]:
    """The pairs of which matches agree, by their number."""
    with pycolmap.Database.open(database) as opened:
        names = {image.image_id: image.name for image in opened.read_all_images()}
        keys, counts = opened.read_two_view_geometry_num_inliers()
    ids = (pycolmap.pair_id_to_image_pair(key) for key in keys)
    pairs = [Pair(names[a], names[b], n) for (a, b), n in zip(ids, counts, strict=True) if n > 0]
    return sorted(pairs, key=lambda pair: -pair.num_inliers)


def motion_between(database: pathlib.Path) -> Motion:
    """How the camera moved between the pictures, where that makes no model."""
    flat = {
        pycolmap.TwoViewGeometryConfiguration.PANORAMIC,
        pycolmap.TwoViewGeometryConfiguration.PLANAR_OR_PANORAMIC,
    }
    with pycolmap.Database.open(database) as opened:
        keys, geometries = opened.read_two_view_geometries()
        found = [
            (pycolmap.pair_id_to_image_pair(key), geometry)
            for key, geometry in zip(keys, geometries, strict=True)
            if len(geometry.inlier_matches)
        ]
        places = {key: opened.read_keypoints(key)[:, :2] for pair, _ in found for key in pair}
    shifts = [
        np.median(np.linalg.norm(places[a][matched[:, 0]] - places[b][matched[:, 1]], axis=1))
        for (a, b), matched in ((pair, geometry.inlier_matches) for pair, geometry in found)
    ]
    if max(shifts) < STILL_PX:
        return Motion.NONE
    is_flat = all(pycolmap.TwoViewGeometryConfiguration(x.config) in flat for _, x in found)
    return Motion.TURNED if is_flat else Motion.MOVED


def _watched(run: Callable[[], None], look: Callable[[], object]) -> None:
    """Runs COLMAP's code in a thread, so that this one can look, and be interrupted."""
    errors = []

    def guarded() -> None:
        try:
            run()
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=guarded, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(POLL_S)
        look()
    if errors:
        raise errors[0]


def _num_matched(database: pathlib.Path) -> int:
    """By a second connection, while COLMAP writes."""
    opened = sqlite3.connect(f"file:{urllib.parse.quote(str(database))}?mode=ro", uri=True)
    with contextlib.closing(opened):
        return opened.execute("SELECT COUNT(*) FROM two_view_geometries").fetchone()[0]

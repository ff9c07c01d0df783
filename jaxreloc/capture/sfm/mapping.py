"""Matching pictures of COLMAP's database, and mapping: groups of images whose poses hang together.
"""

import collections
import dataclasses
import enum
import os
import pathlib
import shutil
from collections.abc import Callable, Sequence

import numpy as np

from jaxreloc.capture.sfm.quiet_colmap import pycolmap
from jaxreloc.capture.sfm.work_folder import WorkFolder
from jaxreloc.formats.readers.colmap_model import read_model
from jaxreloc.usage import UsageError

BLOCK = 12  # pictures of which each is matched with as many, before others are read
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

    They go block by block of pictures, whose search trees COLMAP builds once a block.

    Args:
      pairs: COLMAP's names.
      progress: is told the share that is done.
    """
    number = {name: i for i, name in enumerate(sorted({x for pair in pairs for x in pair}))}
    blocks = collections.defaultdict(list)
    for a, b in pairs:
        blocks[number[a] // BLOCK, number[b] // BLOCK].append(f"{a} {b}\n")
    listed = work.path / "pairs.txt"
    matching = pycolmap.FeatureMatchingOptions(use_gpu=False)
    pairing = pycolmap.ImportedPairingOptions(match_list_path=listed)
    verification = pycolmap.TwoViewGeometryOptions()
    verification.ransac.random_seed = SEED
    done = 0
    for lines in blocks.values():
        listed.write_text("".join(lines))
        pycolmap.match_image_pairs(
            work.database, matching, pairing, verification, pycolmap.Device.cpu
        )
        done += len(lines)
        progress(done / len(pairs))
    listed.unlink(missing_ok=True)


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

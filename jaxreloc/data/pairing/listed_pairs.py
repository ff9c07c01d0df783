"""Pairs that a list names, such as the authors' of arXiv 1707.09733, over frames at hand."""

import logging
import pathlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from jaxreloc.data.pairing.mined_pairs import TRANSLATION_FRAMES, Pairs, frame_poses
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.formats.pair_lists import read_pair_list
from jaxreloc.usage import UsageError, check_choice

logger = logging.getLogger(__name__)


def read_listed_pairs(
    scenes: Sequence[PosedFrames], path: str | pathlib.Path, *, skip_missing: bool = False
) -> Pairs:
    """All pairs of one of the authors' lists (`read_pair_list`), with its labels.

    Raises:
      UsageError: as `pairs_from_list`, or the file is no such list.
    """
    listed = read_pair_list(pathlib.Path(path).expanduser())
    return pairs_from_list(
        scenes,
        scene=listed.scenes,
        db=listed.db_names,
        query=listed.query_names,
        rotation=listed.rotation,
        translation=listed.t_world,
        translation_frame="world",
        skip_missing=skip_missing,
    )


def pairs_from_list(
    scenes: Sequence[PosedFrames],
    *,
    scene: Sequence[str],
    db: Sequence[str],
    query: Sequence[str],
    rotation: Float[np.ndarray, "n 3 3"],
    translation: Float[np.ndarray, "n 3"],
    translation_frame: str,
    skip_missing: bool = False,
) -> Pairs:
    """The pairs of a list, labelled as the list has them, in its order.

    Args:
      scenes: the frames; splits of one scene may be apart.
      scene: the name of each pair's scene.
      db, query: the names of its frames; a leading slash does not matter.
      rotation: db_from_query of each pair.
      translation: the query's centre in the database camera's axes ("camera"), or the difference of
        centres, query less database, in world axes ("world"), metres.
      skip_missing: leaves out pairs whose frames are not there and says how many.

    Raises:
      UsageError: a frame is not among `scenes` (or, with `skip_missing`, none is).
    """
    check_choice("translation frame", translation_frame, TRANSLATION_FRAMES)
    found = _find(scenes, scene, db, query)
    missing = [k for k, place in enumerate(found) if place is None]
    if missing and (not skip_missing or len(missing) == len(found)):
        k = missing[0]
        raise UsageError(
            f"{scene[k]}: {db[k]} or {query[k]} is listed as a pair but is not among the frames "
            f"({len(missing)} pairs of {len(found)} miss a frame); load the split they are of, or "
            "skip missing pairs"
        )
    if missing:
        logger.warning("%d of %d listed pairs miss a frame", len(missing), len(found))
    rows = np.array([k for k, place in enumerate(found) if place is not None])
    scene_index, db_index, query_index = np.array([found[k] for k in rows]).T
    db_from_query = np.tile(np.eye(4), (len(rows), 1, 1))
    db_from_query[:, :3, :3] = rotation[rows]
    db_from_query[:, :3, 3] = translation[rows]
    if translation_frame == "world":
        world_from_db = frame_poses(scenes, scene_index, db_index)[:, :3, :3]
        db_from_query[:, :3, 3] = np.einsum("nji,nj->ni", world_from_db, translation[rows])
    return Pairs(scene_index, db_index, query_index, db_from_query)


def _find(
    scenes: Sequence[PosedFrames], scene: Sequence[str], db: Sequence[str], query: Sequence[str]
) -> list[tuple[int, int, int] | None]:
    """Scene, database and query index of each pair; None where they are not in one of `scenes`."""
    index_of = [{name.lstrip("/"): k for k, name in enumerate(frames.names)} for frames in scenes]
    scenes_named: dict[str, list[int]] = {}
    for index, frames in enumerate(scenes):
        scenes_named.setdefault(frames.scene, []).append(index)

    def find_one(scene_name: str, *names: str) -> tuple[int, int, int] | None:
        for index in scenes_named.get(scene_name, []):
            pair = [index_of[index].get(name.lstrip("/")) for name in names]
            if None not in pair:
                return index, *pair
        return None

    return [find_one(*names) for names in zip(scene, db, query, strict=True)]

"""The paper authors' lists of image pairs, and relative poses that another program wrote for them.

Two lists (github.com/AaltoVision/camera-relocalisation):
  neighbours (`NN_university.txt`), the retrieved images of each query with both poses:
    query db query_scene db_scene same_scene  tq(3) qq_wxyz(4)  tdb(3) qdb_wxyz(4)
    centres in metres and `world_from_cam` rotations.
  pairs (`db_all_med_hard_*.txt`), with the relative pose to learn:
    db query scene  t(3) q_wxyz(4)
    t = centre_query - centre_db in WORLD axes, and the rotation of `db_from_query`.

Estimates are rows `q_wxyz(4) t(3)` of `db_from_query`, one for each row of the list: float32 in
the authors' binary file, text in RelPoseNet's. The authors' t is in world axes, too.
"""

import dataclasses
import pathlib
import re

import numpy as np
from jaxtyping import Float32, Float64, Int64

from jaxreloc import files
from jaxreloc.formats.common.text import numbers, parse_rows, read_rows
from jaxreloc.formats.readers.seven_scenes import SCENES
from jaxreloc.formats.rigid_arrays import rigid_from_quaternions
from jaxreloc.usage import UsageError

# By the ids of the authors' list, which has no pair of the dataset's fifth scene.
UNIVERSITY_SCENES = ("office", "meeting", "kitchen", "conference")

_NEIGHBOR_FIELDS = 19
_SCENE_ID = re.compile("[0-9]{1,9}")
_PAIR_FIELDS = 10
_ESTIMATE_BYTES = 7 * 4
_MAX_BYTES = 1 << 30


@dataclasses.dataclass(frozen=True)
class NeighborList:
    """Queries with N retrieved images each, most similar first; a row of the file is a pair."""

    query_names: tuple[str, ...]  # Q
    query_scenes: Int64[np.ndarray, " Q"]  # ids
    world_from_query: Float64[np.ndarray, "Q 4 4"]
    db_names: tuple[tuple[str, ...], ...]  # Q x N
    db_scenes: Int64[np.ndarray, "Q N"]
    world_from_db: Float64[np.ndarray, "Q N 4 4"]


@dataclasses.dataclass(frozen=True)
class PairList:
    """Pairs of frames with their labels."""

    db_names: tuple[str, ...]
    query_names: tuple[str, ...]
    scenes: tuple[str, ...]
    t_world: Float64[np.ndarray, "n 3"]  # centre_query - centre_db, world axes
    rotation: Float64[np.ndarray, "n 3 3"]  # of db_from_query


def read_neighbor_list(path: str | pathlib.Path) -> NeighborList:
    """A list of retrieved neighbours; rows of one query follow each other.

    Raises:
      UsageError: a row is not of that form, or the queries do not have equally many neighbours.
    """
    rows = read_rows(path)
    for row in rows:
        ids = row.fields[2:4]
        if len(row.fields) != _NEIGHBOR_FIELDS or not all(map(_SCENE_ID.fullmatch, ids)):
            raise UsageError(
                f"{row.source}: not 'query db query_scene db_scene same' and two poses of seven "
                "numbers; get the list again"
            )
    if not rows:
        raise UsageError(f"{path}: has no pair; check that it is the right file")
    sources = [row.source for row in rows]
    values = np.array([numbers(row.fields[5:], row.source, "a pose value") for row in rows])
    queries = [(row.fields[2], row.fields[0]) for row in rows]
    starts = [i for i in range(len(rows)) if i == 0 or queries[i] != queries[i - 1]]
    counts = np.diff([*starts, len(rows)])
    if (counts != counts[0]).any():
        odd = int(np.flatnonzero(counts != counts[0])[0])
        raise UsageError(
            f"{sources[starts[odd]]}: query {queries[starts[odd]][1]} has {counts[odd]} "
            f"neighbours, the first query has {counts[0]}; complete its rows"
        )
    n = int(counts[0])
    first = np.array(starts)
    world_from_query = rigid_from_quaternions(values[:, 3:7], values[:, :3], sources)
    world_from_db = rigid_from_quaternions(values[:, 10:], values[:, 7:10], sources)
    return NeighborList(
        query_names=tuple(rows[i].fields[0].lstrip("/") for i in starts),
        query_scenes=np.array([int(rows[i].fields[2]) for i in starts]),
        world_from_query=world_from_query[first],
        db_names=tuple(tuple(r.fields[1].lstrip("/") for r in rows[i : i + n]) for i in starts),
        db_scenes=np.array([int(row.fields[3]) for row in rows]).reshape(-1, n),
        world_from_db=world_from_db.reshape(-1, n, 4, 4),
    )


def read_pair_list(path: str | pathlib.Path) -> PairList:
    """A list of labelled 7-Scenes pairs.

    Raises:
      UsageError: a row is not of that form.
    """
    rows = read_rows(path)
    scene_ids = {str(i): name for i, name in enumerate(SCENES)}
    for row in rows:
        if len(row.fields) != _PAIR_FIELDS or row.fields[2] not in scene_ids:
            raise UsageError(
                f"{row.source}: not 'image1 image2 scene tx ty tz qw qx qy qz' with a scene from 0 "
                f"to {len(scene_ids) - 1}; get the list again"
            )
    if not rows:
        raise UsageError(f"{path}: has no pair; check that it is the right file")
    values = np.array([numbers(row.fields[3:], row.source, "a label") for row in rows])
    sources = [row.source for row in rows]
    labels = rigid_from_quaternions(values[:, 3:], values[:, :3], sources)
    return PairList(
        db_names=tuple(row.fields[0].lstrip("/") for row in rows),
        query_names=tuple(row.fields[1].lstrip("/") for row in rows),
        scenes=tuple(scene_ids[row.fields[2]] for row in rows),
        t_world=labels[:, :3, 3],
        rotation=labels[:, :3, :3],
    )


def read_relative_estimates(
    path: str | pathlib.Path, num_rows: int
) -> Float32[np.ndarray, "num_rows 7"]:
    """Rows `q_wxyz(4) t(3)`, from text or from float32 values in little-endian order.

    The quaternions are as in the file: of any length, and perhaps not finite.

    Raises:
      UsageError: it cannot be read, or has another number of rows; both numbers are given.
    """
    path = pathlib.Path(path)
    content = files.read_bytes(path, limit=_MAX_BYTES)
    text = _as_text(content)
    rows = _binary_rows(content, path) if text is None else _text_rows(text, path)
    if len(rows) != num_rows:
        raise UsageError(
            f"{path}: has {len(rows)} relative poses, the list has {num_rows} pairs; give the "
            "estimates of this list, one a row"
        )
    return rows


def _as_text(content: bytes) -> str | None:
    """The content as text, or None if it holds bytes that no list of numbers has."""
    printable = set(b"0123456789+-.,eEnNaAiIfF# \t\r\n")
    return content.decode("ascii") if set(content) <= printable else None


def _text_rows(text: str, path: pathlib.Path) -> Float32[np.ndarray, "n 7"]:
    values = []
    for row in parse_rows(text.replace(",", " "), str(path)):
        try:
            values.append([float(field) for field in row.fields])
        except ValueError as error:
            raise UsageError(f"{row.source}: not a number ({error}); mend the line") from error
        if len(row.fields) != 7:
            raise UsageError(
                f"{row.source}: {len(row.fields)} numbers instead of the 7 of "
                "'qw qx qy qz tx ty tz'"
            )
    with np.errstate(over="ignore"):  # infinite, as the binary form may be
        return np.array(values, np.float32).reshape(-1, 7)


def _binary_rows(content: bytes, path: pathlib.Path) -> Float32[np.ndarray, "n 7"]:
    if len(content) % _ESTIMATE_BYTES:
        raise UsageError(
            f"{path}: {len(content)} bytes are no whole number of rows of 7 float32 values "
            f"({_ESTIMATE_BYTES} bytes); the file may be cut off"
        )
    return np.frombuffer(content, "<f4").reshape(-1, 7)

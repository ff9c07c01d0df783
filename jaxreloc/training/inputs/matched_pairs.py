"""Pairs of images as their matches: what the head behind a frozen matcher is trained on.

The matches of a pair do not change while only what comes after them is trained, so that they are
computed once and kept, one file a scene, and the images are not needed again.
"""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from jaxreloc import files
from jaxreloc.usage import UsageError

SUFFIX = ".matches.npz"
VERSION = 1


@dataclasses.dataclass(frozen=True)
class MatchedPairs:
    """n pairs with K matches each, as a struct of arrays.

    Attributes:
      x_query, x_db, confidence, mass, reverse: as in `models.matching.rays.RayMatches`.
      db_from_query: `wxyz_xyz`, metres; the identity for pairs of two scenes.
      overlap: share of view in common, 0 to 1; 0 for pairs of two scenes.
      focal_px: geometric mean of the focal lengths of both images as they were matched.
      height_px: of the canvas that both were matched on.
      frames: number of the database image and of the query in their scenes.
      names: SCENE of each pair, or DB_SCENE/QUERY_SCENE.
    """

    x_query: Float[np.ndarray, "n K 2"]
    x_db: Float[np.ndarray, "n K 2"]
    confidence: Float[np.ndarray, "n K"]
    mass: Float[np.ndarray, "n K"]
    reverse: Float[np.ndarray, "n K"]
    db_from_query: Float[np.ndarray, "n 7"]
    overlap: Float[np.ndarray, " n"]
    focal_px: Float[np.ndarray, " n"]
    height_px: Int[np.ndarray, " n"]
    frames: Int[np.ndarray, "n 2"]
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.overlap)

    def select(self, index: Int[np.ndarray, " m"]) -> "MatchedPairs":
        """The pairs at `index`, in that order."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return MatchedPairs(**{name: np.asarray(x)[index] for name, x in fields.items()})


def save(path: pathlib.Path, pairs: MatchedPairs) -> None:
    """Writes a file by rename."""
    arrays = {f.name: np.asarray(getattr(pairs, f.name)) for f in dataclasses.fields(pairs)}
    with files.replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, version=VERSION, **arrays)


def load(path: pathlib.Path, max_matches: int | None = None) -> MatchedPairs:
    """Reads a file that `save` wrote, of each pair the first `max_matches` matches.

    Raises:
      UsageError: it is not such a file.
    """
    files.check_regular(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = dict(archive)
        if arrays.pop("version") != VERSION:
            raise ValueError("of another version")
        for name in ("x_query", "x_db", "confidence", "mass", "reverse"):
            arrays[name] = np.ascontiguousarray(arrays[name][:, :max_matches])
        return MatchedPairs(**arrays)
    except Exception as error:  # of the zip, of its members and of NumPy's headers: any
        message = f"{path}: not a file of matches ({error}); delete it, and it is made again"
        raise UsageError(message) from error


def concatenate(parts: Sequence[MatchedPairs]) -> MatchedPairs:
    """All pairs of the parts, in order; of each as many matches as all have."""
    count = min(part.confidence.shape[1] for part in parts)

    def joined(name: str) -> np.ndarray:
        arrays = [np.asarray(getattr(part, name)) for part in parts]
        if name in ("x_query", "x_db", "confidence", "mass", "reverse"):
            arrays = [x[:, :count] for x in arrays]
        return np.concatenate(arrays)

    return MatchedPairs(**{f.name: joined(f.name) for f in dataclasses.fields(MatchedPairs)})

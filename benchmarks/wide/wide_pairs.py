"""Pairs of images that share little: of rendered rooms, of a folder of posed images, of a list."""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8

from benchmarks.accuracy import held_out
from benchmarks.angles import rotation_deg
from jaxreloc import files
from jaxreloc.data.pairing.overlap import depth_overlap
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.formats.posed_images import read_posed_images
from jaxreloc.images import read_image
from jaxreloc.training.inputs.match_making import joined
from jaxreloc.usage import UsageError

LEAST, MOST = 0.05, 0.4  # overlap of a wide pair of a room
NUM_FIELDS = 38  # of a line of a list of pairs, without its two rotations 36
MAX_BYTES = 1 << 26


@dataclasses.dataclass(frozen=True)
class ImagePair:
    """Two images with the true pose of one to the other; `overlap` is unknown where it is NaN."""

    first: UInt8[np.ndarray, "h w 3"]
    second: UInt8[np.ndarray, "height width 3"]
    first_intrinsics: Float[np.ndarray, "3 3"]
    second_intrinsics: Float[np.ndarray, "3 3"]
    first_from_second: Float[np.ndarray, "4 4"]
    overlap: float = float("nan")

    @property
    def turn_deg(self) -> float:
        """The angle between the cameras."""
        return float(rotation_deg(self.first_from_second[:3, :3], np.eye(3)))


def pairs_of_rooms(
    split: str,
    rooms: int,
    count: int,
    library: str | None,
    cache: pathlib.Path | None,
    seed: int = 0,
) -> list[ImagePair]:
    """`count` pairs of the first rooms of a split, as many of each, chosen at random.

    Their overlap (`data.pairing.overlap`) is from LEAST to MOST.

    Raises:
      UsageError: there is no library to render the rooms with.
    """
    rng, pairs = np.random.default_rng(seed), []
    for index in range(rooms):
        frames, overlap = _load_room(split, index, library, cache)
        first, second = np.triu_indices(len(frames), 1)
        wide = np.flatnonzero((overlap >= LEAST) & (overlap <= MOST))
        share = count * (index + 1) // rooms - count * index // rooms
        chosen = rng.permutation(wide)[:share]
        pairs += [_pair(frames, first[k], second[k], overlap[k]) for k in chosen]
    return pairs


def pairs_of_folder(images: str | pathlib.Path) -> list[ImagePair]:
    """All pairs of a folder of posed images."""
    frames = read_posed_images(images)
    n = len(frames)
    return [_pair(frames, i, j) for i in range(n) for j in range(i + 1, n)]


def pairs_of_list(path: str | pathlib.Path, root: str | pathlib.Path) -> list[ImagePair]:
    """The pairs of a list as SuperGlue has them.

    A line has the path of two images, their quarter turns, nine numbers of the intrinsics of each,
    and sixteen of the pose `second_from_first`.

    Args:
      root: what the paths of images begin at.

    Raises:
      UsageError: the file is not of this kind; its line is named.
    """
    text = files.read_bytes(path, limit=MAX_BYTES).decode("utf-8", "backslashreplace")
    lines = enumerate(text.splitlines(), 1)
    return [_listed(line.split(), f"{path}:{i}", pathlib.Path(root)) for i, line in lines if line]


def _listed(fields: Sequence[str], source: str, root: pathlib.Path) -> ImagePair:
    try:
        numbers = np.array([float(x) for x in fields[2:]])
    except ValueError as error:
        raise UsageError(f"{source}: {error}; give numbers after the two images") from error
    if len(fields) != NUM_FIELDS or not np.isfinite(numbers).all():
        raise UsageError(
            f"{source}: {len(fields)} fields; give two images, two quarter turns, twice nine "
            "intrinsics and a 4x4 pose"
        )
    if numbers[:2].any():
        raise UsageError(f"{source}: images that are turned are not read; turn them first")
    second_from_first = numbers[20:].reshape(4, 4)
    return ImagePair(
        read_image(root / fields[0]),
        read_image(root / fields[1]),
        numbers[2:11].reshape(3, 3),
        numbers[11:20].reshape(3, 3),
        np.linalg.inv(second_from_first),
    )


def _pair(frames: PosedFrames, i: int, j: int, overlap: float = float("nan")) -> ImagePair:
    return ImagePair(
        frames.images[i],
        frames.images[j],
        frames.intrinsics[i],
        frames.intrinsics[j],
        np.linalg.inv(frames.world_from_cam[i]) @ frames.world_from_cam[j],
        float(overlap),
    )


def _load_room(
    split: str, index: int, library: str | None, cache: pathlib.Path | None
) -> tuple[PosedFrames, Float[np.ndarray, " pairs"]]:
    """The database and the queries of a room, and the overlap of each two (`np.triu_indices`)."""
    room = held_out.load_room(split, index, library, cache)
    frames = joined([room.database, room.query])
    path = cache and cache / f"{split}-{index:03d}-overlaps.npy"
    if path and path.exists():
        return frames, np.load(path, allow_pickle=False)
    rendered = held_out.render_held_out(split, index, library)
    pairs = np.triu_indices(len(frames), 1)
    overlap = depth_overlap(joined([rendered.database, rendered.query]), *pairs)
    if path:
        with files.replacing(path) as temporary, open(temporary, "wb") as file:
            np.save(file, overlap)
    return frames, overlap

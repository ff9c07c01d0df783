"""Pairs of images that share little: of rendered rooms, of a folder of posed images, of a list."""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8

from benchmarks.accuracy import held_out
from jaxreloc import files
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.formats.posed_images import read_posed_images
from jaxreloc.images import read_image
from jaxreloc.training.inputs.match_making import joined
from jaxreloc.usage import UsageError
from tfds_builders.rooms.generation import render_room
from tfds_builders.rooms.settings import FURNISHED_LARGE

LEAST, MOST = 0.05, 0.4  # overlap of a wide pair of a room
GRID = 24  # pixels between those that are looked up in the other image
SAME_DEPTH = 0.05  # relative
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
        cosine = (np.trace(self.first_from_second[:3, :3]) - 1) / 2
        return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


@dataclasses.dataclass(frozen=True)
class _RoomImages:
    frames: PosedFrames
    overlap: Float[np.ndarray, "n n"]


def pairs_of_rooms(
    split: str,
    rooms: int,
    count: int,
    library: str | None,
    cache: pathlib.Path | None,
    seed: int = 0,
) -> list[ImagePair]:
    """`count` pairs of the first rooms of a split, as many of each, chosen at random.

    Their overlap is from LEAST to MOST: the share of the one image that the other sees, of both the
    smaller.

    Raises:
      UsageError: there is no library to render the rooms with.
    """
    rng, pairs = np.random.default_rng(seed), []
    for index in range(rooms):
        room = _load_room(split, index, library, cache)
        wide = np.argwhere(np.triu((room.overlap >= LEAST) & (room.overlap <= MOST), 1))
        share = count * (index + 1) // rooms - count * index // rooms
        chosen = rng.permutation(len(wide))[:share]
        pairs += [_pair(room.frames, i, j, room.overlap[i, j]) for i, j in wide[chosen]]
    return pairs


def overlaps(frames: PosedFrames) -> Float[np.ndarray, "n n"]:
    """Of the pixels of one image that have a depth, the share that another sees; the smaller one.

    A point is seen where it projects into the image, with the depth that the image has there.
    """
    n = len(frames)
    depths = [frames.depths[i] for i in range(n)]
    intrinsics = frames.intrinsics if frames.depth_intrinsics is None else frames.depth_intrinsics
    seen = np.zeros((n, n))
    for i in range(n):
        points = _points(depths[i], intrinsics[i], frames.world_from_cam[i])
        for j in range(n):
            seen[i, j] = _share_seen(
                points, depths[j], intrinsics[j], np.linalg.inv(frames.world_from_cam[j])
            )
    return np.minimum(seen, seen.T)


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
) -> _RoomImages:
    """Rendered, or as `cache` has it: the database and the queries."""
    rendered: list[PosedFrames] = []

    def render() -> dict[str, PosedFrames]:
        held_out.check_library(library, split, index)
        room = render_room(dataclasses.replace(FURNISHED_LARGE, library=library), split, index)
        rendered.extend([room.database, room.query])
        return {"database": room.database, "query": room.query}

    stem = cache and cache / f"{split}-{index:03d}"
    path = stem and stem.with_name(f"{stem.name}-overlaps.npy")
    if path and path.exists():
        parts = held_out.kept_frames(stem.with_name(f"{stem.name}-pictures.npz"), render)
        return _RoomImages(joined(list(parts.values())), np.load(path, allow_pickle=False))
    render()
    frames = joined(rendered)
    overlap = overlaps(frames)
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.replacing(path) as temporary, open(temporary, "wb") as file:
            np.save(file, overlap)
    return _RoomImages(frames, overlap)


def _points(
    depth: Float[np.ndarray, "h w"],
    intrinsics: Float[np.ndarray, "3 3"],
    world_from_cam: Float[np.ndarray, "4 4"],
) -> Float[np.ndarray, "k 3"]:
    """What every GRID-th pixel shows."""
    rows, columns = np.mgrid[GRID // 2 : depth.shape[0] : GRID, GRID // 2 : depth.shape[1] : GRID]
    rows, columns = rows.ravel(), columns.ravel()
    z = depth[rows, columns]
    rows, columns, z = (x[z > 0] for x in (rows, columns, z))
    rays = np.stack([columns, rows, np.ones(len(z))], axis=1) @ np.linalg.inv(intrinsics).T
    return (rays * z[:, None]) @ world_from_cam[:3, :3].T + world_from_cam[:3, 3]


def _share_seen(
    points: Float[np.ndarray, "k 3"],
    depth: Float[np.ndarray, "h w"],
    intrinsics: Float[np.ndarray, "3 3"],
    cam_from_world: Float[np.ndarray, "4 4"],
) -> float:
    if not len(points):
        return 0.0
    in_cam = points @ cam_from_world[:3, :3].T + cam_from_world[:3, 3]
    ahead = in_cam[:, 2] > 1e-6
    z = np.where(ahead, in_cam[:, 2], 1.0)
    pixels = (in_cam / z[:, None]) @ intrinsics.T
    column, row = np.rint(pixels[:, :2].clip(-1e6, 1e6)).astype(int).T
    height, width = depth.shape
    inside = ahead & (0 <= column) & (column < width) & (0 <= row) & (row < height)
    there = depth[np.where(inside, row, 0), np.where(inside, column, 0)]
    return float(np.mean(inside & (np.abs(there - z) < SAME_DEPTH * z)))

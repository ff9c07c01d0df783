"""How much two cameras see of the same surface.

The overlap of a pair is the smaller of two shares: of points on a grid over either image, those
that the other camera sees too. With depth the points are surface points, and one counts as seen if
the other camera measures its distance there. Without depth they are placed at nominal distances
from the camera, and count as seen if they project into the other image and the two viewing rays
meet at a narrow enough angle: cameras that face each other share a volume, but no surface.
"""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxreloc.formats.frames import PosedFrames
from jaxreloc.formats.rigid_arrays import inverse

DEPTH_GRID = (9, 12)  # rows, columns of points per image
DEPTH_CELLS = (45, 60)  # rows, columns kept of a depth map; an odd multiple of DEPTH_GRID
DEPTH_TOLERANCE = 0.1  # of the distance; covers the slant of a surface within a cell
NOMINAL_GRID = (6, 8)
NOMINAL_DEPTHS = (0.5, 1.0, 2.0)  # times the scene's depth
MAX_RAY_ANGLE_DEG = 75.0
MIN_RAY_COS = np.float32(np.cos(np.radians(MAX_RAY_ANGLE_DEG)))
PAIRS_PER_CHUNK = 1024
DEPTH_READERS = 4


def pair_overlap(
    frames: PosedFrames, first: Int[np.ndarray, " n"], second: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """The overlap of each pair of frames, 0 to 1: by depth if the frames have it."""
    if not len(first):
        return np.zeros(0)
    if frames.depths is None:
        return frustum_overlap(frames, first, second, scene_depth(frames))
    return depth_overlap(frames, first, second)


def depth_overlap(
    frames: PosedFrames, first: Int[np.ndarray, " n"], second: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """The overlap by measured surfaces; points without a depth on either side do not count.

    The depth camera's intrinsics are `depth_intrinsics` if the frames have them; otherwise the maps
    are registered to the images, at any resolution.

    Raises:
      UsageError: a depth map cannot be read.
    """
    cells, sizes = _depth_cells(frames, np.union1d(first, second))
    if frames.depth_intrinsics is None:
        cameras = _UnitCameras(frames.world_from_cam, frames.intrinsics, frames.image_sizes)
    else:
        cameras = _UnitCameras(frames.world_from_cam, frames.depth_intrinsics, sizes)
    rows, columns = (_centres(k, of) for k, of in zip(DEPTH_GRID, DEPTH_CELLS))
    sampled = cells[:, rows[:, None], columns].reshape(len(frames), -1)

    def share(source, target):
        depth = sampled[source]
        points = _Rays(cameras, source, target, DEPTH_GRID).at(depth)
        u, v, inside = points.in_image()
        row, column = (
            np.clip(k * count, 0, count - 1).astype(np.int32)
            for k, count in zip((v, u), DEPTH_CELLS)
        )
        measured = cells[target[:, None], row, column]
        seen = inside & (np.abs(measured - points.z) < DEPTH_TOLERANCE * points.z)
        known = (depth > 0) & ~(inside & (measured == 0))
        return np.sum(seen & known, axis=1) / np.maximum(np.sum(known, axis=1), 1)

    return _smaller_share(share, first, second)


def frustum_overlap(
    frames: PosedFrames,
    first: Int[np.ndarray, " n"],
    second: Int[np.ndarray, " n"],
    depth: float,
) -> Float[np.ndarray, " n"]:
    """The overlap guessed from poses, for surfaces about `depth` away from the cameras."""
    cameras = _UnitCameras(frames.world_from_cam, frames.intrinsics, frames.image_sizes)

    def share(source, target):
        rays = _Rays(cameras, source, target, NOMINAL_GRID)
        shares = []
        for factor in NOMINAL_DEPTHS:
            points = rays.at(np.float32(factor * depth))
            _, _, inside = points.in_image()
            shares.append(np.mean(inside & points.rays_agree(), axis=1))
        return np.mean(shares, axis=0)

    return _smaller_share(share, first, second)


def scene_depth(frames: PosedFrames, num_pairs: int = 20_000) -> float:
    """The typical distance of what the cameras look at, in metres.

    The median distance at which the optical axes of two cameras pass closest, over random pairs of
    converging axes; the median distance between cameras where no axes converge.
    """
    rng = np.random.default_rng(0)
    first, second = rng.integers(len(frames), size=(2, num_pairs))
    centre, axis = frames.world_from_cam[:, :3, 3], frames.world_from_cam[:, :3, 2]
    between = centre[second] - centre[first]
    cos = np.sum(axis[first] * axis[second], axis=1)
    along_first = np.sum(between * axis[first], axis=1)
    along_second = np.sum(between * axis[second], axis=1)
    converging = (cos > np.cos(np.radians(90))) & (cos < np.cos(np.radians(10)))
    sine_squared = np.where(converging, 1 - cos**2, 1.0)
    to_first = (along_first - cos * along_second) / sine_squared
    to_second = (cos * along_first - along_second) / sine_squared
    meeting = converging & (to_first > 0) & (to_second > 0)
    if meeting.any():
        return float(np.median(np.concatenate([to_first[meeting], to_second[meeting]])))
    return float(np.median(np.linalg.norm(between, axis=1))) or 1.0


def _smaller_share(share, first, second) -> Float[np.ndarray, " n"]:
    smaller = np.zeros(len(first))
    for start in range(0, len(first), PAIRS_PER_CHUNK):
        part = slice(start, start + PAIRS_PER_CHUNK)
        one, other = first[part], second[part]
        smaller[part] = np.minimum(share(one, other), share(other, one))
    return smaller


class _UnitCameras:
    """Poses, and pinhole cameras whose images span 0 to 1 both ways."""

    def __init__(
        self,
        world_from_cam: Float[np.ndarray, "n 4 4"],
        intrinsics: Float[np.ndarray, "n 3 3"],
        sizes: Int[np.ndarray, "n 2"],
    ):
        self.world_from_cam = world_from_cam
        focal = np.stack([intrinsics[:, 0, 0], intrinsics[:, 1, 1]], axis=1) / sizes
        centre = (intrinsics[:, :2, 2] + 0.5) / sizes
        self._focal, self._centre = focal.astype(np.float32), centre.astype(np.float32)

    def pinhole(self, index: Int[np.ndarray, " n"]) -> tuple[np.ndarray, ...]:
        """Focal lengths x and y, principal point x and y, [n, 1] each."""
        focal, centre = self._focal[index], self._centre[index]
        return focal[:, :1], focal[:, 1:], centre[:, :1], centre[:, 1:]


class _Rays:
    """Viewing rays of the source cameras' grid points, turned into the target cameras' axes.

    Arrays are [pair, point], or [pair, 1] where they belong to the camera.
    """

    def __init__(self, cameras: _UnitCameras, source, target, grid: tuple[int, int]):
        target_from_world = inverse(cameras.world_from_cam[target])
        target_from_source = target_from_world @ cameras.world_from_cam[source]
        row = target_from_source.astype(np.float32).transpose(1, 2, 0)[..., None]
        u, v = (k.reshape(1, -1) for k in np.meshgrid(*(_unit_centres(k) for k in grid[::-1])))
        focal_x, focal_y, centre_x, centre_y = cameras.pinhole(source)
        x, y = (u - centre_x) / focal_x, (v - centre_y) / focal_y
        self.direction = tuple(row[k, 0] * x + row[k, 1] * y + row[k, 2] for k in range(3))
        self.length = np.sqrt(x**2 + y**2 + 1)
        self.origin = tuple(row[k, 3] for k in range(3))
        self.target_pinhole = cameras.pinhole(target)

    def at(self, depth: Float[np.ndarray, "..."] | np.float32) -> "_Points":
        """The points at `depth` along the source camera's z axis."""
        return _Points(self, *(d * depth + o for d, o in zip(self.direction, self.origin)))


@dataclasses.dataclass(frozen=True)
class _Points:
    """Points on the rays, in the target camera's axes."""

    rays: _Rays
    x: np.ndarray
    y: np.ndarray
    z: np.ndarray

    def in_image(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where the target sees each point, u and v from 0 to 1 over its image, and whether."""
        focal_x, focal_y, centre_x, centre_y = self.rays.target_pinhole
        in_front = self.z > 1e-6
        inverse_z = 1 / np.where(in_front, self.z, np.float32(1))
        u = focal_x * self.x * inverse_z + centre_x
        v = focal_y * self.y * inverse_z + centre_y
        return u, v, in_front & (u >= 0) & (u < 1) & (v >= 0) & (v < 1)

    def rays_agree(self) -> Bool[np.ndarray, "n points"]:
        """Whether the two cameras' rays meet at less than MAX_RAY_ANGLE_DEG."""
        x, y, z = self.rays.direction
        dot = self.x * x + self.y * y + self.z * z
        distance = np.sqrt(self.x**2 + self.y**2 + self.z**2)
        return dot > MIN_RAY_COS * self.rays.length * distance


def _depth_cells(
    frames: PosedFrames, used: Int[np.ndarray, " m"]
) -> tuple[Float[np.ndarray, "n h w"], Int[np.ndarray, "n 2"]]:
    """The depth maps of the `used` frames at DEPTH_CELLS, nearest pixel, and their full sizes."""

    def shrunk(i: int) -> tuple[np.ndarray, tuple[int, int]]:
        depth = frames.depths[int(i)]
        rows, columns = (_centres(k, of) for k, of in zip(DEPTH_CELLS, depth.shape))
        return depth[rows[:, None], columns], depth.shape[::-1]

    cells = np.zeros((len(frames), *DEPTH_CELLS), np.float32)
    sizes = np.ones((len(frames), 2), np.int64)
    with ThreadPoolExecutor(DEPTH_READERS) as readers:
        for i, (depth, size) in zip(used, readers.map(shrunk, used)):
            cells[i], sizes[i] = depth, size
    return cells, sizes


def _centres(count: int, length: int) -> Int[np.ndarray, " count"]:
    """The indices at the centres of `count` equal parts of `length`."""
    return ((2 * np.arange(count) + 1) * length) // (2 * count)


def _unit_centres(count: int) -> Float[np.ndarray, " count"]:
    return ((np.arange(count) + 0.5) / count).astype(np.float32)

"""How much two cameras see of the same surface.

The overlap of a pair is the smaller of two shares: of points on a grid over either image, those
that the other camera sees too. With depth the points are surface points, and one counts as seen if
the other camera measures its distance there. Without depth they are placed at nominal distances
from the camera, and count as seen if they project into the other image and the two viewing rays
meet at a narrow enough angle: cameras that face each other share a volume, but no surface.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxreloc.formats.frames import PosedFrames

GRID = (9, 12)  # rows, columns of points per image
DEPTH_CELLS = (45, 60)  # rows, columns kept of a depth map; a multiple of GRID
DEPTH_TOLERANCE = 0.1  # of the distance; covers the slant of a surface within a cell
NOMINAL_DEPTHS = (0.75, 1.5, 3.0)  # times the scene's depth
MAX_RAY_ANGLE_DEG = 60.0
PAIRS_PER_CHUNK = 2048
DEPTH_READERS = 4


def pair_overlap(
    frames: PosedFrames, first: Int[np.ndarray, " n"], second: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """The overlap of each pair of frames, 0 to 1: by depth if the frames have it."""
    if frames.depths is None:
        return frustum_overlap(frames, first, second, scene_depth(frames))
    return depth_overlap(frames, first, second)


def depth_overlap(
    frames: PosedFrames, first: Int[np.ndarray, " n"], second: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """The overlap by measured surfaces; points without a depth on either side do not count.

    The depth maps must be registered to the images, at any resolution.

    Raises:
      UsageError: a depth map cannot be read.
    """
    cells = _depth_cells(frames, np.union1d(first, second))
    rows, columns = (_centres(k, of) for k, of in zip(GRID, DEPTH_CELLS))
    sampled = cells[:, rows[:, None], columns].reshape(len(frames), -1)

    def share(source, target):
        seen, counted = np.zeros(len(source), np.int64), np.zeros(len(source), np.int64)
        for part in _chunks(len(source)):
            depth = sampled[source[part]]
            view = _View(frames, source[part], target[part], depth)
            measured = view.look_up(cells)
            known = (depth > 0) & ~(view.inside & (measured == 0))
            close = np.abs(measured - view.distance) < DEPTH_TOLERANCE * view.distance
            seen[part] = (known & view.inside & close).sum(axis=1)
            counted[part] = known.sum(axis=1)
        return seen / np.maximum(counted, 1)

    return np.minimum(share(first, second), share(second, first))


def frustum_overlap(
    frames: PosedFrames,
    first: Int[np.ndarray, " n"],
    second: Int[np.ndarray, " n"],
    depth: float,
) -> Float[np.ndarray, " n"]:
    """The overlap guessed from poses, for surfaces about `depth` away from the cameras."""
    num_points = GRID[0] * GRID[1]

    def share(source, target):
        seen = np.zeros(len(source), np.int64)
        for part in _chunks(len(source)):
            for nominal in NOMINAL_DEPTHS:
                at = np.full((len(source[part]), num_points), nominal * depth)
                view = _View(frames, source[part], target[part], at)
                seen[part] += (view.inside & view.rays_agree()).sum(axis=1)
        return seen / (num_points * len(NOMINAL_DEPTHS))

    return np.minimum(share(first, second), share(second, first))


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


class _View:
    """Grid points of the source cameras, at a depth along their z axis, in the target cameras.

    Attributes are [pair, point]; `x, y, distance` are in the target camera's axes.
    """

    def __init__(
        self,
        frames: PosedFrames,
        source: Int[np.ndarray, " n"],
        target: Int[np.ndarray, " n"],
        depth: Float[np.ndarray, "n points"],
    ):
        world_from_source = frames.world_from_cam[source]
        world_from_target = frames.world_from_cam[target]
        rotation = np.einsum(
            "nji,njk->nik", world_from_target[:, :3, :3], world_from_source[:, :3, :3]
        )
        apart = world_from_source[:, :3, 3] - world_from_target[:, :3, 3]
        translation = np.einsum("nji,nj->ni", world_from_target[:, :3, :3], apart)
        ray_x, ray_y = _grid_rays(frames, source)
        x, y, z = (
            (rotation[:, k, 0, None] * ray_x + rotation[:, k, 1, None] * ray_y)
            + rotation[:, k, 2, None]
            for k in range(3)
        )
        self.x = x * depth + translation[:, 0, None]
        self.y = y * depth + translation[:, 1, None]
        self.distance = z * depth + translation[:, 2, None]
        self._source_centre = translation
        self._target = target
        self._u, self._v = self._project(frames)

    def _project(self, frames: PosedFrames):
        """Position in the target image, which spans 0 to 1 both ways; -1 behind the camera."""
        scale, centre = _unit_intrinsics(frames, self._target)
        in_front = self.distance > 1e-6
        inverse = np.where(in_front, 1 / np.where(in_front, self.distance, 1.0), 0.0)
        u = scale[:, 0, None] * self.x * inverse + centre[:, 0, None]
        v = scale[:, 1, None] * self.y * inverse + centre[:, 1, None]
        return np.where(in_front, u, -1.0), np.where(in_front, v, -1.0)

    @property
    def inside(self) -> Bool[np.ndarray, "n points"]:
        return (self._u >= 0) & (self._u < 1) & (self._v >= 0) & (self._v < 1)

    def look_up(self, cells: Float[np.ndarray, "frames h w"]) -> Float[np.ndarray, "n points"]:
        """The target's value of `cells` where each point projects; at the border if outside."""
        _, height, width = cells.shape
        row = np.clip((self._v * height).astype(np.int64), 0, height - 1)
        column = np.clip((self._u * width).astype(np.int64), 0, width - 1)
        return cells[self._target[:, None], row, column]

    def rays_agree(self) -> Bool[np.ndarray, "n points"]:
        """Whether the rays from both cameras meet at less than MAX_RAY_ANGLE_DEG."""
        x, y, z = self.x, self.y, self.distance
        cx, cy, cz = (self._source_centre[:, k, None] for k in range(3))
        dot = x * (x - cx) + y * (y - cy) + z * (z - cz)
        lengths = (x**2 + y**2 + z**2) * ((x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2)
        return dot > np.cos(np.radians(MAX_RAY_ANGLE_DEG)) * np.sqrt(lengths)


def _grid_rays(frames: PosedFrames, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x / z and y / z, [frame, point], of a regular grid over each image."""
    v, u = np.meshgrid(*((np.arange(k) + 0.5) / k for k in GRID), indexing="ij")
    scale, centre = _unit_intrinsics(frames, index)
    ray_x = (u.reshape(1, -1) - centre[:, 0, None]) / scale[:, 0, None]
    ray_y = (v.reshape(1, -1) - centre[:, 1, None]) / scale[:, 1, None]
    return ray_x, ray_y


def _unit_intrinsics(frames: PosedFrames, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Focal lengths and principal points (x, y) of images that span 0 to 1 both ways."""
    size = frames.image_sizes[index].astype(np.float64)
    intrinsics = frames.intrinsics[index]
    focal = np.stack([intrinsics[:, 0, 0], intrinsics[:, 1, 1]], axis=1)
    return focal / size, (intrinsics[:, :2, 2] + 0.5) / size


def _depth_cells(frames: PosedFrames, used: Int[np.ndarray, " m"]) -> Float[np.ndarray, "n h w"]:
    """The depth maps of the `used` frames at DEPTH_CELLS, nearest pixel; 0 for other frames."""

    def shrunk(i: int) -> np.ndarray:
        depth = frames.depths[int(i)]
        rows, columns = (_centres(k, of) for k, of in zip(DEPTH_CELLS, depth.shape))
        return depth[rows[:, None], columns]

    cells = np.zeros((len(frames), *DEPTH_CELLS), np.float32)
    with ThreadPoolExecutor(DEPTH_READERS) as readers:
        for i, depth in zip(used, readers.map(shrunk, used)):
            cells[i] = depth
    return cells


def _centres(count: int, length: int) -> Int[np.ndarray, " count"]:
    """The indices at the centres of `count` equal parts of `length`."""
    return ((2 * np.arange(count) + 1) * length) // (2 * count)


def _chunks(length: int) -> Iterator[slice]:
    for start in range(0, length, PAIRS_PER_CHUNK):
        yield slice(start, start + PAIRS_PER_CHUNK)

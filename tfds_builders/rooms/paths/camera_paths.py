"""Hand-held camera paths through a room: orbits, walks, pans and hovering, free of obstacles."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float32, Float64

from tfds_builders.rooms.furnishing.room_building import Room
from tfds_builders.rooms.graphics.ray_casting import RayCaster, even_directions
from tfds_builders.rooms.graphics.rendering import Camera
from tfds_builders.rooms.settings import Distances

WALL_MARGIN = 0.25  # metres between a camera and the walls
CLEARANCE = 0.2  # metres of free space around a camera,
FEELERS = 96  # tried in so many directions
HEADROOM = 0.5  # metres below the ceiling in which lamps hang
MIN_SURFACES = 5  # different materials in a picture
PREVIEW = (16, 12)  # points across and down at which a view is judged
OCCLUSION_TOLERANCE = 0.15  # relative depth difference of points that count as the same
SHRINKING = (1.0, 0.8, 0.6, 0.4, 0.2, 0.05)  # amplitudes tried before an anchor is given up
MAX_ANCHORS = 400


@dataclasses.dataclass(frozen=True)
class Lens:
    """What a path's pictures are taken with."""

    intrinsics: Float64[np.ndarray, "3 3"]
    width: int
    height: int


@dataclasses.dataclass(frozen=True)
class CameraPath:
    """A path's poses, and the scene points at a coarse grid of each picture."""

    lens: Lens
    world_from_cam: Float64[np.ndarray, "n 4 4"]
    preview_points: Float32[np.ndarray, "n p 3"]  # world
    preview_depths: Float32[np.ndarray, "n p"]

    def camera(self, i: int) -> Camera:
        lens = self.lens
        return Camera(self.world_from_cam[i], lens.intrinsics, lens.width, lens.height)

    def cameras(self) -> list[Camera]:
        return [self.camera(i) for i in range(len(self.world_from_cam))]


@dataclasses.dataclass(frozen=True)
class _Anchor:
    """Where a path's middle lies and what it looks at."""

    centre: np.ndarray
    target: np.ndarray


class PathFinder:
    """Draws random paths through one room."""

    def __init__(
        self,
        room: Room,
        caster: RayCaster,
        roll_deg: float,
        worth_a_picture: Callable[[Camera], bool],
        distances: Distances = Distances(),
    ):
        """
        Args:
          roll_deg: standard deviation of the in-plane rotation.
          worth_a_picture: judges a path's first, middle and last view.
        """
        self._room = room
        self._caster = caster
        self._roll = np.deg2rad(roll_deg)
        self._worth_a_picture = worth_a_picture
        self._distances = distances

    def database_path(self, rng: np.random.Generator, lens: Lens, frames: int) -> CameraPath | None:
        """A path around a random subject of the room, or None where there is no space for one."""
        anchor = self._anchor_at_subject
        return self._find(rng, lens, frames, anchor, lambda path: True, MOTIONS, SHRINKING)

    def query_path(
        self,
        rng: np.random.Generator,
        lens: Lens,
        frames: int,
        database: list[CameraPath],
        min_overlap: float,
        motions: Sequence["MotionKind"] | None = None,
        amplitudes: Sequence[float] = SHRINKING,
    ) -> CameraPath | None:
        """A new path, each picture of which shares `min_overlap` with one of `database`.

        Args:
          motions: of which one is drawn; None is MOTIONS.
          amplitudes: by which it may be scaled, tried in this order.

        Returns:
          None where none is found.
        """

        def anchor(rng: np.random.Generator) -> _Anchor:
            path = database[rng.integers(len(database))]
            i = rng.integers(len(path.world_from_cam))
            centre = path.world_from_cam[i, :3, 3] + rng.normal(0, 0.25, 3) * (1, 1, 0.6)
            points = path.preview_points[i]
            return _Anchor(centre, np.median(points, 0) + rng.normal(0, 0.2, 3))

        def overlaps(path: CameraPath) -> bool:
            best = np.max([overlap(path, other) for other in database], axis=0)
            return bool((best >= min_overlap).all())

        return self._find(rng, lens, frames, anchor, overlaps, motions or MOTIONS, amplitudes)

    def allows(self, path: CameraPath) -> bool:
        """Whether its cameras keep clear of things and see enough; it may be of another room."""
        clear = self._in_free_space(path.world_from_cam[:, :3, 3])
        return clear and self._preview(path.lens, path.world_from_cam) is not None

    def _find(
        self,
        rng: np.random.Generator,
        lens: Lens,
        frames: int,
        draw_anchor: Callable[[np.random.Generator], _Anchor],
        accept: Callable[[CameraPath], bool],
        motions: Sequence["MotionKind"],
        amplitudes: Sequence[float],
    ) -> CameraPath | None:
        for _ in range(MAX_ANCHORS):
            anchor = draw_anchor(rng)
            if not self._in_free_space(anchor.centre[None]):
                continue
            motion = motions[rng.integers(len(motions))](rng, anchor, frames)
            roll = self._rolls(rng, frames)
            for amplitude in amplitudes:
                poses = look_at(*motion(amplitude), roll * max(amplitude, 0.5))
                if not self._in_free_space(poses[:, :3, 3]):
                    continue
                path = self._preview(lens, poses)
                if path is None or not accept(path):
                    continue
                if all(self._worth_a_picture(path.camera(i)) for i in (0, frames // 2, -1)):
                    return path
        return None

    def _anchor_at_subject(self, rng: np.random.Generator) -> _Anchor:
        target = self._room.subjects[rng.integers(len(self._room.subjects))]
        azimuth, distance = rng.uniform(0, 2 * np.pi), rng.uniform(*self._distances.subject)
        centre = target + distance * np.array([np.cos(azimuth), np.sin(azimuth), 0])
        centre[2] = rng.uniform(0.9, 1.8)
        return _Anchor(centre, target + rng.normal(0, 0.1, 3))

    def _rolls(self, rng: np.random.Generator, frames: int) -> np.ndarray:
        wobble = 0.5 * wander(rng, frames, 1, 2)[:, 0] + 0.1 * wander(rng, frames, 1, 8)[:, 0]
        return self._roll * (rng.normal() + wobble)

    def _in_free_space(self, centres: np.ndarray) -> bool:
        half = self._room.size / 2
        inside = np.abs(centres[:, :2]) < half[:2] - WALL_MARGIN
        upper = self._room.size[2] - HEADROOM
        if not (inside.all() and (centres[:, 2] > 0.4).all() and (centres[:, 2] < upper).all()):
            return False
        feelers = np.concatenate([CLEARANCE * even_directions(FEELERS), [[0, 0, 1]]])
        rays = np.tile(feelers, (len(centres), 1, 1))
        rays[:, -1, 2] = upper - centres[:, 2]
        starts = np.broadcast_to(centres[:, None], rays.shape)
        return not self._caster.occluded(starts.reshape(-1, 3), rays.reshape(-1, 3)).any()

    def _preview(self, lens: Lens, poses: np.ndarray) -> CameraPath | None:
        """The path with what its pictures show, or None when one of them shows too little."""
        pixels = _preview_pixels(lens)
        cameras = [Camera(pose, lens.intrinsics, lens.width, lens.height) for pose in poses]
        rays = np.stack([camera.rays(pixels) for camera in cameras])
        centres = poses[:, None, :3, 3].astype(np.float32)
        starts = np.broadcast_to(centres, rays.shape)
        hits = self._caster.first_hits(starts.reshape(-1, 3), rays.reshape(-1, 3))
        depths = hits.distance.reshape(len(poses), -1)
        materials = self._room.mesh.material_ids[hits.triangle].reshape(len(poses), -1)
        surfaces = min(len(np.unique(row)) for row in materials)
        if (
            (hits.triangle < 0).any()
            or surfaces < MIN_SURFACES
            or np.median(depths, 1).min() < self._distances.median
            or np.quantile(depths, 0.1, axis=1).min() < self._distances.near
        ):
            return None
        return CameraPath(lens, poses, centres + rays * depths[..., None], depths)


def overlap(path: CameraPath, other: CameraPath) -> Float64[np.ndarray, "n"]:
    """For each picture of `path`, the largest share of its points that one of `other` sees."""
    rotation = other.world_from_cam[:, :3, :3]
    offset = path.preview_points[:, None] - other.world_from_cam[None, :, None, :3, 3]
    points = np.einsum("mji,nmpj->nmpi", rotation, offset)
    depth = np.maximum(points[..., 2], 1e-3)
    K = other.lens.intrinsics
    u = K[0, 0] * points[..., 0] / depth + K[0, 2] + 0.5
    v = K[1, 1] * points[..., 1] / depth + K[1, 2] + 0.5
    column = np.floor(u / other.lens.width * PREVIEW[0]).astype(int)
    row = np.floor(v / other.lens.height * PREVIEW[1]).astype(int)
    inside = (points[..., 2] > 0) & (column >= 0) & (column < PREVIEW[0])
    inside &= (row >= 0) & (row < PREVIEW[1])
    cell = np.where(inside, row * PREVIEW[0] + column, 0)
    seen = np.take_along_axis(other.preview_depths[None], cell, axis=2)
    same = np.abs(points[..., 2] / seen - 1) < OCCLUSION_TOLERANCE
    return (inside & same).mean(2).max(1)


def look_at(
    centres: Float64[np.ndarray, "n 3"], targets: Float64[np.ndarray, "n 3"], rolls: np.ndarray
) -> Float64[np.ndarray, "n 4 4"]:
    """`world_from_cam` of cameras that see `targets` at their middle, turned by `rolls` radians
    about the optical axis from upright."""
    forward = targets - centres
    forward /= np.linalg.norm(forward, axis=1, keepdims=True)
    right = np.cross(forward, (0, 0, 1.0))
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    down = np.cross(forward, right)
    cos, sin = np.cos(rolls)[:, None], np.sin(rolls)[:, None]
    poses = np.tile(np.eye(4), (len(centres), 1, 1))
    poses[:, :3, 0] = cos * right + sin * down
    poses[:, :3, 1] = cos * down - sin * right
    poses[:, :3, 2] = forward
    poses[:, :3, 3] = centres
    return poses


def wander(
    rng: np.random.Generator, frames: int, dimensions: int, turns: float
) -> Float64[np.ndarray, "frames dimensions"]:
    """Smooth random curves of about unit deviation that turn around some `turns` times."""
    time = np.linspace(0, 2 * np.pi, frames)[:, None, None]
    frequency = turns * rng.uniform(0.3, 1.0, (3, dimensions))
    phase = rng.uniform(0, 2 * np.pi, (3, dimensions))
    weight = rng.normal(0, np.sqrt(2 / 3), (3, dimensions))
    return (weight * np.sin(frequency * time + phase)).sum(1)


_Motion = Callable[[float], tuple[np.ndarray, np.ndarray]]
MotionKind = Callable[[np.random.Generator, _Anchor, int], _Motion]


def _shake(rng: np.random.Generator, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """The unrest of a hand: offsets of the camera and of its target, in metres."""
    return 0.008 * wander(rng, frames, 3, 9), 0.025 * wander(rng, frames, 3, 9)


def _hover(rng: np.random.Generator, anchor: _Anchor, frames: int) -> _Motion:
    """Waving the camera about in front of the subject."""
    moves = rng.uniform(0.15, 0.5) * wander(rng, frames, 3, 2) * (1, 1, 0.5)
    turns = rng.uniform(0.1, 0.4) * wander(rng, frames, 3, 2) * (1, 1, 0.7)
    shake, unrest = _shake(rng, frames)

    def motion(amplitude: float):
        return (
            anchor.centre + amplitude * moves + shake,
            anchor.target + amplitude * turns + unrest,
        )

    return motion


def _orbit(
    rng: np.random.Generator,
    anchor: _Anchor,
    frames: int,
    distances: tuple[float, float] = (0.7, 1.5),
    spans_deg: tuple[float, float] = (40, 160),
) -> _Motion:
    """Circling the subject, at times closely."""
    arm = anchor.centre - anchor.target
    arm *= rng.uniform(*distances) / max(np.linalg.norm(arm), 0.3)
    span = rng.choice((-1, 1)) * np.deg2rad(rng.uniform(*spans_deg))
    angles = span * np.linspace(-0.5, 0.5, frames) + 0.1 * wander(rng, frames, 1, 2)[:, 0]
    reach = 0.1 * wander(rng, frames, 1, 2)
    lift = 0.12 * wander(rng, frames, 1, 1)[:, 0]
    shake, unrest = _shake(rng, frames)

    def motion(amplitude: float):
        cos, sin = np.cos(amplitude * angles), np.sin(amplitude * angles)
        turned = np.stack(
            [cos * arm[0] - sin * arm[1], sin * arm[0] + cos * arm[1], np.full(frames, arm[2])], 1
        )
        centres = anchor.target + turned * (1 + amplitude * reach) + shake
        centres[:, 2] += amplitude * lift
        return centres, anchor.target + unrest

    return motion


def _walk(rng: np.random.Generator, anchor: _Anchor, frames: int) -> _Motion:
    """Walking some way while the gaze drifts along."""
    heading = rng.uniform(0, 2 * np.pi)
    length = rng.uniform(0.6, 2.0)
    time = np.linspace(-0.5, 0.5, frames)[:, None]
    step = length * np.array([np.cos(heading), np.sin(heading), 0])
    sway = 0.06 * wander(rng, frames, 3, 3) + time * step
    gaze = time * step * rng.uniform(0, 0.9) + 0.2 * wander(rng, frames, 3, 1)
    shake, unrest = _shake(rng, frames)

    def motion(amplitude: float):
        return (
            anchor.centre + amplitude * sway + shake,
            anchor.target + amplitude * gaze + unrest,
        )

    return motion


def _pan(rng: np.random.Generator, anchor: _Anchor, frames: int) -> _Motion:
    """Turning about on the spot."""
    arm = anchor.target - anchor.centre
    span = rng.choice((-1, 1)) * np.deg2rad(rng.uniform(30, 110))
    angles = span * np.linspace(-0.5, 0.5, frames)
    moves = rng.uniform(0.05, 0.25) * wander(rng, frames, 3, 1) * (1, 1, 0.4)
    shake, unrest = _shake(rng, frames)

    def motion(amplitude: float):
        cos, sin = np.cos(amplitude * angles), np.sin(amplitude * angles)
        turned = np.stack(
            [cos * arm[0] - sin * arm[1], sin * arm[0] + cos * arm[1], np.full(frames, arm[2])], 1
        )
        centres = anchor.centre + amplitude * moves + shake
        return centres, centres + turned + unrest

    return motion


MOTIONS = (_hover, _orbit, _walk, _pan)
close_orbit = functools.partial(_orbit, distances=(0.6, 0.8), spans_deg=(60, 160))


def _preview_pixels(lens: Lens) -> np.ndarray:
    """The middle of each cell of the preview grid, row by row."""
    x = (np.arange(PREVIEW[0]) + 0.5) * lens.width / PREVIEW[0] - 0.5
    y = (np.arange(PREVIEW[1]) + 0.5) * lens.height / PREVIEW[1] - 0.5
    return np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)

"""A room of known geometry: four walls, floor, ceiling and a ball in the middle, by ray casting."""

import numpy as np
from scipy.spatial.transform import Rotation

from jaxreloc.formats.frames import PosedFrames

HALF_SIZE = np.array([3.0, 2.5, 1.3])  # metres, z up
BALL_RADIUS = 0.6
WIDTH, HEIGHT, FOCAL = 96, 72, 78.0
INTRINSICS = np.array(
    [[FOCAL, 0, WIDTH / 2 - 0.5], [0, FOCAL, HEIGHT / 2 - 0.5], [0, 0, 1]], np.float64
)


def random_room(rng: np.random.Generator, count: int, *, with_depth: bool) -> PosedFrames:
    """Frames of cameras that look roughly level, from anywhere but within or close to the ball."""
    poses = np.tile(np.eye(4), (count, 1, 1))
    for pose in poses:
        centre = np.zeros(3)
        while np.linalg.norm(centre) < BALL_RADIUS + 0.3:
            centre = rng.uniform(-0.85, 0.85, 3) * HALF_SIZE
        heading, tilt, roll = rng.uniform([-180, -20, -15], [180, 20, 15])
        looking = Rotation.from_euler("ZXZ", [heading, -90 + tilt, roll], degrees=True)
        pose[:3, :3], pose[:3, 3] = looking.as_matrix(), centre
    return PosedFrames(
        scene="room",
        names=tuple(f"{k:04d}.png" for k in range(count)),
        world_from_cam=poses,
        intrinsics=np.tile(INTRINSICS, (count, 1, 1)),
        image_sizes=np.tile(np.array([[WIDTH, HEIGHT]]), (count, 1)),
        images=[np.zeros((HEIGHT, WIDTH, 3), np.uint8)] * count,
        depths=[depth_map(pose) for pose in poses] if with_depth else None,
    )


def depth_map(world_from_cam: np.ndarray) -> np.ndarray:
    """float32 [HEIGHT, WIDTH], metres along z."""
    u, v = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    return distance(world_from_cam, u, v).astype(np.float32)


def distance(world_from_cam: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Depth along z of the surface seen at pixels (u, v)."""
    rays = np.linalg.inv(INTRINSICS) @ np.stack([u, v, np.ones_like(u)]).reshape(3, -1)
    direction = (world_from_cam[:3, :3] @ rays).T
    origin = world_from_cam[:3, 3]
    with np.errstate(divide="ignore"):
        to_wall = (np.sign(direction) * HALF_SIZE - origin) / direction
    nearest = to_wall.min(axis=1)
    # |origin + s direction| = radius, the smaller root.
    a, b = np.sum(direction**2, axis=1), direction @ origin
    discriminant = b**2 - a * (origin @ origin - BALL_RADIUS**2)
    to_ball = (-b - np.sqrt(np.maximum(discriminant, 0))) / a
    hit = (discriminant > 0) & (to_ball > 0)
    return np.where(hit, np.minimum(to_ball, nearest), nearest).reshape(np.shape(u))


def true_overlap(world_from_a: np.ndarray, world_from_b: np.ndarray) -> float:
    """The smaller share of either image's pixels whose surface point the other camera sees."""

    def share(source, target):
        u, v = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
        z = distance(source, u, v)
        rays = np.linalg.inv(INTRINSICS) @ np.stack([u, v, np.ones_like(u)]).reshape(3, -1)
        world = source[:3, :3] @ (rays * z.ravel()) + source[:3, 3:]
        x, y, depth = target[:3, :3].T @ (world - target[:3, 3:])
        pixel_u = FOCAL * x / depth + INTRINSICS[0, 2]
        pixel_v = FOCAL * y / depth + INTRINSICS[1, 2]
        inside = (depth > 0) & (np.abs(pixel_u - INTRINSICS[0, 2]) < WIDTH / 2)
        inside &= np.abs(pixel_v - INTRINSICS[1, 2]) < HEIGHT / 2
        there = distance(target, np.where(inside, pixel_u, 0), np.where(inside, pixel_v, 0))
        return np.mean(inside & (np.abs(there - depth) < 0.01))

    return min(share(world_from_a, world_from_b), share(world_from_b, world_from_a))

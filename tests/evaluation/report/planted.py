"""The content of a report whose every number is known."""

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from jaxreloc.evaluation.report.content import (
    Cameras,
    Estimates,
    PairMatches,
    QueryPictures,
    SceneContent,
)

SIZE = (64, 48)
NEIGHBORS = 3


def cameras(rng, n, prefix) -> Cameras:
    """About the origin, mostly upright (-y of the camera is z of the world)."""
    poses = np.tile(np.eye(4), (n, 1, 1))
    upright = Rotation.from_matrix([[1, 0, 0], [0, 0, 1], [0, -1, 0]])
    poses[:, :3, :3] = (
        Rotation.from_euler("z", rng.uniform(-1, 1, (n, 1))) * upright
    ).as_matrix()
    poses[:, :3, 3] = rng.normal(size=(n, 3))
    intrinsics = np.tile(np.array([[50.0, 0, 31.5], [0, 50.0, 23.5], [0, 0, 1]]), (n, 1, 1))
    names = tuple(f"{prefix}/{i:03d}.png" for i in range(n))
    return Cameras(names, poses, intrinsics, np.tile(SIZE, (n, 1)))


def estimates(rng, queries: Cameras, title: str, num_failed: int) -> Estimates:
    """The truth with noise; the last `num_failed` queries are not localized."""
    n = len(queries)
    poses = queries.world_from_cam.copy()
    poses[:, :3, 3] += rng.normal(size=(n, 3)) * 0.05
    noise = Rotation.from_rotvec(rng.normal(size=(n, 3)) * 0.02)
    poses[:, :3, :3] = (Rotation.from_matrix(poses[:, :3, :3]) * noise).as_matrix()
    success = np.arange(n) < n - num_failed
    poses[~success] = np.nan
    return Estimates(
        title=title,
        world_from_query=poses,
        success=success,
        agreeing=tuple(rng.random(NEIGHBORS) < 0.7 for _ in range(n)),
        position_std=np.where(success, rng.uniform(0.01, 0.1, n), np.inf),
    )


def jpeg(rng) -> bytes:
    """Grey, so that coloured lines on it can be told."""
    picture = cv2.resize(rng.integers(60, 200, (6, 8), np.uint8), SIZE)
    return cv2.imencode(".jpg", picture)[1].tobytes()


def pair_matches(rng, n=40) -> PairMatches:
    points = rng.uniform(0, SIZE, (2, n, 2))
    return PairMatches(points[0], points[1], rng.random(n) < 0.5)


def scene(
    rng, name="room", *, num_database=12, num_queries=5, num_failed=1, truth=True, matches=True
) -> SceneContent:
    database, queries = cameras(rng, num_database, "db"), cameras(rng, num_queries, "query")
    found = {
        key: estimates(rng, queries, title, failed)
        for key, title, failed in (("nearest", "similar", 0), ("network", "network", num_failed))
    }
    pictures = {}
    for i in range(num_queries):
        neighbors = tuple(int(j) for j in rng.choice(num_database, NEIGHBORS, replace=False))
        pairs = tuple(pair_matches(rng) for _ in neighbors) if matches else None
        pictures[i] = QueryPictures(jpeg(rng), neighbors, pairs)
    shown = {i for picture in pictures.values() for i in picture.neighbors}
    if not truth:
        queries = Cameras(queries.names, None, queries.intrinsics, queries.image_sizes)
    return SceneContent(
        name=name,
        database=database,
        queries=queries,
        estimates=found,
        pictures=pictures,
        db_thumbnails={i: jpeg(rng) for i in shown},
        matched_by="SIFT" if matches else "",
    )

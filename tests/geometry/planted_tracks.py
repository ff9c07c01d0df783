"""A query and its neighbours with known poses, and the matches of random points."""

import dataclasses

import jax
import jax.numpy as jnp
import jaxlie
import numpy as np
from scipy.spatial.transform import Rotation

from jaxreloc.geometry.resection.tracks import DepthPrior, QueryPose, Tracks

FOCAL = 500.0  # pixels
se3 = jax.jit(jaxlie.SE3.from_matrix)
SCENES = ("general", "planar", "collinear", "same place")


@dataclasses.dataclass(frozen=True)
class Planted:
    """A query, K points and N neighbours; poses are 4x4, world_from_camera."""

    world_from_query: np.ndarray
    world_from_db: np.ndarray
    x_query: np.ndarray
    x_db: np.ndarray
    right: np.ndarray  # [N, K]: not an outlier
    inverse_depth: np.ndarray  # of the query
    inverse_depth_db: np.ndarray

    def arguments(self, *, depth: bool = False, weights: np.ndarray | None = None) -> dict:
        """Of `estimate_absolute_pose`, but the key."""
        prior = DepthPrior(
            jnp.asarray(self.inverse_depth_db, jnp.float32),
            jnp.asarray(50.0 / self.inverse_depth_db, jnp.float32),
        )
        count = self.right.shape[0]
        if weights is None:
            weights = np.ones(self.right.shape, np.float32)
        return {
            "world_from_db": se3(np.asarray(self.world_from_db, np.float32)),
            "x_query": jnp.asarray(self.x_query, jnp.float32),
            "x_db": jnp.asarray(self.x_db, jnp.float32),
            "weights": jnp.asarray(weights),
            "sigma": jnp.asarray(np.full(count, 1 / FOCAL, np.float32)),
            "depth": prior if depth else None,
        }

    def tracks(self) -> Tracks:
        count = self.right.shape[0]
        return Tracks(
            rays=jnp.asarray(np.c_[self.x_query, np.ones(len(self.x_query))], jnp.float32),
            x_db=jnp.asarray(self.x_db, jnp.float32),
            weights=jnp.asarray(self.right, jnp.float32),
            rotation=jnp.asarray(self.world_from_db[:, :3, :3], jnp.float32),
            centre=jnp.asarray(self.world_from_db[:, :3, 3], jnp.float32),
            sigma=jnp.asarray(np.full(count, 1 / FOCAL, np.float32)),
        )

    def pose(self) -> QueryPose:
        return query_pose(self.world_from_query)


def query_pose(world_from_query: np.ndarray) -> QueryPose:
    return QueryPose(
        jnp.asarray(world_from_query[:3, :3], jnp.float32),
        jnp.asarray(world_from_query[:3, 3], jnp.float32),
    )


def planted(
    rng: np.random.Generator,
    scene: str = "general",
    *,
    neighbors: int = 6,
    cells: int = 200,
    noise_px: float = 0.0,
    outliers: float = 0.0,
) -> Planted:
    """Cameras about a metre apart that look at a scene some four metres away.

    Args:
      scene: "planar" points; "collinear" cameras, the query's off their line; "same place" of the
        query and the first neighbour, of which one is turned.
      noise_px: standard deviation of the database's coordinates, pixels.
      outliers: share of the matches whose database side is anywhere.
    """
    world = np.eye(4)
    world[:3, :3] = Rotation.random(rng=rng).as_matrix()
    world[:3, 3] = rng.normal(0, 2, 3)
    query = _camera(rng, rng.normal(0, 0.3, 3))
    centres = rng.normal(0, 0.5, (neighbors, 3))
    if scene == "collinear":
        centres = 0.3 + rng.normal(0, 0.7, (neighbors, 1)) * np.array([[1.0, 0.2, 0.1]])
    db = np.stack([_camera(rng, centre) for centre in centres])
    if scene == "same place":
        db[0, :3, 3] = query[:3, 3]
    x_query = rng.uniform(-0.45, 0.45, (cells, 2))
    rays = np.c_[x_query, np.ones(cells)]
    depth = rng.uniform(2.5, 6.0, cells)
    if scene == "planar":
        normal = np.array([*rng.uniform(-0.4, 0.4, 2), 1.0])
        depth = 4.0 / (rays @ normal)
    points = (rays * depth[:, None]) @ query[:3, :3].T + query[:3, 3]
    in_db = np.einsum("nji,nkj->nki", db[:, :3, :3], points[None] - db[:, None, :3, 3])
    x_db = in_db[..., :2] / in_db[..., 2:]
    x_db += rng.normal(0, noise_px / FOCAL, x_db.shape)
    wrong = rng.random(x_db.shape[:2]) < outliers
    x_db[wrong] = rng.uniform(-0.5, 0.5, (wrong.sum(), 2))
    return Planted(
        world @ query, world @ db, x_query, x_db, ~wrong, 1 / depth, 1 / in_db[..., 2]
    )


def _camera(rng: np.random.Generator, centre: np.ndarray) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_rotvec(rng.normal(0, 0.12, 3)).as_matrix()
    pose[:3, 3] = centre
    return pose


def pose_error(found: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Distance, and degrees."""
    turn = Rotation.from_matrix(found[:3, :3].T @ truth[:3, :3]).magnitude()
    return float(np.linalg.norm(found[:3, 3] - truth[:3, 3])), float(np.rad2deg(turn))

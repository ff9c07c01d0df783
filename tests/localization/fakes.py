"""A network whose answers are known, for tests of what stands around it."""

import jax
import jax.numpy as jnp
import jaxlie
import numpy as np

from jaxreloc.formats.frames import PosedFrames
from jaxreloc.geometry.fusion import FusionConfig
from jaxreloc.localization.networks.confidence import ConfidenceModel
from jaxreloc.localization.networks.relations import PairRelations
from jaxreloc.models.matching.rays import RayTracks


class OracleNetwork:
    """Reads the camera pose that `oracle_frames` wrote into the picture, and so relates exactly.

    Its features are the poses themselves; its descriptor is the viewing direction and position,
    L2-normalised.
    """

    feature_formats = (jax.tree.structure({"pose": 0}),)
    fusion_config = FusionConfig()

    def prepare(self, image, intrinsics):
        return image, intrinsics

    def encode(self, images):
        return {"pose": pose_in_picture(images)}

    def kept(self, features):
        return features

    def descriptor(self, features):
        x = jnp.concatenate(
            [features["pose"][:, 4:], jnp.ones_like(features["pose"][:, :1])], axis=1
        )
        return x / jnp.linalg.norm(x, axis=1, keepdims=True)

    def relate(self, db_features, db_intrinsics, query_features, query_intrinsics):
        db = jaxlie.SE3(jnp.asarray(db_features["pose"]))
        query = jaxlie.SE3(jnp.broadcast_to(query_features["pose"], (len(db_intrinsics), 7)))
        db_from_query = jax.vmap(lambda a, b: a.inverse() @ b)(db, query)
        return PairRelations(db_from_query, np.ones(len(db_intrinsics), bool))

    def save(self, folder):
        raise NotImplementedError


class UprightOracle(OracleNetwork):
    """Relates by what `sign_picture` wrote along the upper edge, and refuses all else."""

    feature_formats = (jax.tree.structure({"pose": 0, "support": 0}),)
    confidence_model = ConfidenceModel(bias=0.0, weights=(0.0, 0.0), threshold=0.5)

    def prepare(self, image, intrinsics):
        return image[:1, :32], intrinsics

    def encode(self, images):
        pose = pose_in_picture(images[..., 2:30, :])
        signed = images[:, 0, 30, :1] > 0
        return {
            "pose": np.where(signed, pose, np.float32([1, 0, 0, 0, 0, 0, 0])[None]),
            "support": images[:, 0, 30, 0] / np.float32(255),
        }

    def relate(self, db_features, db_intrinsics, query_features, query_intrinsics):
        exact = super().relate(db_features, db_intrinsics, query_features, query_intrinsics)
        support = np.broadcast_to(query_features["support"], len(db_intrinsics))
        return exact.replace(
            valid=support > 0,
            support=support,
            overlap_probability=np.ones(len(support), np.float32),
            confidence_model=self.confidence_model,
        )


def sign_picture(picture, pose_pixels, support):
    """Writes a pose of `oracle_frames` along the upper edge, for `UprightOracle`."""
    picture[0, 2:30] = pose_pixels
    picture[0, 30] = round(255 * support)


def pose_in_picture(images) -> np.ndarray:
    """The `wxyz_xyz` whose bytes are the pixels of pictures [*b, 1, 28, 3]."""
    return np.ascontiguousarray(images[..., 0, :, 0]).view(np.float32)


def oracle_frames(rng, n, scene="room") -> PosedFrames:
    """n frames whose pictures hold their own pose as bytes."""
    tangent = rng.normal(size=(n, 6)) * np.array([1, 1, 1, 0.3, 0.3, 0.3])
    return _frames_of(jnp.asarray(tangent, jnp.float32), scene)


def _frames_of(tangent, scene) -> PosedFrames:
    n, poses = len(tangent), jax.vmap(jaxlie.SE3.exp)(tangent)
    pixels = np.ascontiguousarray(np.asarray(poses.wxyz_xyz)).view(np.uint8)
    return PosedFrames(
        scene=scene,
        names=tuple(f"{i:03d}.png" for i in range(n)),
        world_from_cam=np.asarray(jax.vmap(jaxlie.SE3.as_matrix)(poses), np.float64),
        intrinsics=np.tile([[28.0, 0, 13.5], [0, 28, 0], [0, 0, 1]], (n, 1, 1)),
        image_sizes=np.tile([28, 1], (n, 1)),
        images=list(np.tile(pixels[:, None, :, None], (1, 1, 1, 3))),
    )


class MatchingOracle(OracleNetwork):
    """Matches exactly what cameras inside a ball of radius BALL see of it, some matches wrong.

    A query cell's ray meets the ball in a point, and the database side is where that projects.
    """

    BALL = 8.0
    GRID = (12, 16)
    FOCAL = 500.0

    def __init__(self, rng, wrong=0.2):
        self._rng, self._wrong = rng, wrong

    def cell_pixels(self):
        rows, columns = np.indices(self.GRID)
        return np.stack([columns, rows], axis=-1) * 1.0

    def similarity(self, db_features, query_features):
        off = np.linalg.norm(db_features["pose"][:, 4:] - query_features["pose"][:, 4:], axis=1)
        return np.float32(1 / (1 + off))

    def match_tracks(
        self, db_features, db_intrinsics, query_features, query_intrinsics, similarity, *,
        every_cell=False,
    ):
        cells = self.cell_pixels().reshape(-1, 2)
        x_query = (cells / (np.array(self.GRID[::-1]) - 1) - 0.5) * np.array([0.9, 0.7])
        query, db = matrices(query_features["pose"])[0], matrices(db_features["pose"])
        rays = np.c_[x_query, np.ones(len(cells))] @ query[:3, :3].T
        points = query[:3, 3] + rays * self._distance(query[:3, 3], rays)[:, None]
        in_db = np.einsum("nji,nkj->nki", db[:, :3, :3], points[None] - db[:, None, :3, 3])
        seen = in_db[..., 2] > 0.2
        x_db = in_db[..., :2] / np.where(seen, in_db[..., 2], 1.0)[..., None]
        seen &= (np.abs(x_db) < 0.8).all(axis=-1)
        x_db = x_db + self._rng.normal(0, 0.3 / self.FOCAL, x_db.shape)
        wrong = self._rng.random(seen.shape) < (0.0 if every_cell else self._wrong)
        x_db[wrong] = self._rng.uniform(-0.5, 0.5, (wrong.sum(), 2))
        # The cell of the database image that the match lies in, by the same grid.
        db_cells = (x_db / np.array([0.9, 0.7]) + 0.5) * (np.array(self.GRID[::-1]) - 1)
        return RayTracks(
            x_query=jnp.asarray(x_query, jnp.float32),
            x_db=jnp.asarray(x_db, jnp.float32),
            weights=jnp.asarray(np.where(seen, 0.9, 0.0), jnp.float32),
            sigma=jnp.full(len(db), 1 / self.FOCAL),
            query_cells=jnp.asarray(cells, jnp.float32),
            db_cells=jnp.asarray(db_cells, jnp.float32),
        )

    def _distance(self, centre, rays):
        """Where rays from inside meet the ball around the origin."""
        squared, along = (rays**2).sum(axis=1), rays @ centre
        inside = self.BALL**2 - centre @ centre
        return (-along + np.sqrt(along**2 + squared * inside)) / squared


def matrices(wxyz_xyz) -> np.ndarray:
    """Poses [n, 4, 4] of [n, 7]."""
    return np.asarray(jaxlie.SE3(jnp.asarray(wxyz_xyz)).as_matrix(), np.float64)


def looking_frames(rng, n) -> PosedFrames:
    """As `oracle_frames`, of cameras that look much the same way from different places."""
    tangent = rng.normal(size=(n, 6)) * np.array([0.8, 0.8, 0.8, 0.1, 0.1, 0.1])
    return _frames_of(jnp.asarray(tangent, jnp.float32), "room")

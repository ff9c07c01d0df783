import jax.numpy as jnp
import jaxlie
import numpy as np
from scipy.spatial.transform import Rotation

from jaxreloc.geometry.absolute_pose import AbsolutePose
from jaxreloc.localization.patch_precision import Pictures, PrecisionConfig, precise_pose
from jaxreloc.models.matching.rays import RayTracks
from tests.geometry.resection.textures import Texture, as_picture, pixels

FOCAL, SIZE, STRIDE = 150.0, (128, 160), 8
INTRINSICS = np.array([[FOCAL, 0, 79.5], [0, FOCAL, 63.5], [0, 0, 1]])
DEVIATION_PX = 1.0  # of matches
CONFIG = PrecisionConfig(cells=150, patches=400)


class Wall:
    """A textured plane n . X = 2 before a camera at the origin, and cameras around that one."""

    def __init__(self, rng):
        self.normal = Rotation.from_rotvec([*rng.uniform(-0.4, 0.4, 2), 0]).apply([0, 0, 1.0])
        self.axes = np.linalg.svd(self.normal[None])[2][1:]
        self.texture = Texture(rng, shortest=0.12, longest=0.35)
        self.query = pose(rng, 0.05, 0.05)
        self.db = np.stack([pose(rng, 0.15, 0.3) for _ in range(3)])

    def points(self, world_from_cam, places):
        """Where the rays of pixels meet the plane, and their depth in that camera."""
        rays = np.concatenate([places, np.ones((*places.shape[:-1], 1))], axis=-1)
        rays = rays @ np.linalg.inv(INTRINSICS).T
        turned = rays @ world_from_cam[:3, :3].T
        depth = (2 - self.normal @ world_from_cam[:3, 3]) / (turned @ self.normal)
        return world_from_cam[:3, 3] + depth[..., None] * turned, depth

    def picture(self, world_from_cam):
        points, _ = self.points(world_from_cam, pixels(*SIZE))
        return as_picture(self.texture(points @ self.axes.T))

    def pictures(self):
        return Pictures(
            jnp.asarray(self.picture(self.query)),
            jnp.asarray(np.stack([self.picture(x) for x in self.db])),
            jnp.asarray(INTRINSICS, jnp.float32)[None],
            jnp.broadcast_to(jnp.asarray(INTRINSICS, jnp.float32), (3, 3, 3)),
        )

    def matches(self, rng):
        """Noisy ones of all cells, and their inverse depths."""
        rows, columns = np.indices((SIZE[0] // STRIDE, SIZE[1] // STRIDE))
        cells = np.stack([columns.ravel(), rows.ravel()], axis=-1).astype(float)
        places = STRIDE * cells + (STRIDE - 1) / 2
        points, depth = self.points(self.query, places)
        in_db = np.stack([(points - x[:3, 3]) @ x[:3, :3] for x in self.db])
        x_db = in_db[..., :2] / in_db[..., 2:]
        x_db = x_db + rng.normal(0, DEVIATION_PX / FOCAL, x_db.shape)
        matches = RayTracks(
            x_query=(places - INTRINSICS[:2, 2]) / FOCAL,
            x_db=x_db,
            weights=np.full(x_db.shape[:2], 0.9),
            sigma=np.full(3, DEVIATION_PX / FOCAL),
            query_cells=cells,
            db_cells=x_db,
        )
        fields = {name: jnp.asarray(x, jnp.float32) for name, x in vars(matches).items()}
        return RayTracks(**fields), 1 / depth


def pose(rng, radians, metres):
    world_from_cam = np.eye(4)
    world_from_cam[:3, :3] = Rotation.from_rotvec(rng.uniform(-1, 1, 3) * radians).as_matrix()
    world_from_cam[:3, 3] = rng.uniform(-1, 1, 3) * metres
    return world_from_cam


def found(rng, wall, inverse_depth):
    """The query's pose, off by about 0.3 degrees and 1 cm."""
    error = pose(rng, 0.005, 0.01)
    start = wall.query.copy()
    start[:3, :3] = error[:3, :3] @ start[:3, :3]
    start[:3, 3] += error[:3, 3]
    noisy = inverse_depth * (1 + rng.normal(0, 0.01, len(inverse_depth)))
    return start, AbsolutePose(
        world_from_query=jaxlie.SE3.from_matrix(jnp.asarray(start, jnp.float32)),
        inliers=jnp.ones((3, len(noisy)), bool),
        inverse_depth=jnp.asarray(noisy, jnp.float32),
        support=jnp.ones(()),
        margin=jnp.ones(()),
        covariance=jnp.eye(6),
        focal_factor=jnp.ones(()),
        focal_deviation=jnp.zeros(()),
        focal_gain=jnp.zeros(()),
        success=jnp.asarray(True),
    )


def refine(wall, matches, start, pictures):
    world_from_db = jaxlie.SE3.from_matrix(jnp.asarray(wall.db, jnp.float32))
    return precise_pose(world_from_db, matches, None, start, pictures, config=CONFIG)


def errors(estimate, truth):
    """Radians, and metres."""
    turn = Rotation.from_matrix(estimate[:3, :3] @ truth[:3, :3].T).magnitude()
    return turn, np.linalg.norm(estimate[:3, 3] - truth[:3, 3])


def test_pictures_make_a_pose_five_times_as_accurate_as_matches_of_a_pixel(rng):
    before, after = [], []
    for _ in range(5):
        wall = Wall(rng)
        matches, inverse_depth = wall.matches(rng)
        start, pose_found = found(rng, wall, inverse_depth)
        precise = refine(wall, matches, pose_found, wall.pictures())
        assert precise.success
        assert precise.deviation_px < 0.5
        assert np.all(np.linalg.eigvalsh(np.asarray(precise.covariance, float)) > 0)
        before.append(errors(start, wall.query))
        estimate = np.asarray(precise.world_from_query.as_matrix(), float)
        after.append(errors(estimate, wall.query))
    assert np.all(np.median(after, axis=0) < 0.2 * np.median(before, axis=0))


def test_pictures_of_something_else_change_nothing(rng):
    wall = Wall(rng)
    matches, inverse_depth = wall.matches(rng)
    _, pose_found = found(rng, wall, inverse_depth)
    pictures = wall.pictures()
    noise = rng.integers(0, 256, pictures.db.shape, np.uint8)
    plain = np.full(pictures.db.shape, 77, np.uint8)
    for other in (noise, plain):
        precise = refine(wall, matches, pose_found, pictures.replace(db=jnp.asarray(other)))
        assert not precise.success
        assert np.isfinite(precise.world_from_query.wxyz_xyz).all()
        assert np.isfinite(precise.covariance).all()

import jax.numpy as jnp
import numpy as np
from scipy.spatial.transform import Rotation

from jaxreloc.geometry._kernels import lanes
from jaxreloc.geometry.two_view import essential


def random_poses(rng, count: int) -> lanes.LanePose:
    return lanes.pose_from_array(jnp.asarray(rng.normal(size=(count, 7)), jnp.float32))


def matrices(pose: lanes.LanePose) -> np.ndarray:
    return np.asarray(jnp.array(essential.essential_rows(pose))).transpose(2, 0, 1)


def test_the_twisted_pair_shares_the_essential_matrix_up_to_sign(rng):
    pose = random_poses(rng, 50)
    np.testing.assert_allclose(matrices(essential.twisted(pose)), -matrices(pose), atol=1e-5)
    np.testing.assert_allclose(matrices(essential.opposite(pose)), -matrices(pose), atol=1e-6)


def test_two_rays_give_the_rotation_of_a_camera_that_only_turned(rng):
    turn = Rotation.random(50, random_state=rng)
    query = rng.normal(size=(2, 50, 3))
    db = np.stack([turn.apply(rays) for rays in query])
    as_lanes = [tuple(tuple(jnp.asarray(r.T, jnp.float32)) for r in rays) for rays in (query, db)]
    found = np.stack(essential.align_two_rays(*as_lanes), axis=-1)
    error = (Rotation.from_quat(found, scalar_first=True) * turn.inv()).magnitude()
    assert np.max(error) < 1e-2 and np.median(error) < 1e-5


def test_five_point_returns_to_the_true_pose_from_near_it(rng):
    pose = random_poses(rng, 200)
    points = rng.normal(size=(5, 200, 3)) + [0, 0, 4]
    rotation = Rotation.from_quat(np.stack(pose.q_wxyz, -1), scalar_first=True)
    t = np.stack(pose.t, -1)
    as_lanes = [
        tuple(tuple(jnp.asarray(p.T, jnp.float32)) for p in cloud)
        for cloud in (points, [rotation.apply(p) + t for p in points])
    ]
    moved = 0.05 * rng.normal(size=(5, 200))
    start = lanes.retract(pose, tuple(jnp.asarray(moved, jnp.float32)), 1.0)
    found = essential.five_point(*as_lanes, start, 12)
    error = np.abs(matrices(found) - matrices(pose)).max((1, 2))
    assert np.mean(error < 1e-3) > 0.6

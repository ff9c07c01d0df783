"""The track solver against automatic differentiation, SciPy, COLMAP and planted scenes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pycolmap
import pytest
import scipy.optimize
from scipy.spatial.transform import Rotation

from jaxreloc.geometry.resection import tracks as tracks_lib
from jaxreloc.geometry.resection.tracks import DepthPrior, QueryPose
from tests.geometry.planted_tracks import FOCAL, SCENES, planted, pose_error, query_pose

SCALES = (4.0, 2.0, 1.0)
linear_inverse_depth = jax.jit(tracks_lib.linear_inverse_depth)
refine_depth = jax.jit(tracks_lib.refine_depth, static_argnums=4)
information = jax.jit(tracks_lib.information)
cost = jax.jit(tracks_lib.cost)
normal_equations = jax.jit(tracks_lib.normal_equations)
reduced = jax.jit(tracks_lib.reduced)


@functools.partial(jax.jit, static_argnames=("scales", "steps"))
def solve(tracks, start, scales=SCALES, steps=6):
    return tracks_lib.refine(
        tracks, start, tracks_lib.linear_inverse_depth(tracks, start), scales, steps
    )


def matrix(pose: QueryPose) -> np.ndarray:
    found = np.eye(4)
    found[:3, :3], found[:3, 3] = pose.rotation, pose.centre
    return found


def perturbed(rng, pose: np.ndarray, turn=0.02, shift=0.05) -> QueryPose:
    moved = pose.copy()
    moved[:3, :3] = Rotation.from_rotvec(rng.normal(0, turn, 3)).as_matrix() @ pose[:3, :3]
    moved[:3, 3] += rng.normal(0, shift, 3)
    return query_pose(moved)


@pytest.mark.parametrize("scene", SCENES)
def test_the_true_pose_is_found_from_near_it(rng, scene):
    scene = planted(rng, scene)
    pose, rho, cost = solve(scene.tracks(), perturbed(rng, scene.world_from_query))
    position, degrees = pose_error(matrix(pose), scene.world_from_query)
    assert position < 2e-3 and degrees < 0.03
    assert float(cost) < 1.0
    known = np.abs(np.asarray(rho) / scene.inverse_depth - 1)
    assert np.median(known) < 5e-3


@pytest.mark.parametrize("with_depth", [False, True])
def test_normal_equations_are_the_gradient_of_the_cost(rng, with_depth):
    scene = planted(rng, noise_px=2.0, cells=40)
    tracks = scene.tracks()
    if with_depth:
        weight = rng.uniform(0, 30, scene.right.shape)
        tracks = tracks._replace(
            depth=DepthPrior(
                jnp.asarray(
                    scene.inverse_depth_db * rng.uniform(0.9, 1.1, weight.shape), jnp.float32
                ),
                jnp.asarray(weight, jnp.float32),
            )
        )
    rho = jnp.asarray(scene.inverse_depth * 1.05, jnp.float32)
    pose, scale = perturbed(rng, scene.world_from_query, 0.005, 0.01), 2.0

    @jax.jit
    @functools.partial(jax.grad, argnums=(0, 1))
    def gradients(step, rho):
        turn = tracks_lib.turn(step[:3])
        moved = QueryPose(turn @ pose.rotation, pose.centre + step[3:])
        return tracks_lib.cost(tracks, moved, rho, scale)

    _, by_depth = gradients(np.zeros(6, np.float32), rho)
    equations = normal_equations(tracks, pose, rho, scale)
    by_depth, found = np.asarray(by_depth), 2 * np.asarray(equations.depth_gradient)
    np.testing.assert_allclose(found, by_depth, rtol=1e-2, atol=1e-3 * np.abs(by_depth).max())
    # At the best depths eliminating them leaves the pose's gradient as it is.
    rho, _ = refine_depth(tracks, pose, rho, scale, 60)
    by_pose = np.asarray(gradients(np.zeros(6, np.float32), rho)[0])
    equations = normal_equations(tracks, pose, rho, scale)
    right = reduced(equations, rho, pose, tracks, 0.0).right
    np.testing.assert_allclose(
        2 * np.asarray(right), by_pose, rtol=2e-2, atol=5e-3 * np.abs(by_pose).max()
    )


@pytest.mark.parametrize("scene", ["general", "planar", "collinear"])
def test_without_outliers_it_is_the_least_squares_solution_of_scipy(rng, scene):
    scene = planted(rng, scene, cells=30, neighbors=4, noise_px=1.0)
    tracks = scene.tracks()
    # At a huge scale the robust cost is a sum of squares.
    pose, rho, _ = solve(tracks, scene.pose(), (1e3,), 30)

    def residuals(unknown):
        turned = Rotation.from_rotvec(unknown[:3]).as_matrix() @ scene.world_from_query[:3, :3]
        centre = scene.world_from_query[:3, 3] + unknown[3:6]
        rays = np.c_[scene.x_query, np.ones(30)] @ turned.T
        offset = centre - scene.world_from_db[:, :3, 3]
        v = np.einsum(
            "nji,nkj->nki",
            scene.world_from_db[:, :3, :3],
            rays[None] + unknown[None, 6:, None] * offset[:, None],
        )
        return ((v[..., :2] / v[..., 2:] - scene.x_db) * FOCAL).ravel()

    start = np.concatenate([np.zeros(6), scene.inverse_depth])
    best = scipy.optimize.least_squares(residuals, start, x_scale="jac", xtol=1e-12, ftol=1e-12)
    theirs = scene.world_from_query.copy()
    theirs[:3, :3] = Rotation.from_rotvec(best.x[:3]).as_matrix() @ theirs[:3, :3]
    theirs[:3, 3] += best.x[3:6]
    position, degrees = pose_error(matrix(pose), theirs)
    deviation = pose_error(theirs, scene.world_from_query)
    assert position < 0.05 * deviation[0] + 2e-3
    assert degrees < 0.05 * deviation[1] + 0.02


def test_it_is_as_accurate_as_colmaps_bundle_adjustment(rng):
    ours, theirs = [], []
    for _ in range(12):
        scene = planted(rng, noise_px=1.0, cells=60, neighbors=4)
        pose, _, _ = solve(scene.tracks(), scene.pose(), (1e3,), 8)
        ours.append(pose_error(matrix(pose), scene.world_from_query))
        theirs.append(pose_error(_adjusted_by_colmap(scene), scene.world_from_query))
    assert np.all(np.median(ours, axis=0) < 1.3 * np.median(theirs, axis=0))


def _adjusted_by_colmap(scene) -> np.ndarray:
    """Points and the query's pose are free, the neighbours fixed; started at the truth."""
    model = pycolmap.Reconstruction()
    camera = pycolmap.Camera(
        model="PINHOLE", width=1000, height=1000, params=[FOCAL, FOCAL, 500, 500], camera_id=1
    )
    model.add_camera_with_trivial_rig(camera)
    poses = [*scene.world_from_db, scene.world_from_query]
    seen = [*scene.x_db, scene.x_query]
    for i, (pose, x) in enumerate(zip(poses, seen), 1):
        inverse = np.linalg.inv(pose)
        image = pycolmap.Image(
            name=f"{i}", keypoints=FOCAL * x + 500, camera_id=1, image_id=i
        )
        model.add_image_with_trivial_frame(
            image, pycolmap.Rigid3d(pycolmap.Rotation3d(inverse[:3, :3]), inverse[:3, 3])
        )
    depth = 1 / scene.inverse_depth
    points = np.c_[scene.x_query, np.ones(len(depth))] * depth[:, None]
    points = points @ scene.world_from_query[:3, :3].T + scene.world_from_query[:3, 3]
    for k, point in enumerate(points):
        track = pycolmap.Track()
        for i in range(1, len(poses) + 1):
            track.add_element(i, k)
        model.add_point3D(point, track, np.zeros(3, np.uint8))
    config = pycolmap.BundleAdjustmentConfig()
    for i in range(1, len(poses) + 1):
        config.add_image(i)
        if i < len(poses):
            config.set_constant_rig_from_world_pose(model.image(i).frame_id)
    config.set_constant_cam_intrinsics(1)
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = False
    pycolmap.create_default_bundle_adjuster(options, config, model).solve()
    return np.vstack([model.image(len(poses)).cam_from_world().inverse().matrix(), [0, 0, 0, 1]])


def test_the_information_is_that_of_the_errors(rng):
    """Squared errors in deviations have the mean of chi-squared, 6."""
    squared = []
    for _ in range(40):
        scene = planted(rng, noise_px=1.0, cells=80, neighbors=4)
        tracks = scene.tracks()
        pose, rho, _ = solve(tracks, scene.pose(), (1e3,), 8)
        turn = Rotation.from_matrix(
            np.asarray(pose.rotation, np.float64) @ scene.world_from_query[:3, :3].T
        ).as_rotvec()
        error = np.concatenate([turn, np.asarray(pose.centre) - scene.world_from_query[:3, 3]])
        squared.append(error @ np.asarray(information(tracks, pose, rho, 1e3), np.float64) @ error)
    assert 4.0 < np.mean(squared) < 8.5  # 6, with a deviation of 0.55


def test_depth_makes_one_neighbour_enough(rng):
    scene = planted(rng, neighbors=1)
    tracks = scene.tracks()._replace(
        depth=DepthPrior(
            jnp.asarray(scene.inverse_depth_db, jnp.float32),
            jnp.asarray(50 / scene.inverse_depth_db, jnp.float32),
        )
    )
    pose, _, _ = solve(tracks, perturbed(rng, scene.world_from_query))
    position, degrees = pose_error(matrix(pose), scene.world_from_query)
    assert position < 5e-3 and degrees < 0.05


def test_known_depths_do_not_speak_for_a_wrong_pose(rng):
    """Though the depth of each cell is free to agree with one that is known."""
    scene = planted(rng, neighbors=4)
    tracks = scene.tracks()._replace(depth=scene.arguments(depth=True)["depth"])
    right = scene.pose()
    turn = Rotation.from_rotvec([0, 0, rng.choice([-1, 1]) * rng.uniform(0.5, 2.5)]).as_matrix()
    wrong = QueryPose(right.rotation @ jnp.asarray(turn, jnp.float32), right.centre + 0.5)
    shares = []
    for pose in (right, wrong):
        rho = linear_inverse_depth(tracks, pose)
        rho, _ = refine_depth(tracks, pose, rho, 2.0, 6)
        shares.append(float(cost(tracks, pose, rho, 2.0)) / np.sum(tracks.weights))
    assert shares[0] < 0.01
    assert shares[1] > 0.9


def test_depths_alone(rng):
    scene = planted(rng)
    pose = scene.pose()
    start = linear_inverse_depth(scene.tracks(), pose)
    rho, known = refine_depth(scene.tracks(), pose, start, 2.0, 4)
    np.testing.assert_allclose(rho, scene.inverse_depth, rtol=2e-2, atol=1e-3)
    # How far a database's picture of the point moves by its inverse depth, in deviations.
    step = 1e-4 * scene.inverse_depth
    seen = [seen_in_database(scene, scene.inverse_depth + sign * step) for sign in (1, -1)]
    moved = FOCAL * (seen[0] - seen[1]) / (2 * step[:, None])
    expected = np.sum(moved**2, axis=(0, 2))
    np.testing.assert_allclose(known, expected, rtol=0.05)


def seen_in_database(scene, inverse_depth) -> np.ndarray:
    """[N, K, 2], in the planes z = 1."""
    points = np.c_[scene.x_query, np.ones(len(scene.x_query))] / inverse_depth[:, None]
    world = points @ scene.world_from_query[:3, :3].T + scene.world_from_query[:3, 3]
    local = np.einsum(
        "nji,nkj->nki", scene.world_from_db[:, :3, :3], world - scene.world_from_db[:, None, :3, 3]
    )
    return local[..., :2] / local[..., 2:]

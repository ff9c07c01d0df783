"""Against NumPy and SciPy; a lane holds one component of all problems."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial.transform import Rotation

from jaxreloc.geometry._kernels import lanes


def as_lanes(array):
    return tuple(jnp.asarray(array.T, jnp.float32))


def rotations(q_wxyz) -> Rotation:
    return Rotation.from_quat(np.stack(q_wxyz, axis=-1), scalar_first=True)


def matrices(rows) -> np.ndarray:
    return np.stack([np.stack([np.asarray(x) for x in row], -1) for row in rows], -2)


def test_vectors_are_numpys(rng):
    a, b = rng.normal(size=(2, 40, 3))
    product = np.stack(lanes.cross(as_lanes(a), as_lanes(b)), axis=-1)
    np.testing.assert_allclose(product, np.cross(a, b), atol=1e-5)
    np.testing.assert_allclose(lanes.dot(as_lanes(a), as_lanes(b)), (a * b).sum(1), atol=1e-5)
    lengths = np.linalg.norm(np.stack(lanes.unit(as_lanes(a)), axis=-1), axis=-1)
    np.testing.assert_allclose(lengths, 1, atol=1e-6)
    np.testing.assert_array_equal(lanes.unit(as_lanes(np.zeros((2, 3)))), 0)


def test_quaternions_are_scipys(rng):
    one, other = Rotation.random(60, rng=rng), Rotation.random(60, rng=rng)
    half_turns = Rotation.from_rotvec(np.pi * np.eye(3))  # each from a column of its own
    one = Rotation.concatenate([one[3:], half_turns])
    q_one, q_other = (as_lanes(r.as_quat(scalar_first=True)) for r in (one, other))
    rows = lanes.rotation_rows(tuple(3 * x for x in q_one))
    np.testing.assert_allclose(matrices(rows), one.as_matrix(), atol=1e-6)
    back = rotations(lanes.quaternion_from_rows(rows)) * one.inv()
    assert back.magnitude().max() < 1e-5
    product = rotations(lanes.quaternion_product(q_one, q_other))
    assert (product * (one * other).inv()).magnitude().max() < 1e-5


def test_tangents_make_a_right_handed_frame(rng):
    t = rng.normal(size=(50, 3))
    t = np.concatenate([t / np.linalg.norm(t, axis=1, keepdims=True), np.eye(3), -np.eye(3)])
    frame = np.stack([np.stack(v, -1) for v in (*lanes.tangent_basis(as_lanes(t)), as_lanes(t))], 1)
    identity = np.broadcast_to(np.eye(3), frame.shape)
    np.testing.assert_allclose(frame @ frame.swapaxes(1, 2), identity, atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(frame), 1, atol=1e-5)


def test_a_small_step_turns_the_pose_and_moves_its_direction(rng):
    pose = lanes.pose_from_array(jnp.asarray(rng.normal(size=(40, 7)), jnp.float32))
    step = 1e-3 * rng.normal(size=(40, 5))
    moved = lanes.retract(pose, as_lanes(step), 1.0)
    turn = (rotations(moved.q_wxyz) * rotations(pose.q_wxyz).inv()).as_rotvec()
    np.testing.assert_allclose(turn, step[:, :3], atol=1e-5)
    first, second = (np.stack(v, -1) for v in lanes.tangent_basis(pose.t))
    offset = np.stack(moved.t, -1) - np.stack(pose.t, -1)
    expected = step[:, 3:4] * first + step[:, 4:] * second
    np.testing.assert_allclose(offset, expected, atol=2e-5)
    np.testing.assert_allclose(np.linalg.norm(np.stack(moved.t, -1), axis=1), 1, atol=1e-6)


def test_a_long_step_is_cut(rng):
    pose = lanes.pose_from_array(jnp.asarray(rng.normal(size=(40, 7)), jnp.float32))
    step = rng.normal(size=(40, 5))
    length = np.linalg.norm(step, axis=1, keepdims=True)
    cut = lanes.retract(pose, as_lanes(step), 0.01)
    expected = lanes.retract(pose, as_lanes(step * np.minimum(1, 0.01 / length)), 1.0)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), cut, expected)


def test_poses_go_to_arrays_and_back(rng):
    array = rng.normal(size=(5, 7))
    array[0, 4:] = 0
    pose = lanes.pose_from_array(jnp.asarray(array, jnp.float32))
    array[0, 4:] = [0, 0, 1]
    array[:, :4] /= np.linalg.norm(array[:, :4], axis=1, keepdims=True)
    array[:, 4:] /= np.linalg.norm(array[:, 4:], axis=1, keepdims=True)
    np.testing.assert_allclose(lanes.pose_to_array(pose), array, atol=1e-6)
    np.testing.assert_allclose(lanes.pose_to_se3(pose).wxyz_xyz, array, atol=1e-6)


def test_equations_are_solved_and_a_singular_one_gives_finite_numbers(rng):
    half = rng.normal(size=(40, 5, 5))
    matrix = half @ half.swapaxes(1, 2) + np.eye(5)
    right = rng.normal(size=(40, 5))
    upper = tuple(jnp.float32(matrix[:, i, j]) for i in range(5) for j in range(i, 5))
    rows = lanes.symmetric(upper, 5)
    np.testing.assert_allclose(lanes.trace(rows), np.trace(matrix, axis1=1, axis2=2), rtol=1e-5)
    found = np.stack(lanes.solve_positive(rows, as_lanes(right), 0.5), axis=-1)
    expected = np.linalg.solve(matrix + 0.5 * np.eye(5), right[..., None])[..., 0]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    nothing = lanes.symmetric(tuple(jnp.zeros(40) for _ in upper), 5)
    assert np.isfinite(lanes.solve_positive(nothing, as_lanes(right))).all()

"""Rotation consensus against SciPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxreloc.geometry._kernels import rotation
from tests.geometry.paper_reference import chordal_mean, l1_cost, l1_mean
from tests.geometry.simulated_pairs import unit_vectors

COUNT, BATCH = 6, 60

chordal_mean_of = jax.jit(rotation.chordal_mean)
l1_mean_of = jax.jit(rotation.l1_mean)
paper_rotation = jax.jit(rotation.paper_rotation)


@jax.jit
def robust_rotation(q_wxyz, valid):
    return rotation.robust_rotation(q_wxyz, valid, rotation.RotationConfig())


def solve(method, rotations, valid=None):
    """Of B lists of N rotations and a mask [N, B]; padded to one shape, which is compiled once."""
    q_wxyz = np.stack([r.as_quat(scalar_first=True) for r in rotations], axis=1)
    count, batch, _ = q_wxyz.shape
    valid = np.ones((count, batch), bool) if valid is None else np.asarray(valid)
    padding = ((0, COUNT - count), (0, BATCH - batch))
    columns = np.pad(q_wxyz, (*padding, (0, 0)), mode="edge")
    columns = tuple(jnp.asarray(x, jnp.float32) for x in np.moveaxis(columns, -1, 0))
    found = method(columns, jnp.asarray(np.pad(valid, padding)))
    return jax.tree.map(lambda x: x[..., :batch] if x.ndim == 1 else x[:count, :batch], found)


def as_rotation(q_wxyz):
    return Rotation.from_quat(np.stack(q_wxyz, axis=-1).astype(float), scalar_first=True)


def scattered(rng, std_deg, count=COUNT, batch=BATCH):
    """True rotations, and hypotheses of each with noise."""
    true = Rotation.random(batch, rng=rng)
    noise = np.deg2rad(std_deg) * rng.normal(size=(batch, count, 3))
    return true, [t * Rotation.from_rotvec(n) for t, n in zip(true, noise)]


@pytest.mark.parametrize("std_deg", [0.01, 6.0, 40.0])
def test_l1_mean_costs_no_more_than_the_reference(rng, std_deg):
    _, hypotheses = scattered(rng, std_deg)
    member = rng.uniform(size=(COUNT, BATCH)) < 0.7
    member[0] |= ~member.any(axis=0)
    found = as_rotation(solve(l1_mean_of, hypotheses, member))
    no_worse = []
    for b in range(BATCH):
        members = hypotheses[b][member[:, b]]
        reference, cost = l1_mean(members)
        no_worse.append(l1_cost(found[b], members) <= cost + 2e-6)
        if std_deg < 10:
            assert np.degrees((reference.inv() * found[b]).magnitude()) < 0.05
    # Rotations far apart have several minima; each side may miss the other's now and then.
    assert np.mean(no_worse) >= (1.0 if std_deg < 10 else 0.9)


def test_l1_mean_of_a_majority_is_the_majority(rng):
    same, others = Rotation.random(BATCH, rng=rng), Rotation.random(BATCH, rng=rng)
    hypotheses = [
        Rotation.concatenate([a, a, a, b, b * b]) for a, b in zip(same, others, strict=True)
    ]
    found = solve(l1_mean_of, hypotheses)
    np.testing.assert_allclose((as_rotation(found).inv() * same).magnitude(), 0, atol=1e-5)


def with_random_signs(rng, rotations):
    """Quaternions as a tuple of float32 arrays [N, B], half of them with the other sign."""
    q_wxyz = np.stack([r.as_quat(scalar_first=True) for r in rotations], axis=1)
    q_wxyz *= rng.choice([-1.0, 1.0], (*q_wxyz.shape[:2], 1))
    return tuple(jnp.asarray(x, jnp.float32) for x in np.moveaxis(q_wxyz, -1, 0))


@pytest.mark.parametrize("std_deg", [0.0, 1e-5, 6.0, 15.0])
def test_chordal_mean_is_the_one_of_least_squared_chords(rng, std_deg):
    """SciPy's mean is the eigenvector; near one another, aligned signs give it but for O(std^3)."""
    _, hypotheses = scattered(rng, std_deg)
    member = rng.uniform(size=(COUNT, BATCH)) < 0.7
    member[0] |= ~member.any(axis=0)
    found = as_rotation(chordal_mean_of(with_random_signs(rng, hypotheses), jnp.asarray(member)))
    for b in range(BATCH):
        members = hypotheses[b][member[:, b]]
        error = np.degrees((found[b].inv() * chordal_mean(members)).magnitude())
        assert error < 1e-3
        if std_deg < 10:
            assert np.degrees((found[b].inv() * members.mean()).magnitude()) < 0.5


def test_chordal_mean_of_half_a_turn_is_defined(rng):
    """Rotations half a turn apart, each given with either sign: a unit quaternion halfway."""
    first = Rotation.random(BATCH, rng=rng)
    half_turn = Rotation.from_rotvec(np.pi * unit_vectors(rng, BATCH))
    pairs = [Rotation.concatenate([a, a * h]) for a, h in zip(first, half_turn, strict=True)]
    columns = with_random_signs(rng, pairs)
    found = chordal_mean_of(columns, jnp.ones((2, BATCH), bool))
    angles = np.degrees((as_rotation(found).inv() * first).magnitude())
    np.testing.assert_allclose(angles, 90.0, atol=1e-2)

    def total(columns):
        return sum(jnp.sum(x) for x in rotation.chordal_mean(columns, jnp.ones((2, BATCH), bool)))

    assert all(np.isfinite(x).all() for x in jax.grad(total)(columns))


def test_an_unknown_mean_is_named():
    with pytest.raises(ValueError, match="unknown mean of rotations 'l2'; known: chordal, l1"):
        rotation.paper_rotation(tuple(jnp.ones((3, 1)) for _ in range(4)), jnp.ones((3, 1)), "l2")


def test_paper_counts_within_twenty_degrees():
    # 0 and 15 deg agree with each other and with 30 only 15 does: it has three votes, alone.
    angles = np.deg2rad([0.0, 15.0, 30.0, 120.0])
    hypotheses = [Rotation.from_rotvec(angles[:, None] * np.array([[0.0, 0.0, 1.0]]))]
    found = solve(paper_rotation, hypotheses)
    assert as_rotation(found.q_wxyz).magnitude()[0] == pytest.approx(angles[1], abs=1e-6)
    np.testing.assert_array_equal(found.inlier_weight[:, 0], [1, 1, 1, 0])
    found = solve(paper_rotation, hypotheses, [[True], [False], [True], [False]])
    assert as_rotation(found.q_wxyz).magnitude()[0] == pytest.approx(angles[1], abs=1e-6)


def test_robust_finds_the_planted_rotation(rng):
    true, hypotheses = scattered(rng, 2.0)
    outliers = [Rotation.random(3, rng=rng) for _ in range(BATCH)]
    mixed = [
        Rotation.concatenate([bad, good[:3]]) for bad, good in zip(outliers, hypotheses)
    ]
    found = solve(robust_rotation, mixed)
    error = np.degrees((as_rotation(found.q_wxyz).inv() * true).magnitude())
    # Three are uniform over SO(3); one within 45 deg of the truth (2.5%) may blend in.
    assert np.mean(error < 15.0) > 0.9 and np.median(error) < 3.0
    assert np.mean(found.inlier_weight[3:]) > 0.9 and np.mean(found.inlier_weight[:3]) < 0.1


def test_robust_states_its_error(rng):
    normalized = []
    for _ in range(33):
        true, hypotheses = scattered(rng, 5.0)
        found = solve(robust_rotation, hypotheses)
        error = (as_rotation(found.q_wxyz).inv() * true).magnitude()
        normalized.append(error / np.asarray(found.std))
    assert 0.5 < np.median(np.square(normalized)) / 2.366 < 2.0


def test_no_valid_rotation_gives_the_identity(rng):
    rotations = [Rotation.from_rotvec(unit_vectors(rng, 3))]
    for method in (paper_rotation, robust_rotation):
        found = solve(method, rotations, np.zeros((3, 1), bool))
        np.testing.assert_array_equal(np.stack(found.q_wxyz)[:, 0], [1, 0, 0, 0])
        assert not found.inlier_weight.any()

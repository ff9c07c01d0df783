"""The correlation head's loss: the spread's density, its optimum, and pairs without overlap."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxreloc.models.heads.pose_prediction import PairReliability, RelativePose
from jaxreloc.training.losses.correlation_losses import CorrelationLoss, spread_loss

evaluate = jax.jit(CorrelationLoss())


@jax.jit
@jax.grad
def gradients_of(pose, target, overlaps):
    return jnp.sum(CorrelationLoss()(pose, target, overlaps)[0])


def random_pose(rng, batch=4) -> RelativePose:
    def normal(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    reliability = PairReliability(normal(batch), normal(batch), normal(batch))
    return RelativePose(normal(batch, 3), normal(batch, 4), reliability)


def random_target(rng, batch=4):
    q_xyzw = Rotation.random(batch, random_state=rng).as_quat()
    return jnp.asarray(
        np.c_[q_xyzw[:, 3:], q_xyzw[:, :3], rng.normal(size=(batch, 3))], jnp.float32
    )


@pytest.mark.parametrize("std", [0.02, 0.7])
def test_spread_is_a_density_of_that_standard_deviation(std):
    error = np.linspace(0, 30 * std, 20_001)
    log_std = jnp.full(error.shape, np.log(std), jnp.float32)
    density = np.exp(-np.asarray(spread_loss(jnp.asarray(error, jnp.float32), log_std), np.float64))

    def moment(power):
        return np.trapezoid(4 * np.pi * error**2 * error**power * density, error)

    assert moment(0) == pytest.approx(1, rel=1e-4)
    assert moment(2) / 3 == pytest.approx(std**2, rel=1e-4)


def test_spread_does_not_change_the_pose(rng):
    gradients = jax.grad(lambda e: spread_loss(e, jnp.float32(0.3)))(jnp.float32(0.5))
    assert gradients == 0
    assert jax.grad(lambda s: spread_loss(jnp.float32(0.5), s))(jnp.float32(0.3)) != 0


def test_parts_against_scipy(rng):
    pose, target = random_pose(rng), random_target(rng)
    loss, parts = evaluate(pose, target, jnp.ones(4, bool))
    q, q_target = (np.roll(np.asarray(x), -1, axis=-1) for x in (pose.q_wxyz, target[:, :4]))
    angle = (Rotation.from_quat(q).inv() * Rotation.from_quat(q_target)).magnitude()
    np.testing.assert_allclose(parts["rotation"], 2 * np.sin(angle / 4), rtol=1e-3, atol=1e-5)
    distance = np.linalg.norm(pose.t - target[:, 4:], axis=1)
    np.testing.assert_allclose(parts["translation"], distance, rtol=1e-5)
    s = np.exp(np.asarray(pose.reliability.log_std_rotation))
    expected = 2 * angle / s + 3 * np.log(s) + np.log(np.pi)
    np.testing.assert_allclose(parts["spread_rotation"], expected, rtol=1e-3)
    probability = 1 / (1 + np.exp(-np.asarray(pose.reliability.overlap_logit)))
    np.testing.assert_allclose(parts["overlap"], -np.log(probability), rtol=1e-4)
    assert loss.shape == (4,)


def test_pairs_without_overlap_teach_only_that(rng):
    pose, target = random_pose(rng), random_target(rng)
    loss, parts = evaluate(pose, target, jnp.zeros(4, bool))
    assert all(np.all(x == 0) for name, x in parts.items() if name != "overlap")
    np.testing.assert_allclose(loss, CorrelationLoss().overlap * parts["overlap"], rtol=1e-6)
    gradients = gradients_of(pose, target, jnp.zeros(4, bool))
    assert np.all(gradients.t == 0) and np.all(gradients.q_wxyz == 0)
    assert np.all(gradients.reliability.overlap_logit > 0)


def test_gradients_are_finite_at_the_target(rng):
    target = random_target(rng)
    pose = random_pose(rng).replace(t=target[:, 4:], q_wxyz=target[:, :4])
    gradients = gradients_of(pose, target, jnp.ones(4, bool))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradients))

"""The losses against NumPy and SciPy, their invariances and their gradients."""

import functools

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxreloc.training.losses import pose_losses
from jaxreloc.training.losses.pose_losses import PairLoss
from jaxreloc.usage import UsageError

OPTIONS = [
    {"translation": translation, "weighting": weighting}
    for translation in pose_losses.TRANSLATIONS
    for weighting in pose_losses.WEIGHTINGS
]


def random_pairs(rng, count=50):
    target_q = Rotation.random(count, rng=rng).as_quat(scalar_first=True)
    target = np.concatenate([target_q, rng.normal(size=(count, 3))], axis=1)
    return rng.normal(size=(count, 3)), rng.normal(size=(count, 4)), target


@functools.partial(jax.jit, static_argnums=0)
def compiled(loss, log_variances, t, q, target):
    return loss(log_variances, t, q, target)


@functools.partial(jax.jit, static_argnums=0)
def gradients(loss, t, q, target):
    """Of the sum over the pairs by t and q, and so of each pair by its own."""
    return jax.grad(lambda t, q: jnp.sum(loss(loss.init(), t, q, target)[0]), argnums=(0, 1))(t, q)


def evaluate(loss, t, q, target, log_variances=None):
    total, parts = compiled(loss, log_variances or loss.init(), t, q, target)
    return np.asarray(total), {name: np.asarray(x) for name, x in parts.items()}


def test_the_papers_loss_is_the_two_norms(rng):
    t, q, target = random_pairs(rng)
    total, _ = evaluate(PairLoss(beta=2.5), t, q, target)
    unit = q / np.linalg.norm(q, axis=1, keepdims=True)
    nearer = np.minimum(
        np.linalg.norm(unit - target[:, :4], axis=1), np.linalg.norm(unit + target[:, :4], axis=1)
    )
    expected = np.linalg.norm(t - target[:, 4:], axis=1) + 2.5 * nearer
    np.testing.assert_allclose(total, expected, rtol=1e-5)


def test_rotation_part_is_twice_the_sine_of_a_quarter_of_the_angle(rng):
    _, q, target = random_pairs(rng)
    difference = Rotation.from_quat(q, scalar_first=True).inv() * Rotation.from_quat(
        target[:, :4], scalar_first=True
    )
    expected = 2 * np.sin(difference.magnitude() / 4)
    np.testing.assert_allclose(pose_losses.rotation_chord(q, target[:, :4]), expected, rtol=1e-4)


def test_direction_and_length_parts(rng):
    t, q, target = random_pairs(rng)
    t_target = target[:, 4:]
    _, parts = evaluate(PairLoss("direction_length"), t, q, target)
    cosine = (
        np.sum(t * t_target, axis=1) / np.linalg.norm(t, axis=1) / np.linalg.norm(t_target, axis=1)
    )
    np.testing.assert_allclose(parts["direction"], np.sqrt(2 - 2 * cosine), rtol=1e-3, atol=1e-4)
    ratio = (np.linalg.norm(t, axis=1) + 0.01) / (np.linalg.norm(t_target, axis=1) + 0.01)
    np.testing.assert_allclose(parts["log_length"], np.abs(np.log(ratio)), rtol=1e-4, atol=1e-5)


def test_a_pair_without_baseline_has_no_direction(rng):
    t, q, target = random_pairs(rng)
    norm = np.linalg.norm(target[:, 4:], axis=1, keepdims=True)
    target[:, 4:] *= 0.5 * pose_losses.MIN_LENGTH / norm
    _, parts = evaluate(PairLoss("direction_length"), t, q, target)
    assert np.all(parts["direction"] == 0)
    assert np.all(parts["log_length"] > 0)


def test_learned_weighting_is_kendall_and_cipollas(rng):
    t, q, target = random_pairs(rng)
    s = {"translation": jnp.float32(0.7), "rotation": jnp.float32(-2.0)}
    total, parts = evaluate(PairLoss(weighting="learned"), t, q, target, s)
    expected = parts["translation"] * np.exp(-0.7) + 0.7 + parts["rotation"] * np.exp(2.0) - 2.0
    np.testing.assert_allclose(total, expected, rtol=1e-5, atol=1e-5)
    assert {k: float(v) for k, v in PairLoss(weighting="learned").init().items()} == {
        "translation": 0.0,
        "rotation": -3.0,
    }


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_sign_and_length_of_the_quaternion_do_not_matter(options, rng):
    t, q, target = random_pairs(rng)
    loss = PairLoss(**options)
    total, _ = evaluate(loss, t, q, target)
    flipped = target * np.r_[-np.ones(4), np.ones(3)]
    np.testing.assert_allclose(evaluate(loss, t, 7.3 * q, flipped)[0], total, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_truth_costs_nothing_and_has_a_finite_gradient(options, rng):
    _, _, target = random_pairs(rng)
    loss = PairLoss(**options)
    _, parts = evaluate(loss, target[:, 4:], target[:, :4], target)
    assert all(np.all(x < 1e-3) for x in parts.values())
    for t, q in ((target[:, 4:], target[:, :4]), (np.zeros((50, 3)), np.zeros((50, 4)))):
        assert all(np.isfinite(g).all() for g in gradients(loss, t, q, target))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_gradient_is_the_slope(options, rng):
    """Of pairs whose loss has no kink within the step: orthogonal quaternions, equal lengths."""
    t, q, target = random_pairs(rng)
    cosine = np.sum(q * target[:, :4], axis=1) / np.linalg.norm(q, axis=1)
    ratio = np.linalg.norm(t, axis=1) / np.linalg.norm(target[:, 4:], axis=1)
    smooth = (np.abs(cosine) > 0.03) & (np.abs(np.log(ratio)) > 0.03)
    assert smooth.sum() > 20
    loss, step = PairLoss(**options), 1e-3
    t_ahead, q_ahead = rng.normal(size=t.shape), rng.normal(size=q.shape)
    t_gradient, q_gradient = gradients(loss, t, q, target)
    slope = np.sum(t_gradient * t_ahead, axis=1) + np.sum(q_gradient * q_ahead, axis=1)
    after, before = (
        evaluate(loss, t + x * t_ahead, q + x * q_ahead, target)[0] for x in (step, -step)
    )
    expected = (after - before) / (2 * step)
    np.testing.assert_allclose(slope[smooth], expected[smooth], rtol=0.02, atol=0.02)


def test_low_precision_predictions_are_compared_in_float32(rng):
    t, q, target = random_pairs(rng)
    total, _ = PairLoss()({}, jnp.bfloat16(t), jnp.bfloat16(q), target)
    rounded = np.float32(jnp.bfloat16(t)), np.float32(jnp.bfloat16(q))
    assert total.dtype == jnp.float32
    np.testing.assert_allclose(total, evaluate(PairLoss(), *rounded, target)[0], rtol=1e-5)


def test_unknown_names_list_the_known_ones():
    with pytest.raises(UsageError, match="direction_length, metric"):
        pose_losses.build_loss(ml_collections.ConfigDict({"translation": "meters"}))
    with pytest.raises(UsageError, match="fixed, learned"):
        PairLoss(weighting="none")

"""Adam against a NumPy version of it, and the schedules at their corners."""

import jax
import ml_collections
import numpy as np
import optax
import pytest

from jaxreloc.training.optimizer import build_optimizer
from jaxreloc.usage import UsageError


def build(num_steps=100, **fields):
    return build_optimizer(ml_collections.ConfigDict(fields), num_steps)


def test_updates_are_adams(rng):
    gradients = rng.normal(size=(5, 3))
    optimizer, _ = build(learning_rate=0.1, b1=0.8, b2=0.95, eps=1e-6)
    x = {"kernel": np.zeros((3, 1), np.float32)}
    state = optimizer.init(x)
    m, v, expected = np.zeros(3), np.zeros(3), np.zeros(3)
    for k, g in enumerate(gradients, start=1):
        updates, state = optimizer.update({"kernel": np.float32(g[:, None])}, state, x)
        x = optax.apply_updates(x, updates)
        m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g**2
        expected -= 0.1 * (m / (1 - 0.8**k)) / (np.sqrt(v / (1 - 0.95**k)) + 1e-6)
    np.testing.assert_allclose(x["kernel"][:, 0], expected, rtol=1e-4)


def test_weight_decay_spares_vectors():
    optimizer, _ = build(learning_rate=0.1, weight_decay=0.5)
    x = {"kernel": np.ones((2, 2), np.float32), "bias": np.ones(2, np.float32)}
    zero = {name: np.zeros_like(value) for name, value in x.items()}
    updates, _ = optimizer.update(zero, optimizer.init(x), x)
    np.testing.assert_allclose(updates["kernel"], -0.05, rtol=1e-6)
    np.testing.assert_allclose(updates["bias"], 0)


def test_gradients_are_clipped_to_a_norm():
    big = {"kernel": np.full((2, 2), 1e6, np.float32)}
    moments = []
    for max_gradient_norm in (None, 1.0):
        optimizer, _ = build(learning_rate=0.1, max_gradient_norm=max_gradient_norm, b1=0.0)
        _, state = optimizer.update(big, optimizer.init(big), big)
        moments.append(np.linalg.norm(optax.tree_utils.tree_get(state, "mu")["kernel"]))
    np.testing.assert_allclose(moments, [2e6, 1.0], rtol=1e-5)


def test_steps_multiply_at_their_boundaries_after_a_warmup():
    _, schedule = build(
        learning_rate=0.4, schedule="steps", warmup_steps=4, decay_at=(10, 20), decay_factor=0.5
    )
    rates = [float(schedule(k)) for k in (0, 2, 4, 9, 10, 19, 20, 99)]
    np.testing.assert_allclose(rates, [0, 0.2, 0.4, 0.4, 0.2, 0.2, 0.1, 0.1], rtol=1e-6)


def test_cosine_ends_at_zero_and_constant_stays():
    _, cosine = build(learning_rate=0.4, schedule="cosine")
    np.testing.assert_allclose([cosine(0), cosine(50), cosine(100)], [0.4, 0.2, 0], atol=1e-7)
    _, constant = build(learning_rate=0.4)
    assert float(constant(0)) == float(constant(10**6)) == np.float32(0.4)


def test_wrong_values_are_named():
    with pytest.raises(UsageError, match="constant, cosine, steps"):
        build(learning_rate=1.0, schedule="linear")
    with pytest.raises(UsageError, match="optimizer.learning_rate is 0"):
        build(learning_rate=0)


def test_frozen_parts_stay_and_have_no_moments():
    params = {"network": {"backbone": {"kernel": np.ones((2, 2))}, "head": {"bias": np.ones(3)}}}
    params["loss"] = {"rotation": np.ones(())}
    transformation, _ = build(learning_rate=0.1, frozen=("backbone",))
    state = transformation.init(params)
    sizes = sorted(x.shape for x in jax.tree.leaves(state) if x.shape == (2, 2))
    assert not sizes
    updates, _ = transformation.update(jax.tree.map(np.ones_like, params), state, params)
    assert not np.any(updates["network"]["backbone"]["kernel"])
    for trained in (updates["network"]["head"]["bias"], updates["loss"]["rotation"]):
        np.testing.assert_allclose(trained, -0.1, rtol=1e-4)
    for unknown in ("body", "head/bia"):
        transformation, _ = build(learning_rate=0.1, frozen=(unknown,))
        with pytest.raises(UsageError, match=f"no part '{unknown}'; its parts are backbone, head"):
            transformation.init(params)


def test_a_part_of_a_part_can_be_frozen():
    head = {"description": {"kernel": np.ones((2, 2))}, "regression": {"kernel": np.ones((2, 2))}}
    params = {"network": {"head": head}, "loss": {}}
    transformation, _ = build(learning_rate=0.1, frozen=("head/regression",))
    updates, _ = transformation.update(params, transformation.init(params), params)
    assert not np.any(updates["network"]["head"]["regression"]["kernel"])
    np.testing.assert_allclose(updates["network"]["head"]["description"]["kernel"], -0.1, rtol=1e-4)

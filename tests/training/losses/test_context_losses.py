"""The loss of the matching in context: least for the truth, and silent on what is not known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreloc.models.matching.context.context_matching import ContextScores
from jaxreloc.training.losses.context_losses import ContextLoss, outcomes

SHAPE = (4, 5)
COUNT = SHAPE[0] * SHAPE[1]
LOSS = ContextLoss(none=0.5)
of_batch = jax.jit(lambda scores, batch: LOSS.of_batch({}, scores, batch))


def still_batch(depth=2.0):
    """Two pictures from one place: each cell is its own match."""
    intrinsics = np.float32([[[70, 0, 39.5], [0, 70, 31.5], [0, 0, 1]]])
    depth = np.full((1, 4 * SHAPE[0], 4 * SHAPE[1]), depth, np.float32)
    sides = {f"{name}_depth": depth for name in ("db", "query")}
    sides |= {f"{name}_intrinsics": intrinsics for name in ("db", "query")}
    sides |= {f"{name}_coarse": np.zeros((1, *SHAPE, 1), np.int8) for name in ("db", "query")}
    sides |= {f"{name}_origin": np.zeros((1, 2), np.int32) for name in ("db", "query")}
    return sides | {"db_from_query": np.float32([[1, 0, 0, 0, 0, 0, 0]])}


def scores_of(logits, query_none=-5.0, db_none=-5.0):
    return ContextScores(
        logits=jnp.asarray(logits, jnp.float32)[None],
        query_none=jnp.full((1, COUNT), query_none),
        db_none=jnp.full((1, COUNT), db_none),
    )


def test_the_truth_costs_nothing_and_other_matches_much(rng):
    true = 30 * np.eye(COUNT)
    loss, parts = of_batch(scores_of(true), still_batch())
    # At the last row and column a thousandth of the target lies on the cell before.
    assert loss[0] < 0.05 and parts["none"][0] == 0
    wrong = np.roll(true, rng.integers(1, COUNT), axis=1)
    assert of_batch(scores_of(wrong), still_batch())[0][0] > 5


def test_even_scores_cost_the_logarithm_of_the_outcomes():
    """COUNT cells, and none with a share of e^-5 of a cell."""
    loss, parts = of_batch(scores_of(np.zeros((COUNT, COUNT))), still_batch())
    np.testing.assert_allclose(parts["matched"], np.log(COUNT + np.exp(-5)), rtol=1e-5)
    np.testing.assert_allclose(loss, parts["matched"], rtol=1e-6)


def test_cells_that_the_other_does_not_show_should_have_none():
    """A camera that looks the other way."""
    batch = still_batch() | {"db_from_query": np.float32([[0, 0, 1, 0, 0, 0, 0]])}
    sure = of_batch(scores_of(np.zeros((COUNT, COUNT)), 30.0, 30.0), batch)[1]
    assert sure["none"][0] < 1e-3 and sure["matched"][0] == 0
    unsure = of_batch(scores_of(np.zeros((COUNT, COUNT))), batch)[1]
    np.testing.assert_allclose(unsure["none"], np.log(1 + COUNT * np.exp(5)), rtol=1e-4)


def test_cells_without_depth_do_not_count(rng):
    batch = still_batch(depth=0.0)
    scores = scores_of(rng.normal(size=(COUNT, COUNT)))
    loss, parts = of_batch(scores, batch)
    assert loss[0] == 0 and all(x[0] == 0 for x in parts.values())
    gradient = jax.grad(lambda s: LOSS.of_batch({}, s, batch)[0][0])(scores)
    assert all(np.all(x == 0) for x in jax.tree.leaves(gradient))


def test_both_images_count_alike(rng):
    """The loss of a pair and of the same pair in the other order."""
    t = rng.uniform(-0.2, 0.2, 3)
    batch = still_batch() | {"db_from_query": np.float32([[1, 0, 0, 0, *t]])}
    other = batch | {"db_from_query": np.float32([[1, 0, 0, 0, *-t]])}
    scores = scores_of(rng.normal(size=(COUNT, COUNT)), -1.0, 1.0)
    swapped = ContextScores(
        jnp.swapaxes(scores.logits, 1, 2), scores.db_none, scores.query_none
    )
    np.testing.assert_allclose(
        of_batch(scores, batch)[0], of_batch(swapped, other)[0], rtol=1e-5
    )


def test_a_cell_is_shown_hidden_or_neither(rng):
    t = rng.uniform(-0.5, 0.5, 3)
    batch = still_batch() | {"db_from_query": np.float32([[1, 0, 0, 0, *t]])}
    true, hidden = outcomes(batch, "query", "db")
    assert not np.any(np.asarray(true.visible) & np.asarray(hidden))
    assert np.any(np.asarray(true.visible) | np.asarray(hidden))


def test_thinned_cells_lie_among_those_that_are_left(rng):
    """Of 8 x 8 cells every second one; each is its own match, half a step off where origins are."""
    batch = still_batch()
    for name in ("db", "query"):
        batch |= {
            f"{name}_depth": np.full((1, 32, 32), 2.0, np.float32),
            f"{name}_coarse": np.zeros((1, 4, 4, 1), np.int8),
            f"{name}_origin": rng.integers(2, size=(1, 2)).astype(np.int32),
        }
    true, hidden = outcomes(batch, "query", "db")
    step = (batch["query_origin"] - batch["db_origin"]) / 2
    expected = np.stack(np.indices((4, 4)), -1) + step[:, None, None]
    assert true.visible.shape == hidden.shape == (1, 4, 4) and np.all(true.visible)
    np.testing.assert_allclose(true.db_cells, expected, atol=1e-3)


@pytest.mark.parametrize("size", [1e3, 1e6])
def test_large_scores_have_finite_gradients(rng, size):
    scores = scores_of(size * rng.normal(size=(COUNT, COUNT)))
    gradient = jax.grad(lambda s: LOSS.of_batch({}, s, still_batch())[0][0])(scores)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradient))

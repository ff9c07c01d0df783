"""The loss on true matches: least for descriptors that match, finite for all."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreloc.models.matching.descriptors import CellDescriptors
from jaxreloc.training.losses import descriptor_losses
from jaxreloc.training.losses.descriptor_losses import DescriptorLoss, coarse_matches
from tests.models.matching.planted import unit

HEIGHT, WIDTH = 4, 6  # coarse cells
SIZE = 128
INTRINSICS = np.float32([[[90.0, 0, 47.5], [0, 90.0, 31.5], [0, 0, 1]]])


def random_descriptors(rng):
    grids = [
        unit(rng.normal(size=(1, scale * HEIGHT, scale * WIDTH, SIZE))).astype(np.float32)
        for scale in (4, 2, 1)
    ]
    return CellDescriptors(*map(jnp.asarray, grids), is_joined=True)


def flat_wall(rng, shift_cells=0):
    """Views of a wall 2 m away, the query's camera moved along x by some coarse cells."""
    depth = np.full((1, 4 * HEIGHT, 4 * WIDTH), 2.0, np.float32)
    return {
        "db_depth": depth,
        "query_depth": depth,
        "db_intrinsics": INTRINSICS,
        "query_intrinsics": INTRINSICS,
        "db_from_query": np.float32([[1, 0, 0, 0, 16 * shift_cells * 2 / 90, 0, 0]]),
        "draw": rng.integers(1 << 32, size=1, dtype=np.uint32),
    }


loss_of = jax.jit(DescriptorLoss().of_batch)
value_and_gradient = jax.jit(
    jax.value_and_grad(lambda descriptors, batch: loss_of({}, descriptors, batch)[0].sum())
)
counted = jax.jit(coarse_matches)


def test_matching_descriptors_cost_next_to_nothing_and_others_much(rng):
    db = random_descriptors(rng)
    _, parts = loss_of({}, (db, db), flat_wall(rng))
    assert parts["coarse"] < 0.05
    assert parts["fine"] < 0.05
    assert parts["detail"] < 0.5  # two patches a cell apart share half their cells
    assert parts["fine_offset"] < 0.05 and parts["detail_offset"] < 0.2
    total, others = loss_of({}, (db, random_descriptors(rng)), flat_wall(rng))
    assert others["coarse"] > 2
    assert others["fine"] > 2
    assert others["detail"] > 1
    weights = {"coarse": 1.0} | dataclasses.asdict(DescriptorLoss())
    np.testing.assert_allclose(total, sum(weights[k] * others[k] for k in weights), rtol=1e-5)
    assert set(others) == set(DescriptorLoss.part_names)


def test_the_coarse_part_is_the_cross_entropy_of_both_directions(rng):
    db, query = random_descriptors(rng), random_descriptors(rng)
    _, parts = loss_of({}, (db, query), flat_wall(rng, shift_cells=1))
    query_cells, db_cells = (np.asarray(x.coarse).reshape(-1, SIZE) for x in (query, db))
    logits = 30 * query_cells @ db_cells.T
    log_forward = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    log_reverse = logits - np.logaddexp.reduce(logits, axis=0, keepdims=True)
    # What the query sees at column c, the database image shows a column further right.
    seen = [r * WIDTH + c for r in range(HEIGHT) for c in range(WIDTH - 1)]
    of_cell = [-(log_forward[i, i + 1] + log_reverse[i, i + 1]) / 2 for i in seen]
    expected = np.mean(np.minimum(of_cell, descriptor_losses.MAX_COARSE_LOSS))
    np.testing.assert_allclose(parts["coarse"][0], expected, rtol=2e-3)


def test_counts_the_cells_that_are_matched_right(rng):
    db = random_descriptors(rng)
    query = db.replace(coarse=jnp.roll(db.coarse, -1, axis=2))
    right, visible = counted((db, query), flat_wall(rng, shift_cells=1))
    assert visible[0] == HEIGHT * (WIDTH - 1)
    assert right[0] == visible[0]
    far = db.replace(coarse=jnp.roll(db.coarse, 3, axis=2))
    right, _ = counted((db, far), flat_wall(rng))
    assert right[0] == 0


@pytest.mark.parametrize("shift_cells", [0, 100])
def test_gradients_are_finite_with_and_without_an_overlap(rng, shift_cells):
    db, query = random_descriptors(rng), random_descriptors(rng)
    batch = flat_wall(rng, shift_cells)
    value, gradient = value_and_gradient((db, query), batch)
    assert np.isfinite(value)
    for leaf in jax.tree.leaves(gradient):
        assert np.all(np.isfinite(leaf))
    moves = any(np.any(leaf != 0) for leaf in jax.tree.leaves(gradient))
    assert moves == (shift_cells == 0)
    assert (value == 0) == (shift_cells == 100)

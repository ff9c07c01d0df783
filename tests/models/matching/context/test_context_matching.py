"""Matching in context: what it begins with, what it does not depend on, and what breaks it not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreloc.models.matching import coarse_to_fine
from jaxreloc.models.matching.context import context_matching
from jaxreloc.models.matching.context.coarse_in_context import best_cells, coarse_in_context
from jaxreloc.models.matching.context.context_matching import (
    CoarseGrid,
    ContextMatching,
    by_blocks,
    cell_rays,
    first_matches,
)
from jaxreloc.models.matching.descriptors import CellDescriptors
from jaxreloc.models.matching.learned_description import LEARNED_SETTINGS
from tests.models.matching.planted import unit

MODULE = ContextMatching()
apply = jax.jit(MODULE.apply)
SHAPE = (4, 6)


def grid(rng, batch=2, shape=SHAPE):
    intrinsics = np.float32([[90, 0, 47.5], [0, 90, 31.5], [0, 0, 1]])
    intrinsics = np.repeat(intrinsics[None], batch, axis=0)
    intrinsics[:, :2] *= rng.uniform(0.7, 1.4, (batch, 1, 1)).astype(np.float32)
    cells = unit(rng.normal(size=(batch, *shape, 96))).astype(np.float32)
    fine = np.concatenate([unit(rng.normal(size=(batch, *shape, 48))) for _ in range(4)], axis=-1)
    fine = fine.astype(np.float32)
    return CoarseGrid(*map(jnp.asarray, (cells, fine)), cell_rays(shape, jnp.asarray(intrinsics)))


@pytest.fixture(scope="module")
def first():
    blank = CoarseGrid(*(jnp.zeros((1, 2, 2, size)) for size in (96, 192, 2)))
    return MODULE.init(jax.random.key(0), blank, blank)


@pytest.fixture
def learned(first, rng):
    """Weights anywhere, so that the context has a say."""
    return jax.tree.map(lambda x: x + jnp.asarray(rng.normal(0, 0.1, x.shape), jnp.float32), first)


def test_before_training_the_matches_are_those_of_the_descriptors(rng, first):
    """All of them; that a cell may have no counterpart takes some of their confidence."""
    query, db = grid(rng), grid(rng)
    scores = apply(first, query, db)
    for k in range(2):
        plain, sure = coarse_to_fine.coarse_matches(
            query.descriptors[k], db.descriptors[k], LEARNED_SETTINGS.coarse_temperature
        )
        one = jax.tree.map(lambda x, k=k: x[k : k + 1], scores)
        cells, confidence = best_cells(one, *SHAPE)
        np.testing.assert_array_equal(cells, plain)
        assert (np.asarray(confidence) <= np.asarray(sure) * (1 + 1e-4)).all()
        never = one.replace(query_none=one.query_none - 99, db_none=one.db_none - 99)
        np.testing.assert_allclose(best_cells(never, *SHAPE)[1], sure, rtol=2e-4)


def test_pairs_do_not_see_each_other(rng, learned):
    query, db = grid(rng, 3), grid(rng, 3)
    order = rng.permutation(3)
    whole = apply(learned, query, db)
    turned = apply(learned, *jax.tree.map(lambda x: x[order], (query, db)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[order], b, atol=2e-4), whole, turned)


def test_images_that_change_places_change_rows_and_columns(rng, learned):
    query, db = grid(rng), grid(rng)
    one, other = apply(learned, query, db), apply(learned, db, query)
    np.testing.assert_allclose(one.logits, np.swapaxes(other.logits, 1, 2), atol=2e-3)
    np.testing.assert_allclose(one.query_none, other.db_none, atol=2e-4)


def test_probabilities_of_a_cell_sum_to_one_with_none(rng, learned):
    scores = apply(learned, grid(rng), grid(rng))
    forward = np.exp(np.asarray(scores.logits - scores.of_query()[..., None], np.float64))
    none = np.exp(np.asarray(scores.query_none - scores.of_query(), np.float64))
    np.testing.assert_allclose(forward.sum(axis=2) + none, 1, rtol=1e-4)
    reverse = np.exp(np.asarray(scores.logits - scores.of_db()[:, None], np.float64))
    assert (reverse.sum(axis=1) <= 1 + 1e-4).all()
    _, confidence = best_cells(jax.tree.map(lambda x: x[:1], scores), *SHAPE)
    assert (np.asarray(confidence) >= 0).all() and (np.asarray(confidence) <= 1 + 1e-4).all()


def test_empty_cells_are_never_matched_nor_heard(rng, learned):
    """What stands in the canvas beside a picture changes nothing."""
    query, db = grid(rng), grid(rng)
    filled = np.ones((2, *SHAPE, 1), np.float32)
    filled[:, :, 4:] = 0
    db = db.replace(descriptors=db.descriptors * filled)
    other = db.replace(
        rays=jnp.where(filled > 0, db.rays, 7.0), fine=jnp.where(filled > 0, db.fine, 0.3)
    )
    scores, same = (apply(learned, query, x) for x in (db, other))
    inside = np.flatnonzero(filled[0].reshape(-1))
    np.testing.assert_allclose(scores.logits[..., inside], same.logits[..., inside], atol=1e-3)
    forward = np.exp(np.asarray(scores.logits - scores.of_query()[..., None]))
    assert np.delete(forward, inside, axis=2).max() < 1e-6


@pytest.mark.parametrize("kind", ["black", "one colour", "itself", "upside down"])
def test_odd_pictures_give_numbers(rng, learned, kind):
    query = grid(rng)
    db = {
        "black": query.replace(
            descriptors=jnp.zeros_like(query.descriptors), fine=jnp.zeros_like(query.fine)
        ),
        "one colour": query.replace(
            descriptors=jnp.broadcast_to(query.descriptors[:, :1, :1], query.descriptors.shape),
            fine=jnp.broadcast_to(query.fine[:, :1, :1], query.fine.shape),
        ),
        "itself": query,
        "upside down": query.replace(
            descriptors=query.descriptors[:, ::-1, ::-1], fine=query.fine[:, ::-1, ::-1]
        ),
    }[kind]
    pairs = [(query, db), (db, query), (db, db)]
    for pair in pairs:
        scores = apply(learned, *pair)
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(scores))
        cells, confidence = best_cells(jax.tree.map(lambda x: x[:1], scores), *SHAPE)
        assert np.isfinite(confidence).all()
        assert (np.asarray(cells) >= 0).all() and (np.asarray(cells) < SHAPE).all()
        if kind == "black":
            assert np.asarray(confidence).max() < 1e-3


def test_first_matches_are_the_means_that_numpy_gives(rng):
    query, db = grid(rng, 1), grid(rng, 1)
    logits = rng.uniform(-20, 0, (1, 24, 24)).astype(np.float32)
    rays = [np.asarray(x.rays, np.float64).reshape(24, 2) for x in (query, db)]
    found = first_matches(jnp.asarray(logits), *(x.rays.reshape(1, 24, 2) for x in (query, db)))
    likelihood = np.exp(logits[0].astype(np.float64))
    both = likelihood**2 / likelihood.sum(0) / likelihood.sum(1)[:, None]
    for weights, there, told in ((both, rays[1], found[0]), (both.T, rays[0], found[1])):
        share = weights / (weights.sum(1, keepdims=True) + context_matching.SMALLEST)
        np.testing.assert_allclose(told[0, :, :2], share @ there, atol=1e-4)
        np.testing.assert_allclose(told[0, :, 4], 0.2 * np.log(weights.sum(1) + 1e-4), atol=1e-4)


def test_the_fine_cells_of_a_coarse_one_stand_by_rows(rng):
    fine = rng.normal(size=(2, 6, 8, 3))
    cells = np.asarray(by_blocks(jnp.asarray(fine, jnp.float32)))
    expected = np.concatenate([fine[:, 4, 2], fine[:, 4, 3], fine[:, 5, 2], fine[:, 5, 3]], axis=-1)
    np.testing.assert_allclose(cells[:, 2, 1], expected, rtol=1e-6)


def test_rays_are_those_of_the_cells_centres():
    """The centre of the cell (1, 2) is the pixel (39.5, 23.5)."""
    intrinsics = jnp.array([[[100.0, 0, 50], [0, 80.0, 40], [0, 0, 1]]])
    rays = cell_rays((3, 4), intrinsics)
    np.testing.assert_allclose(rays[0, 1, 2], [(39.5 - 50) / 100, (23.5 - 40) / 80], rtol=1e-6)


def test_a_query_is_shared_by_its_pairs(rng, learned):
    """One query with three images gives what three pairs give."""
    cells = unit(rng.normal(size=(4, *SHAPE, 96))).astype(np.float32)
    fine = unit(rng.normal(size=(4, *(2 * side for side in SHAPE), 48))).astype(np.float32)
    empty = np.zeros((4, 0, 0, 1), np.float32)
    every = CellDescriptors(empty, jnp.asarray(fine), jnp.asarray(cells), is_joined=True)
    query, db = (jax.tree.map(lambda x, s=s: x[s], every) for s in (slice(1), slice(1, 4)))
    intrinsics = jnp.asarray(np.repeat(np.float32([[[90, 0, 47], [0, 90, 31], [0, 0, 1]]]), 3, 0))
    scoring = lambda q, d: MODULE.apply(learned, q, d)  # noqa: E731
    places, confidence = coarse_in_context(scoring, query, db, intrinsics[:1], intrinsics)
    thrice = jax.tree.map(lambda x: jnp.repeat(x, 3, axis=0), query)
    again = coarse_in_context(scoring, thrice, db, intrinsics, intrinsics)
    np.testing.assert_array_equal(places, again[0])
    np.testing.assert_allclose(confidence, again[1], rtol=1e-4)
    assert places.shape == (3, 24, 2) and confidence.shape == (3, 24)


def test_gradients_are_finite(rng, learned):
    query, db = grid(rng, 1), grid(rng, 1)
    db = db.replace(descriptors=db.descriptors.at[:, 0].set(0.0))
    gradient = jax.jit(jax.grad(lambda v: jnp.mean(MODULE.apply(v, query, db).of_query())))(learned)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradient))

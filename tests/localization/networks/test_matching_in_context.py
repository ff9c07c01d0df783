"""Whole images matched in context."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxreloc.localization.networks.match_network import MatchNetwork
from jaxreloc.localization.networks.matcher import ContextMatcher
from jaxreloc.models.weights.network_weights import shipped_matcher
from tests.localization.networks.test_match_network import encode, photograph

CANVAS = (128, 160)


@pytest.fixture(scope="module")
def shipped() -> MatchNetwork:
    return MatchNetwork(shipped_matcher(CANVAS))


def test_a_context_that_moves_no_cell_leaves_the_matches_of_the_descriptors(shipped, rng):
    """As before training. Their weights are less where a cell may have no counterpart."""
    variables = jax.tree.map(np.asarray, shipped.loaded.variables)
    moves = variables["params"]["head"]["context"]["shifted"]
    moves["kernel"] = np.zeros_like(moves["kernel"])
    network = MatchNetwork(dataclasses.replace(shipped.loaded, variables=variables))
    assert isinstance(network, ContextMatcher) and network.has_context
    picture = photograph(rng, 240, 320)
    other = np.roll(picture, 16, axis=1)
    one, two = encode(network, picture), encode(network, other)
    similarity = network.similarity(one[0], two[0])
    plain = network.match_tracks(*one, *two, similarity)
    context = network.match_tracks_in_context(*one, *two)

    def places(tracks):
        cells = np.concatenate([tracks.query_cells, tracks.db_cells[0]], axis=1)
        return {tuple(np.round(x, 2)) for x in np.asarray(cells)}

    common = len(places(plain) & places(context)) / len(places(plain))
    assert common > 0.95
    assert np.isfinite(context.weights).all()


ODD = ["black", "one colour", "8x8", "upside down", "of elsewhere", "itself"]


@pytest.mark.parametrize("kind", ODD)
def test_of_odd_pictures_only_one_and_itself_agree(shipped, rng, kind):
    picture = photograph(rng, 240, 320)
    odd = {
        "black": np.zeros_like(picture),
        "one colour": np.full_like(picture, 90),
        "8x8": picture[:8, :8],
        "upside down": picture[::-1, ::-1],
        "of elsewhere": photograph(rng, 240, 320),
        "itself": picture,
    }[kind]
    one, two = encode(shipped, picture), encode(shipped, np.ascontiguousarray(odd))
    for pair in ((one, two), (two, one)):
        tracks = shipped.match_tracks_in_context(*pair[0], *pair[1])
        weights = np.asarray(tracks.weights)
        assert np.isfinite(tracks.x_db).all() and np.isfinite(weights).all()
        assert (weights >= 0).all() and (weights <= 1).all()
        relations = shipped.relate_in_context(*pair[0], *pair[1])
        pose, agreeing = relations.db_from_query.wxyz_xyz[0], relations.support[0] * weights.sum()
        assert not relations.valid[0] or np.isfinite(pose).all()
        if kind == "itself":
            assert agreeing > 250
            np.testing.assert_allclose(np.abs(pose[0]), 1, atol=1e-3)
        else:
            assert agreeing < (1 if kind in ("black", "8x8") else 120)


def test_what_ships_has_context(shipped):
    assert shipped.has_context

"""Whole images matched in context, by a network whose context begins to learn."""

import jax
import numpy as np
import pytest

from jaxreloc.localization.networks.match_network import MatchNetwork
from jaxreloc.localization.networks.matcher import ContextMatcher
from jaxreloc.models.build import build_network
from jaxreloc.models.weights.network_weights import MATCHER, first_variables, shipped_matcher
from jaxreloc.models.weights.saved_network import LoadedNetwork
from tests.localization.networks.test_match_network import encode, photograph

CANVAS = (128, 160)
SHIPPED = {"description": "learned", "pretrained_description": "shipped"}


@pytest.fixture(scope="module")
def network() -> MatchNetwork:
    model = MATCHER | SHIPPED | {"context": True}
    built = build_network(model)
    first = first_variables(model, built, jax.random.key(1))
    config = {"model": model, "data": {"image_size": CANVAS}, "estimator": "matches"}
    return MatchNetwork(LoadedNetwork(built, first, config))


def test_before_training_a_pair_gets_the_matches_of_the_descriptors(network, rng):
    """The places are the same; their weights are less where a cell may have no counterpart."""
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


@pytest.mark.parametrize("kind", ["black", "one colour", "8x8", "upside down", "itself"])
def test_odd_pictures_are_matched_without_nonsense(network, rng, kind):
    picture = photograph(rng, 240, 320)
    odd = {
        "black": np.zeros_like(picture),
        "one colour": np.full_like(picture, 90),
        "8x8": picture[:8, :8],
        "upside down": picture[::-1, ::-1],
        "itself": picture,
    }[kind]
    one, two = encode(network, picture), encode(network, np.ascontiguousarray(odd))
    for pair in ((one, two), (two, one)):
        tracks = network.match_tracks_in_context(*pair[0], *pair[1])
        weights = np.asarray(tracks.weights)
        assert np.isfinite(tracks.x_db).all() and np.isfinite(weights).all()
        assert (weights >= 0).all() and (weights <= 1).all()
        if kind == "black":
            assert weights.max() == 0
        relations = network.relate_in_context(*pair[0], *pair[1])
        assert not relations.valid[0] or np.isfinite(relations.db_from_query.wxyz_xyz).all()
        if kind == "black":
            assert not relations.valid[0]


def test_what_ships_says_whether_it_has_context():
    loaded = shipped_matcher(CANVAS)
    assert MatchNetwork(loaded).has_context == loaded.config["model"].get("context", False)

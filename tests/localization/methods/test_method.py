"""Every method of the localizer is a `Method`."""

import pytest

from jaxreloc.localization.map.encoding import encode_frames
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.methods.all_matches_method import MODES, AllMatches
from jaxreloc.localization.methods.method import Method
from jaxreloc.localization.methods.pair_fusion import PairFusion
from tests.conformance import assert_conforms
from tests.localization.fakes import MatchingOracle, looking_frames
from tests.serving.toy_maps import MeanOfNeighbors


@pytest.fixture
def scene_map(rng):
    network = MatchingOracle(rng)
    return SceneMap.from_images(network, encode_frames(looking_frames(rng, 4), network))


def test_every_method_is_one(scene_map):
    """How poses from elsewhere are fused beside it is what was asked for, or the robust way."""
    for fusion in ("robust", "paper", "median"):
        method = PairFusion(scene_map, fusion)
        assert_conforms(method, Method)
        assert method.fusion == fusion and method.finds_focal_length is False
    for mode in MODES.values():
        method = AllMatches(scene_map, mode)
        assert_conforms(method, Method)
        assert method.fusion == "robust"
        assert method.finds_focal_length is False  # the map has no depth
        assert method.num_ranked == 24 and method.num_neighbors in (5, 10)
    assert_conforms(MeanOfNeighbors(scene_map), Method)


def test_neighbours_apart_are_chosen_among_more(scene_map):
    assert PairFusion(scene_map, num_neighbors=3, min_baseline=0.0).num_ranked == 3
    assert PairFusion(scene_map, num_neighbors=3, min_baseline=0.1).num_ranked > 3
    assert PairFusion(scene_map, "median", num_neighbors=3).num_ranked == 3
    assert AllMatches(scene_map, MODES["fast"].of_neighbors(30)).num_ranked == 30

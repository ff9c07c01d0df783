"""The neighbours by a coarse match, against a plain sort of distances that are known."""

import numpy as np
import pytest

from jaxreloc.localization.map.encoding import encode_frames
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.neighbors.reranking import most_alike
from tests.localization.fakes import MatchingOracle, looking_frames

COUNT = 20


@pytest.fixture
def known(rng):
    """A map whose images show the less of the query, the further off they were taken."""
    network, frames = MatchingOracle(rng), looking_frames(rng, COUNT + 1)
    database = frames.select(range(COUNT))
    scene_map = SceneMap.from_images(network, encode_frames(database, network))
    features = network.encode(np.stack(frames.images[COUNT:]))
    centres = frames.world_from_cam[:, :3, 3]
    return scene_map, features, np.linalg.norm(centres[:COUNT] - centres[COUNT], axis=1)


@pytest.mark.parametrize("count", [1, 5, 12, 30])
def test_the_nearest_of_the_retrieved_ones_come_first(known, rng, count):
    scene_map, features, distance = known
    retrieved = rng.permutation(COUNT)[:12]
    index, similarity = most_alike(scene_map, features, retrieved, count)
    assert len(set(index)) == min(count, 12) and set(index) <= set(retrieved)
    np.testing.assert_allclose(distance[index], np.sort(distance[retrieved])[:count], rtol=1e-4)
    np.testing.assert_allclose(similarity, 1 / (1 + distance[index]), rtol=1e-4)


def test_images_that_are_not_allowed_only_make_up_the_number(known, rng):
    scene_map, features, distance = known
    retrieved = rng.permutation(COUNT)[:12]
    allowed = np.zeros(COUNT, bool)
    allowed[rng.choice(retrieved, 3, replace=False)] = True
    index, similarity = most_alike(scene_map, features, retrieved, 5, allowed)
    assert set(index[:3]) == set(np.flatnonzero(allowed))
    np.testing.assert_allclose(distance[index[:3]], np.sort(distance[allowed]), rtol=1e-4)
    np.testing.assert_allclose(similarity[:3], 1 / (1 + distance[index[:3]]), rtol=1e-4)
    rest = [i for i in retrieved if not allowed[i]]  # in the order in which they were retrieved
    np.testing.assert_array_equal(index[3:], rest[:2])
    np.testing.assert_array_equal(similarity[3:], 0)


def test_where_none_is_allowed_retrieval_keeps_its_order(known, rng):
    scene_map, features, _ = known
    retrieved = rng.permutation(COUNT)[:12]
    index, similarity = most_alike(scene_map, features, retrieved, 4, np.zeros(COUNT, bool))
    np.testing.assert_array_equal(index, retrieved[:4])
    np.testing.assert_array_equal(similarity, 0)

import numpy as np
import pytest

from jaxreloc.localization.clock import STAGES
from jaxreloc.localization.encoding import encode_frames
from jaxreloc.localization.localizer import Localizer
from jaxreloc.localization.scene_map import SceneMap
from tests.localization.fakes import OracleNetwork, oracle_frames


@pytest.fixture
def database(rng):
    return oracle_frames(rng, 21)


def localizer(database, **options):
    network = OracleNetwork()
    return Localizer(SceneMap.from_images(network, encode_frames(database, network)), **options)


@pytest.mark.parametrize("method", ["paper", "robust"])
def test_exact_relative_poses_give_the_exact_pose(database, rng, method):
    queries = oracle_frames(rng, 4)
    locate = localizer(database, fusion_method=method)
    for i in range(4):
        found = locate(queries.images[i], queries.intrinsics[i])
        assert found.success
        assert found.location_inliers.sum() >= 2
        np.testing.assert_allclose(found.world_from_query, queries.world_from_cam[i], atol=2e-3)


def test_nearest_is_the_most_similar_images_pose(database):
    locate = localizer(database)
    found = locate.copy_nearest(locate.retrieve(database.images[3], database.intrinsics[3]))
    np.testing.assert_allclose(found.world_from_query, database.world_from_cam[3], atol=1e-6)


def test_every_stage_is_timed_and_a_query_can_be_located_twice(database):
    locate = localizer(database)
    query = locate.retrieve(database.images[0], database.intrinsics[0])
    first = locate.locate(query, locate.relate)
    second = locate.locate(query, locate.relate)
    np.testing.assert_array_equal(first.world_from_query, second.world_from_query)
    assert tuple(first.stage_ms) == STAGES
    assert query.clock.stage_ms["fusion"] == 0 < first.stage_ms["fusion"]


def test_no_valid_pair_is_a_failure(database):
    locate = localizer(database)
    query = locate.retrieve(database.images[0], database.intrinsics[0])

    def none_valid(query):
        db_from_query, valid = locate.relate(query)
        return db_from_query, np.zeros_like(valid)

    assert not locate.locate(query, none_valid).success


def test_more_neighbours_than_images(rng):
    database = oracle_frames(rng, 3)
    found = localizer(database, num_neighbors=10)(database.images[0], database.intrinsics[0])
    assert len(found.neighbors) == 3


def test_candidates_join_the_retrieved_images_once(database, rng):
    locate = localizer(database)
    image, intrinsics = database.images[0], database.intrinsics[0]
    retrieved = locate.retrieve(image, intrinsics).neighbors
    others = np.setdiff1d(np.arange(21), retrieved)[:2]
    candidates = np.concatenate([retrieved[:2], others])
    query = locate.retrieve(image, intrinsics, candidates)
    np.testing.assert_array_equal(query.neighbors[:5], retrieved)
    assert set(query.neighbors[query.is_neighbor]) == set(retrieved) | set(others)
    assert len(query.neighbors) == 10 and query.is_neighbor.sum() == 7
    found = locate(image, intrinsics, candidates)
    assert not found.location_inliers[~query.is_neighbor].any()
    np.testing.assert_allclose(found.world_from_query, database.world_from_cam[0], atol=2e-3)


def test_first_frame_of_a_video_has_no_candidates(database):
    locate = localizer(database)
    image, intrinsics = database.images[0], database.intrinsics[0]
    found = locate(image, intrinsics, np.zeros(0, int))
    assert found.success and len(found.neighbors) == 10

import numpy as np

from jaxreloc.evaluation.baselines.nearest_pose import copy_nearest
from jaxreloc.localization.localizer import Localizer
from jaxreloc.localization.map.encoding import encode_frames
from jaxreloc.localization.map.scene_map import SceneMap
from tests.localization.fakes import OracleNetwork, oracle_frames


def test_the_pose_of_the_most_similar_image(rng):
    database, network = oracle_frames(rng, 12), OracleNetwork()
    localizer = Localizer(SceneMap.from_images(network, encode_frames(database, network)))
    query = localizer.retrieve(database.images[3], database.intrinsics[3])
    found = copy_nearest(localizer, query)
    assert found.success and query.neighbors[0] == 3
    np.testing.assert_allclose(found.world_from_query, database.world_from_cam[3], atol=1e-6)

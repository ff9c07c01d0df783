import numpy as np

from jaxreloc.localization.encoding import encode_frames
from jaxreloc.localization.scene_map import Rows, SceneMap
from tests.localization.fakes import OracleNetwork, oracle_frames


def test_rows_equal_the_concatenation(rng):
    parts = [rng.normal(size=(n, 3, 2)) for n in (4, 1, 7)]
    index = rng.integers(0, 12, 20)
    np.testing.assert_array_equal(Rows(parts).take(index), np.concatenate(parts)[index])


def test_map_of_parts_equals_the_map_of_all(rng):
    frames, network = oracle_frames(rng, 12), OracleNetwork()
    whole = SceneMap.from_images(network, encode_frames(frames, network))
    parts = [encode_frames(frames.select(rows), network) for rows in (range(5), range(5, 12))]
    joined = SceneMap.from_images(network, *parts)
    assert joined.names == whole.names
    np.testing.assert_array_equal(joined.descriptors, whole.descriptors)
    np.testing.assert_array_equal(joined.world_from_db.wxyz_xyz, whole.world_from_db.wxyz_xyz)
    neighbors = rng.permutation(12)[:5]
    (a, a_intrinsics), (b, b_intrinsics) = (m.neighbor_features(neighbors) for m in (joined, whole))
    np.testing.assert_array_equal(a["pose"], b["pose"])
    np.testing.assert_array_equal(a_intrinsics, b_intrinsics)

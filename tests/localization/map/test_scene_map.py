import dataclasses

import numpy as np
import pytest

from jaxreloc.localization.map import map_files, scene_map
from jaxreloc.localization.map.encoding import EncodedImages, encode_frames
from jaxreloc.localization.map.scene_map import Rows, SceneMap
from jaxreloc.localization.networks.loading import load_network
from jaxreloc.usage import UsageError
from tests.localization.fakes import OracleNetwork, oracle_frames
from tests.photographs import save_small_network


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
    np.testing.assert_array_equal(joined.local_from_db.wxyz_xyz, whole.local_from_db.wxyz_xyz)
    neighbors = rng.permutation(12)[:5]
    (a, a_intrinsics), (b, b_intrinsics) = (m.neighbor_features(neighbors) for m in (joined, whole))
    np.testing.assert_array_equal(a["pose"], b["pose"])
    np.testing.assert_array_equal(a_intrinsics, b_intrinsics)


def test_opening_meets_a_writer(rng, tmp_path, monkeypatch):
    """A segment goes after the manifest was read: the map is as the writer left it."""
    images = [encode_frames(oracle_frames(rng, n), OracleNetwork()) for n in (5, 2)]
    images[1] = dataclasses.replace(images[1], names=("a", "b"))
    folder = tmp_path / "map"
    map_files.create(folder, lambda to: (to / "network.safetensors").write_bytes(b"x"), images)
    calls = []

    def load(path):
        calls.append(path)
        if len(calls) == 1:
            map_files.remove(folder, ["a", "b"])
        return OracleNetwork()

    monkeypatch.setattr(scene_map, "load_network", load)
    assert SceneMap.open(folder).names == images[0].names
    assert len(calls) == 2


@pytest.mark.slow
def test_opening_finds_arrays_that_are_not_of_the_network(rng, tmp_path):
    save_small_network(tmp_path / "workdir")
    network = load_network(tmp_path / "workdir")
    n_leaves = network.feature_formats[0].num_leaves

    def images(n, dim, prefix, leaves=n_leaves, value=1.0):
        frames = oracle_frames(rng, n)
        return EncodedImages(
            names=tuple(prefix + name for name in frames.names),
            world_from_cam=frames.world_from_cam,
            intrinsics=frames.intrinsics,
            image_sizes=frames.image_sizes,
            network_intrinsics=np.zeros((n, 3, 3), np.float32),
            descriptors=value * rng.normal(size=(n, dim)).astype(np.float32),
            features=tuple(np.zeros((n, 2), np.float16) for _ in range(leaves)),
            pictures=[b"jpeg"] * n,
        )

    folder = tmp_path / "map"
    SceneMap.create(folder, network, [images(3, 8, "a")])
    map_files.add(folder, [images(2, 8, "b")])
    assert len(SceneMap.open(folder)) == 5
    map_files.add(folder, [images(2, 9, "c")])
    with pytest.raises(UsageError, match="differ in shape"):
        SceneMap.open(folder)
    map_files.remove(folder, ["c000.png", "c001.png"])
    map_files.add(folder, [images(2, 8, "d", value=np.nan)])
    with pytest.raises(UsageError, match="NaN or infinite"):
        SceneMap.open(folder)
    SceneMap.create(tmp_path / "few", network, [images(3, 8, "a", n_leaves - 1)])
    with pytest.raises(UsageError, match="missing"):
        SceneMap.open(tmp_path / "few")
    (folder / "segments" / "000001" / "feature_000.npy").unlink()
    with pytest.raises(UsageError, match="feature_000.npy: "):
        SceneMap.open(folder)

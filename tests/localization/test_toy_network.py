"""A network in one file: what `PoseNetwork` names is all that maps and queries ask of it."""

import jax
import jaxlie
import numpy as np
import pytest
import safetensors.numpy

from jaxreloc.formats.frames import PosedFrames
from jaxreloc.geometry.fusion import FusionConfig
from jaxreloc.localization.jobs import building
from jaxreloc.localization.localizer import Localizer
from jaxreloc.localization.map.encoding import encode_frames
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.networks.loading import READERS, load_network
from jaxreloc.localization.networks.relations import PairRelations
from jaxreloc.usage import UsageError

COUNT = 9


class BrightnessNetwork:
    """Knows a corridor: how bright a picture is says how far along x it was taken (metres).

    `slope` metres are a hundred levels, as training has found.
    """

    feature_formats = (jax.tree.structure(0.0),)
    fusion_config = FusionConfig()

    def __init__(self, slope=10.0):
        self.slope = slope

    @classmethod
    def read(cls, path, model=None):
        return cls(safetensors.numpy.load_file(path)["slope"])

    def prepare(self, image, intrinsics):
        return image[:1, :1], intrinsics

    def encode(self, images):
        return self.slope * images[:, 0, 0, :1].astype(np.float32) / 100

    def kept(self, features):
        return features

    def descriptor(self, features):
        angle = np.asarray(features) / 30
        return np.concatenate([np.cos(angle), np.sin(angle)], axis=1)

    def relate(self, db_features, db_intrinsics, query_features, query_intrinsics):
        pose = np.zeros((len(db_features), 7), np.float32)
        pose[:, 0] = 1.0
        pose[:, 4:5] = query_features - db_features
        pose[:, 5] = -1.0  # the map's cameras hang a metre above the query's
        return PairRelations(jaxlie.SE3(pose), np.ones(len(pose), bool))

    def save(self, folder):
        line = {"slope": np.asarray(self.slope, np.float32)}
        safetensors.numpy.save_file(line, folder / "network.safetensors", {"kind": "line"})


def corridor(x_metres, height_metres) -> PosedFrames:
    n = len(x_metres)
    poses = np.tile(np.eye(4), (n, 1, 1))
    poses[:, 0, 3], poses[:, 1, 3] = x_metres, height_metres
    return PosedFrames(
        scene="corridor",
        names=tuple(f"{i}.png" for i in range(n)),
        world_from_cam=poses,
        intrinsics=np.tile([[30.0, 0, 15.5], [0, 30, 11.5], [0, 0, 1]], (n, 1, 1)),
        image_sizes=np.tile([32, 24], (n, 1)),
        images=[np.full((24, 32, 3), round(10 * x), np.uint8) for x in x_metres],
    )


def test_a_toy_network_is_mapped_and_asked(tmp_path, monkeypatch):
    """By way of the files of a map that grows."""
    monkeypatch.setitem(READERS, "line", BrightnessNetwork.read)
    ask_a_map_of(BrightnessNetwork(), tmp_path / "map")


def ask_a_map_of(network, folder):
    """Makes a map there, adds to it, opens it and asks it; what is asked is 0.1 m off at most."""
    frames = corridor(np.arange(COUNT) * 1.0, 1.0)
    SceneMap.create(folder, network, [encode_frames(frames.select(range(4)), network)])
    building.add_frames(folder, frames.select(range(4, COUNT)), SceneMap.open(folder))
    localizer = Localizer(SceneMap.open(folder))
    assert len(localizer.scene_map) == COUNT
    queries = corridor(np.array([2.3, 5.6]), 0.0)
    for i in range(2):
        found = localizer(queries.images[i], queries.intrinsics[i])
        assert found.success and found.location_inliers.sum() >= 2
        np.testing.assert_allclose(found.world_from_query, queries.world_from_cam[i], atol=0.1)


def test_a_network_that_nothing_reads_is_named(tmp_path):
    BrightnessNetwork().save(tmp_path)
    line = f"kind of network of {tmp_path}/network.safetensors 'line'; known: siamese"
    with pytest.raises(UsageError, match=line):
        load_network(tmp_path)

"""A map with a catalogue opens as the same map without."""

import json

import numpy as np
import pytest

from jaxreloc.localization.jobs import building
from jaxreloc.localization.map.encoding import encode_frames
from jaxreloc.localization.map.large import catalogue
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.usage import UsageError
from tests.localization.fakes import OracleNetwork, oracle_frames


class SavedOracle(OracleNetwork):
    def save(self, folder):
        (folder / "network.safetensors").write_bytes(b"oracle")


@pytest.fixture
def folder(tmp_path, rng, monkeypatch):
    """A map of three segments; the catalogue pays at once."""
    monkeypatch.setattr(catalogue, "MIN_IMAGES", 1)
    monkeypatch.setattr(
        "jaxreloc.localization.map.scene_map.load_network", lambda path: SavedOracle()
    )
    frames, network = oracle_frames(rng, 23), SavedOracle()
    parts = [encode_frames(frames.select(range(i, min(i + 9, 23))), network) for i in (0, 9, 18)]
    SceneMap.create(tmp_path / "map", network, parts)
    return tmp_path / "map"


def same(a: SceneMap, b: SceneMap) -> None:
    assert a.names == b.names
    for name in ("world_from_db", "intrinsics", "image_sizes", "network_intrinsics"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    np.testing.assert_array_equal(np.asarray(a.descriptors), np.asarray(b.descriptors))
    rows = np.arange(len(a))[::-2]
    np.testing.assert_array_equal(
        a.neighbor_features(rows)[0]["pose"], b.neighbor_features(rows)[0]["pose"]
    )
    assert [bytes(x) for x in a.pictures] == [bytes(x) for x in b.pictures]


def test_it_says_what_the_segments_say(folder):
    before = SceneMap.open(folder)
    building.keep_up(folder)
    assert (folder / catalogue.FILE_NAME).exists()
    same(SceneMap.open(folder), before)


def test_after_a_removal_the_old_one_is_not_read(folder):
    building.keep_up(folder)
    names = SceneMap.open(folder).names
    old = (folder / catalogue.FILE_NAME).read_bytes(), (folder / catalogue.ABOUT).read_bytes()
    building.remove_from_map(folder, [names[0], names[12]])
    with_new = SceneMap.open(folder)
    assert with_new.names == tuple(x for x in names if x not in (names[0], names[12]))
    (folder / catalogue.FILE_NAME).write_bytes(old[0])
    (folder / catalogue.ABOUT).write_bytes(old[1])
    same(SceneMap.open(folder), with_new)


def test_a_damaged_one_is_said(folder, rng):
    building.keep_up(folder)
    path = folder / catalogue.FILE_NAME
    content = bytearray(path.read_bytes())
    content[rng.integers(len(content))] ^= 1 << rng.integers(8)
    path.write_bytes(content)
    with pytest.raises(UsageError, match="catalogue.npz: damaged"):
        SceneMap.open(folder)
    path.unlink()
    with pytest.raises(UsageError, match="catalogue.npz"):
        SceneMap.open(folder)
    (folder / catalogue.ABOUT).unlink()
    assert len(SceneMap.open(folder)) == 23
    assert json.loads((folder / "manifest.json").read_text())["version"] == 3

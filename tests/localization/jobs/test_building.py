"""Maps that are built, grown and described, by a network that matches."""

import json
import sys

import numpy as np
import pytest

from jaxreloc.localization.jobs import building
from jaxreloc.localization.map import map_files
from jaxreloc.localization.map.encoding import encode_frames
from jaxreloc.localization.map.large import kept_index
from jaxreloc.localization.map.map_manifest import read_manifest, write_content
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.networks.match_network import MatchNetwork
from jaxreloc.usage import UsageError
from tests.models.blank_head import blank_headed_matcher
from tests.photographs import write_photographs

CANVAS = (64, 96)
COUNT = 4


@pytest.fixture(scope="module")
def network() -> MatchNetwork:
    return MatchNetwork(blank_headed_matcher(CANVAS))


@pytest.fixture
def folders(tmp_path, network, rng):
    network.save(tmp_path / "network")
    write_photographs(tmp_path / "first", rng, COUNT)
    write_photographs(tmp_path / "second", rng, 2 * COUNT)  # the first names are the same
    for path in sorted((tmp_path / "second" / "images").iterdir())[:COUNT]:
        path.unlink()
    return tmp_path


@pytest.fixture
def no_faiss(monkeypatch):
    """Also where it is installed."""
    module = "jaxreloc.localization.neighbors.faiss_index"
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.delattr(module, raising=False)
    monkeypatch.setitem(sys.modules, "faiss", None)


def leaves(folder) -> int:
    return len(SceneMap.open(folder).features)


def test_a_map_is_built_and_grown(folders):
    folder = folders / "map"
    line = building.build_map(folders / "first", folder, folders / "network")
    assert f"{COUNT} images of" in line
    building.add_to_map(folder, folders / "second", skip_bad_frames=True)
    scene_map = SceneMap.open(folder)
    assert len(scene_map) == 2 * COUNT and scene_map.depth is not None
    with pytest.raises(UsageError, match="in the map already"):
        building.add_to_map(folder, folders / "first")


def test_the_parts_of_a_map_are_all_of_its_bytes(folders):
    folder = folders / "map"
    building.build_map(folders / "first", folder, folders / "network")
    files = [path for path in (folder / "segments").rglob("*") if path.is_file()]
    sizes = building.bytes_by_part(folder)
    assert sum(sizes.values()) * COUNT == pytest.approx(sum(x.stat().st_size for x in files))
    assert list(sizes.values()) == sorted(sizes.values(), reverse=True)
    pictures = sum(path.stat().st_size for path in files if path.suffix == ".jpg")
    assert sizes["pictures"] * COUNT == pytest.approx(pictures)


def test_a_map_with_features_in_whole_bytes_stays_one(folders, network):
    """Of version 2: it is read, and what is added has the features that its other images have."""
    folder = folders / "map"
    frames = building.read_frames(folders / "first", None, False)
    parts = [encode_frames(frames, network, feature_format=network.feature_formats[1])]
    SceneMap.create(folder, network, parts)
    content = json.loads((folder / "manifest.json").read_text())
    write_content(folder, content | {"version": 2})
    before = leaves(folder)
    building.add_to_map(folder, folders / "second", skip_bad_frames=True)
    assert leaves(folder) == before == network.feature_formats[1].num_leaves
    assert len(read_manifest(folder).segments) == 2
    features, _ = SceneMap.open(folder).neighbor_features(np.arange(2 * COUNT))
    assert {np.asarray(x).dtype.name for x in (features.cells.fine, features.cells.detail)} == {
        "int8"
    }
    assert map_files.check_files(folder) == []


def test_an_index_without_faiss_is_refused_before_any_picture_is_read(folders, no_faiss):
    refused = r"^--index needs FAISS: .*; pip install 'jaxreloc\[faiss\]', or leave --index out$"
    with pytest.raises(UsageError, match=refused):
        building.build_map("no such folder", folders / "map", folders / "network", index=True)
    assert not (folders / "map").exists()


def test_a_map_with_an_index_does_not_grow_without_faiss(folders, no_faiss):
    folder = folders / "map"
    building.build_map(folders / "first", folder, folders / "network")
    (segment,) = read_manifest(folder).segments
    part = {"segments": kept_index._told([segment]), "sha256": "0"}
    (folder / "index").mkdir()
    (folder / "index" / "index.json").write_text(json.dumps({"parts": [part]}))
    refused = f"^{folder}/index: the index grows with the map and needs FAISS: .*, or delete that"
    with pytest.raises(UsageError, match=refused):
        building.add_to_map(folder, folders / "second", skip_bad_frames=True)
    assert read_manifest(folder).segments == (segment,)
    assert f"{COUNT - 1} images" in building.remove_from_map(folder, ["images/00.png"])

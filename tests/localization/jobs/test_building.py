"""Maps that are built, grown and described, by a network that matches."""

import json

import numpy as np
import pytest

from jaxreloc.localization.jobs import building
from jaxreloc.localization.map import map_files
from jaxreloc.localization.map.encoding import encode_frames
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

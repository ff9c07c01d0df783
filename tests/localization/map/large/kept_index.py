"""The index on disk finds what the exact search finds; run by `make test-faiss`."""

import numpy as np
import pytest

from jaxreloc.localization.jobs import building
from jaxreloc.localization.localizer import Localizer
from jaxreloc.localization.map import map_files
from jaxreloc.localization.map.encoding import encode_frames
from jaxreloc.localization.map.large import kept_index
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.neighbors.retrieval import ExactIndex
from jaxreloc.usage import UsageError
from tests.localization.fakes import oracle_frames
from tests.localization.map.large.test_catalogue import SavedOracle

SIZES = (14, 9, 21)


@pytest.fixture
def frames(rng):
    return oracle_frames(rng, sum(SIZES) + 12)


@pytest.fixture
def folder(tmp_path, frames, monkeypatch):
    monkeypatch.setattr(
        "jaxreloc.localization.map.scene_map.load_network", lambda path: SavedOracle()
    )
    network, ends = SavedOracle(), np.cumsum((0, *SIZES))
    parts = [encode_frames(frames.select(range(a, b)), network) for a, b in zip(ends, ends[1:])]
    SceneMap.create(tmp_path / "map", network, parts)
    return tmp_path / "map"


def check(folder, rng, count=7):
    """All images are compared in maps of this size, so that nothing is missed."""
    scene_map = SceneMap.open(folder)
    assert isinstance(scene_map.index, kept_index.KeptIndex)
    assert len(scene_map.index) == len(scene_map)
    asked = np.asarray(scene_map.descriptors)[rng.permutation(len(scene_map))[:5]]
    rows, cosines = scene_map.index.search(asked, count)
    expected, exact = ExactIndex(scene_map.descriptors).search(asked, count)
    np.testing.assert_allclose(cosines, exact, atol=1e-6)
    np.testing.assert_allclose(
        np.einsum("qkd,qd->qk", np.asarray(scene_map.descriptors)[rows], asked), exact, atol=1e-6
    )
    assert rows.shape == expected.shape


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_it_finds_the_most_similar_images(folder, rng, parts):
    assert kept_index.write_index(folder, parts) == parts
    check(folder, rng)


def test_removed_images_are_not_found(folder, rng):
    building.index_map(folder, 2)
    names = SceneMap.open(folder).names
    building.remove_from_map(folder, list(rng.permutation(names)[:11]))
    check(folder, rng)
    building.remove_from_map(folder, [x for x in SceneMap.open(folder).names if x in names[:14]])
    check(folder, rng)


def test_it_grows_with_the_map(folder, rng, frames):
    building.index_map(folder)
    new = frames.select(range(sum(SIZES), len(frames)))
    map_files.add(folder, [encode_frames(new, SavedOracle())])
    assert SceneMap.open(folder).kept_index is None  # it would miss images
    kept_index.grow_index(folder)
    check(folder, rng)


def test_a_damaged_one_is_said(folder, rng):
    building.index_map(folder)
    (path,) = (folder / kept_index.FOLDER).glob("*.faiss")
    content = bytearray(path.read_bytes())
    content[rng.integers(len(content))] ^= 1
    path.write_bytes(content)
    with pytest.raises(UsageError, match="damaged; make it again with jaxreloc map index"):
        SceneMap.open(folder)
    building.index_map(folder)
    check(folder, rng)
    with pytest.raises(UsageError, match="4 parts of a map of 3 segments"):
        building.index_map(folder, 4)


def test_a_removed_room_hides_no_other_image(folder, rng, monkeypatch):
    building.index_map(folder)
    gone = SceneMap.open(folder)
    asked = np.asarray(gone.descriptors)[:3]  # of images that are removed next
    building.remove_from_map(folder, list(gone.names[: SIZES[0] + SIZES[1] - 1]))
    scene_map = SceneMap.open(folder)
    rows, cosines = scene_map.index.search(asked, 9)
    assert ((rows >= 0) & (rows < len(scene_map))).all()
    _, exact = ExactIndex(scene_map.descriptors).search(asked, 9)
    np.testing.assert_allclose(cosines, exact, atol=1e-6)


def test_another_writer_or_a_crash_leaves_an_index(folder, rng):
    building.index_map(folder, 3)
    before = {x.name for x in (folder / kept_index.FOLDER).iterdir()}
    (folder / kept_index.FOLDER / "0123456789abcdef.faiss").write_bytes(b"half of an index")
    check(folder, rng)
    building.index_map(folder)
    after = {x.name for x in (folder / kept_index.FOLDER).iterdir()}
    assert len(before) == 4 and len(after) == 2  # with index.json; nothing else is left
    check(folder, rng)


def test_images_of_a_place_are_found_wherever_the_index_would_look(folder, rng):
    building.index_map(folder)
    scene_map = SceneMap.open(folder)
    localizer = Localizer(scene_map, num_neighbors=4)
    assert not isinstance(localizer.index, ExactIndex)
    allowed = rng.random(len(scene_map)) < 0.3
    allowed[:4] = True
    asked = np.asarray(scene_map.descriptors)[:2]
    found = localizer._rank(asked, allowed)
    exact = Localizer(scene_map, index=ExactIndex(scene_map.descriptors), num_neighbors=4)
    count = min(int(allowed.sum()), found.shape[1])
    np.testing.assert_array_equal(found[:, :count], exact._rank(asked, allowed)[:, :count])


def test_a_changed_descriptor_is_found_when_it_is_read(folder, rng):
    building.index_map(folder)
    scene_map = SceneMap.open(folder)
    asked = np.asarray(scene_map.descriptors)[:1]
    path = rng.choice(sorted(folder.glob("segments/*/descriptors.npy")))
    header = path.stat().st_size - np.load(path).nbytes
    content = bytearray(path.read_bytes())
    content[rng.integers(header, len(content))] ^= 1 << rng.integers(8)
    path.write_bytes(content)
    with pytest.raises(UsageError, match="descriptors.npy: damaged"):
        SceneMap.open(folder).index.search(asked, len(scene_map))

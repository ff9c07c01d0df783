"""Maps come into memory when they are asked for, leave it, and are swapped when they change."""

import threading

import numpy as np
import pytest

from jaxreloc.localization.map import map_files
from jaxreloc.localization.map.encoding import encode_frames
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.serving.answering import map_shelf
from jaxreloc.serving.answering.map_shelf import Busy, MapShelf, MapUnreadable, UnknownMap
from jaxreloc.usage import UsageError
from tests.localization.test_toy_network import BrightnessNetwork, corridor
from tests.serving import toy_maps

TIMEOUT_S = 30


@pytest.fixture(autouse=True)
def toy_network(monkeypatch):
    toy_maps.install(monkeypatch.setattr)


@pytest.fixture
def folder(tmp_path):
    for name, first in [("a", 0.0), ("b", 15.0), ("c", 7.0)]:
        toy_maps.make_map(tmp_path / "maps" / name, first)
    return tmp_path / "maps"


@pytest.fixture
def shelf(folder):
    made = MapShelf(folder, toy_maps.open_localizer, max_bytes=1 << 30)
    yield made
    made.close()


def get(shelf, name):
    return shelf.get(name).result(TIMEOUT_S)


def num_images(shelf, name):
    return len(get(shelf, name).localizer.scene_map)


def test_maps_are_known_by_their_folders(shelf, folder, tmp_path):
    (folder / "not a map").mkdir()
    (folder / "notes.txt").write_text("no map either")
    assert shelf.names() == ["a", "b", "c"]
    toy_maps.make_map(tmp_path / "new")
    (tmp_path / "new").rename(folder / "d")  # later, while the shelf is in use
    assert shelf.names() == ["a", "b", "c", "d"] and num_images(shelf, "d") == 9


@pytest.mark.parametrize(
    "name", ["", "d", ".", "..", "../maps/a", "a/../b", "/etc", "a\0", "a/", "A" * 5000, "\ud800"]
)
def test_no_name_leads_elsewhere(shelf, name):
    with pytest.raises(UnknownMap):
        shelf.get(name)
    with pytest.raises(UnknownMap):
        shelf.change(name, lambda folder: None)
    assert num_images(shelf, "a") == 9


def test_a_folder_may_be_the_map(folder):
    shelf = MapShelf(folder / "a", toy_maps.open_localizer, max_bytes=1 << 30)
    assert shelf.names() == ["a"] and num_images(shelf, "a") == 9
    with pytest.raises(UnknownMap):
        shelf.get("segments")
    shelf.close()
    with pytest.raises(UsageError, match="no map in it"):
        MapShelf(folder / "a" / "segments", toy_maps.open_localizer, max_bytes=1)


def test_the_least_recently_used_leaves(folder):
    one = map_shelf.num_bytes(toy_maps.open_localizer(folder / "a").scene_map)
    opened = []

    def opening(path):
        opened.append(path.name)
        return toy_maps.open_localizer(path)

    shelf = MapShelf(folder, opening, max_bytes=2 * one)
    for name in "abacabc":
        get(shelf, name)
    # c takes the place of b, then b that of c, then c that of a.
    assert opened == ["a", "b", "c", "b", "c"]
    assert [x.name for x in shelf.open_maps()] == ["b", "c"]
    shelf.close()
    tiny = MapShelf(folder, toy_maps.open_localizer, max_bytes=1)
    get(tiny, "a")
    assert get(tiny, "b") is get(tiny, "b") and [x.name for x in tiny.open_maps()] == ["b"]
    tiny.close()


def test_a_changed_map_is_swapped_while_the_old_one_answers(folder):
    may_open = threading.Semaphore(1)

    def held(path):
        assert may_open.acquire(timeout=TIMEOUT_S)
        return toy_maps.open_localizer(path)

    shelf = MapShelf(folder, held, max_bytes=1 << 30)
    old = get(shelf, "a")
    map_files.remove(folder / "a", ["0.png"])
    assert get(shelf, "a") is old and get(shelf, "a") is old
    new = shelf.renewed("a")
    may_open.release()
    assert len(new.result(TIMEOUT_S).localizer.scene_map) == 8
    assert get(shelf, "a") is new.result() and shelf.num_swaps == 1
    picture = toy_maps.picture(4.5)
    for opened in (old, new.result()):  # whose files may be gone
        found = opened.localizer(picture, toy_maps.INTRINSICS)
        assert found.success and abs(found.world_from_query[0, 3] - 4.5) < 0.05
    shelf.close()


def test_a_damaged_map_is_refused_until_it_changes(shelf, folder):
    old = get(shelf, "a")
    manifest = folder / "a" / "manifest.json"
    content = manifest.read_text()
    manifest.write_text("{")
    with pytest.raises(MapUnreadable):
        shelf.renewed("a").result(TIMEOUT_S)
    assert get(shelf, "a") is old  # what is in memory is whole
    (folder / "b" / "network.safetensors").write_bytes(b"another")
    for _ in range(2):
        with pytest.raises(MapUnreadable):
            get(shelf, "b")
    manifest.write_text(content)
    assert shelf.renewed("a").result(TIMEOUT_S) is not old


def test_a_map_that_is_gone_is_unknown(shelf, folder):
    get(shelf, "a")
    (folder / "a").rename(folder.parent / "elsewhere")
    with pytest.raises(UnknownMap):
        shelf.get("a")
    assert shelf.open_maps() == [] and shelf.names() == ["b", "c"]


def test_a_change_is_seen_when_it_is_done(shelf, folder):
    get(shelf, "a")
    more = corridor(np.array([20.0]), 1.0)

    def add(path):
        names = encode_frames(more, BrightnessNetwork())
        map_files.add(path, [type(names)(**{**vars(names), "names": ("new.png",)})])
        return "done"

    assert shelf.change("a", add).result(TIMEOUT_S) == "done"
    assert num_images(shelf, "a") == 10
    begun, go = threading.Event(), threading.Event()

    def wait(path):
        begun.set()
        assert go.wait(TIMEOUT_S)

    slow = shelf.change("a", wait)
    assert begun.wait(TIMEOUT_S)
    with pytest.raises(Busy):
        shelf.change("b", wait)
    assert num_images(shelf, "a") == 10  # answers go on
    go.set()
    slow.result(TIMEOUT_S)
    with pytest.raises(UsageError, match="not in the map"):
        shelf.change("a", lambda path: map_files.remove(path, ["x"])).result(TIMEOUT_S)
    assert num_images(shelf, "a") == 10


def test_the_size_counts_what_is_on_disk_too(folder):
    scene_map = SceneMap.open(folder / "a")
    features, descriptors, picture = 4, 8, 32 * 24  # bytes an image
    expected = 9 * (features + descriptors + picture)
    assert map_shelf.num_bytes(scene_map) == pytest.approx(expected, rel=0.1)

"""Two maps of one place become one; whatever does not fit is refused, and nothing is written."""

import os

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxreloc.formats.common.geodesy import GeographicOrigin
from jaxreloc.localization.care.map_merge import merge_maps
from jaxreloc.localization.map import map_files
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.usage import UsageError
from tests.localization.care import known_maps
from tests.localization.care.known_maps import angle, encoded, moved, on_disk, selected
from tests.localization.care.test_map_check import turned_about
from tests.localization.fakes import looking_frames

COUNT = 24
BALL = 8.0  # of the oracle, around the origin


@pytest.fixture
def frames(rng, monkeypatch):
    known_maps.install(monkeypatch, rng)
    return looking_frames(rng, COUNT)


def other_axes(rng):
    return np.exp(rng.uniform(-1, 1)), Rotation.random(rng=rng), 10 * rng.normal(size=3)


def halves(tmp_path, rng, frames, axes, prefix="", **options):
    """Maps of every second image; the second is in other axes."""
    a = on_disk(tmp_path / "a", rng, encoded(rng, selected(frames, range(0, COUNT, 2))))
    images = moved(encoded(rng, selected(frames, range(1, COUNT, 2), prefix)), *axes)
    return a, on_disk(tmp_path / "b", rng, images, **options)


def distances_from_the_middle(scene_map):
    """Of the points whose depth is known."""
    found = []
    for row in range(len(scene_map)):
        depth = scene_map.neighbor_depth(np.array([row]))[0][..., 0]
        cells = scene_map.network.cell_pixels().reshape(-1, 2)
        rays = (cells / (np.array(scene_map.network.GRID[::-1]) - 1) - 0.5) * [0.9, 0.7]
        known = depth.ravel() > 0
        pose = scene_map.world_from_db[row]
        in_camera = np.c_[rays, np.ones(len(rays))][known] / depth.ravel()[known, None]
        found.append(np.linalg.norm(in_camera @ pose[:3, :3].T + pose[:3, 3], axis=1))
    return np.concatenate(found)


def test_maps_in_different_axes_become_one(tmp_path, rng, frames):
    a, b = halves(tmp_path, rng, frames, other_axes(rng))
    line = merge_maps(a, b, tmp_path / "c")
    assert "24 images; 12 of 12 images of" in line and "scale" in line
    assert "names begin" not in line
    merged = SceneMap.open(tmp_path / "c")
    order = [frames.names.index(name) for name in merged.names]
    assert sorted(order) == list(range(COUNT))
    for row, true in enumerate(order):
        assert angle(merged.world_from_db[row], frames.world_from_cam[true], BALL) < 0.02
    off = distances_from_the_middle(merged) - BALL
    assert len(off) > 500 and np.median(np.abs(off)) < 0.05 * BALL
    assert map_files.check_files(tmp_path / "c") == []


def test_doubled_names_are_told_apart(tmp_path, rng, frames):
    axes = other_axes(rng)
    a = on_disk(tmp_path / "a", rng, encoded(rng, frames))
    b = on_disk(tmp_path / "b", rng, moved(encoded(rng, frames), *axes))
    line = merge_maps(a, b, tmp_path / "c")
    assert line.endswith("; its names begin with b/")
    names = SceneMap.open(tmp_path / "c").names
    assert names == (*frames.names, *(f"b/{name}" for name in frames.names))


def test_the_map_with_a_place_on_the_earth_gives_the_axes(tmp_path, rng, frames):
    origin = GeographicOrigin(60.0, 25.0, 3.0)
    a, b = halves(tmp_path, rng, frames, other_axes(rng), origin=origin)
    merge_maps(a, b, tmp_path / "c")
    merged, of_b = SceneMap.open(tmp_path / "c"), SceneMap.open(b)
    assert merged.geographic_origin == origin
    rows = [merged.names.index(name) for name in of_b.names]
    np.testing.assert_allclose(merged.world_from_db[rows], of_b.world_from_db, atol=1e-9)


def test_maps_of_different_places_are_refused(tmp_path, rng, frames):
    a = on_disk(tmp_path / "a", rng, encoded(rng, frames))
    behind = turned_about(rng, 10, np.array([0, np.pi, 0]))
    b = on_disk(tmp_path / "b", rng, encoded(rng, behind))
    with pytest.raises(UsageError, match=r"b are found in the other map, 0 agree .*; too few"):
        merge_maps(a, b, tmp_path / "c")
    with pytest.raises(UsageError, match="a: exists; choose another --out"):
        merge_maps(a, b, a)
    with pytest.raises(UsageError, match="no scene map"):
        merge_maps(a, tmp_path / "none", tmp_path / "c")
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_a_map_of_another_network_is_encoded_again(tmp_path, rng, frames, monkeypatch):
    """The oracle reads its poses from lossless pictures only, so that nothing is found."""
    a, b = halves(tmp_path, rng, frames, other_axes(rng))
    monkeypatch.setattr(known_maps.SavedOracle, "mark", b"another")
    c = on_disk(tmp_path / "other", rng, encoded(rng, selected(frames, range(12))))
    with pytest.raises(UsageError, match="too few to merge"):
        merge_maps(a, c, tmp_path / "c")
    assert not (tmp_path / "c").exists()

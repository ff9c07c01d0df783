"""A map in shards answers as the map whole; none of it needs Ray."""

import numpy as np
import pytest

from jaxreloc.formats.posed_images import read_posed_images
from jaxreloc.localization.localizer import Localizer
from jaxreloc.localization.map import map_files
from jaxreloc.localization.map.encoding import encode_frames
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.localization.networks.loading import pretrained_network
from jaxreloc.scale.sharded_map import OpenShards, shard_starts, sharded
from jaxreloc.usage import UsageError

pytestmark = pytest.mark.ray  # and of compiling, which takes minutes
SIZES = (11, 5, 9, 7)


class LocalShards:
    """Of a map, all in this process; counts what each is asked."""

    def __init__(self, folder, total):
        self._folder, self._generation = str(folder), SceneMap.generation(folder)
        self.starts = shard_starts(folder, total)
        self._shards = [OpenShards(number, total) for number in range(total)]
        self.asked = []

    def ask(self, number, method, *arguments):
        self.asked.append((number, method, arguments))
        return self._shards[number].ask(self._folder, self._generation, method, *arguments)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A map of four segments of real photographs; the last ones are left as queries."""
    from tests.conftest import SHARED_DATA

    if not (SHARED_DATA / "fox").is_dir():
        pytest.skip(f"real data is absent: {SHARED_DATA}")
    frames = read_posed_images(SHARED_DATA / "fox")
    network = pretrained_network(frames.image_sizes, long_side=128)
    ends = np.cumsum((0, *SIZES))
    order = np.random.default_rng(0).permutation(len(frames))
    parts = [
        encode_frames(frames.select(order[a:b]), network) for a, b in zip(ends, ends[1:])
    ]
    path = tmp_path_factory.mktemp("shards") / "map"
    SceneMap.create(path, network, parts)
    return path, frames.select(order[ends[-1] :])


@pytest.mark.parametrize("total", [1, 3])
def test_answers_are_those_of_the_map_whole(folder, total):
    path, queries = folder
    whole = SceneMap.open(path)
    shards = LocalShards(path, total)
    expected, found = Localizer(whole), Localizer(sharded(whole, shards))
    for i in range(4):
        a = expected(queries.images[i], queries.intrinsics[i])
        b = found(queries.images[i], queries.intrinsics[i])
        np.testing.assert_array_equal(a.neighbors, b.neighbors)
        assert (a.success, a.reason) == (b.success, b.reason)
        np.testing.assert_allclose(a.world_from_query, b.world_from_query, atol=1e-4)
    assert {number for number, *_ in shards.asked} == set(range(total))
    for number, method, arguments in shards.asked:
        if method in ("similarity", "images"):  # each is asked of its own images alone
            rows = np.asarray(arguments[0])
            owner = np.searchsorted(shards.starts, rows, side="right") - 1
            assert (owner == number).all()


def test_a_changed_map_is_said(folder):
    path, queries = folder
    shards = LocalShards(path, 2)
    found = Localizer(sharded(SceneMap.open(path), shards))
    map_files.remove(path, [SceneMap.open(path).names[0]])
    with pytest.raises(UsageError, match="was changed"):
        found(queries.images[0], queries.intrinsics[0])
    with pytest.raises(UsageError, match="5 parts of a map of 4 segments"):
        shard_starts(path, 5)

"""A map on disk: what is written is read back, and a crash leaves the old map or the new."""

import dataclasses
import fcntl
import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from jaxreloc.localization import map_files
from jaxreloc.localization.encoding import encode_frames
from jaxreloc.localization.map_manifest import read_manifest
from jaxreloc.usage import UsageError
from tests.localization.fakes import OracleNetwork, oracle_frames


def encoded_images(rng, n, prefix=""):
    images = encode_frames(oracle_frames(rng, n), OracleNetwork())
    return dataclasses.replace(images, names=tuple(prefix + name for name in images.names))


@pytest.fixture
def images(rng):
    return encoded_images(rng, 6)


def save_network(folder):
    (folder / "network.safetensors").write_bytes(b"weights")


@pytest.fixture
def scene_map(tmp_path, images):
    map_files.create(tmp_path / "map", save_network, [images])
    return tmp_path / "map"


def read_all(folder):
    return map_files.read_parts(folder, read_manifest(folder))


def names(folder):
    return [name for part in read_all(folder) for name in part.names]


def same(a, b):
    assert a.names == b.names
    # Float32 rotations of the fake are brought back to SO(3) on reading.
    np.testing.assert_allclose(a.world_from_cam, b.world_from_cam, atol=1e-6)
    for field in ("intrinsics", "image_sizes", "network_intrinsics", "descriptors"):
        np.testing.assert_array_equal(getattr(a, field), getattr(b, field))
    for x, y in zip(a.features, b.features, strict=True):
        np.testing.assert_array_equal(x, y)
    assert [path.read_bytes() for path in a.thumbnails] == list(b.thumbnails)


def test_what_is_written_is_read_back_mapped(scene_map, images):
    (stored,) = read_all(scene_map)
    same(stored, images)
    assert isinstance(stored.features[0].items, np.memmap)
    assert map_files.network_file(scene_map, read_manifest(scene_map)).is_file()


def test_add_and_remove_touch_nothing_else(scene_map, images, rng):
    before = {p: p.stat().st_mtime_ns for p in (scene_map / "segments").rglob("*.npy")}
    more = encoded_images(rng, 3, "more-")
    map_files.add(scene_map, [more])
    first, second = read_all(scene_map)
    same(first, images)
    same(second, more)
    map_files.remove(scene_map, ["001.png", "004.png"])
    first, second = read_all(scene_map)
    assert first.names == ("000.png", "002.png", "003.png", "005.png")
    np.testing.assert_array_equal(first.features[0], images.features[0][[0, 2, 3, 5]])
    same(second, more)
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())


def test_parts_are_added_all_or_none(scene_map, rng):
    def parts(fail):
        yield encoded_images(rng, 2, "a-")
        yield encoded_images(rng, 3, "b-")
        if fail:
            raise UsageError("a picture cannot be read")

    with pytest.raises(UsageError, match="cannot be read"):
        map_files.add(scene_map, parts(fail=True))
    assert len(names(scene_map)) == 6
    assert os.listdir(scene_map / "segments") == ["000000"]
    map_files.add(scene_map, parts(fail=False))
    assert len(names(scene_map)) == 11 and len(read_all(scene_map)) == 3


def test_removing_a_whole_segment_deletes_it(scene_map, rng):
    map_files.add(scene_map, [encoded_images(rng, 2, "more-")])
    map_files.remove(scene_map, ["more-000.png", "more-001.png"])
    assert sorted(os.listdir(scene_map / "segments")) == ["000000"]
    map_files.add(scene_map, [encoded_images(rng, 2, "more-")])
    assert len(names(scene_map)) == 8


def test_mistakes_are_named_and_change_nothing(scene_map, images, rng, tmp_path):
    before = (scene_map / "manifest.json").read_bytes()
    for mistake, message in [
        (lambda: map_files.create(scene_map, save_network, [images]), "exists"),
        (lambda: map_files.add(scene_map, [images]), "000.png and 5 more are in the map already"),
        (lambda: map_files.remove(scene_map, ["000.png", "nobody.png"]), "nobody.png is not in"),
        (lambda: map_files.remove(scene_map, images.names), "no image would be left"),
        (lambda: map_files.add(tmp_path / "none", [images]), "no scene map"),
        (lambda: read_manifest(tmp_path), "no scene map"),
    ]:
        with pytest.raises(UsageError, match=message):
            mistake()
    assert (scene_map / "manifest.json").read_bytes() == before


def edit_manifest(folder, **changes):
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"version": 99}, "version 99, this program reads 1"),
        ({"format": "other"}, "not a map's manifest"),
        ({"segments": [{"name": "../../etc", "num_images": 6, "removed": []}]}, "damaged"),
        ({"segments": [{"name": "000000", "num_images": 7, "removed": []}]}, "6 images, not 7"),
        ({"segments": [{"name": "000000", "num_images": 6, "removed": [6]}]}, "damaged"),
    ],
)
def test_wrong_manifest(scene_map, changes, message):
    edit_manifest(scene_map, **changes)
    with pytest.raises(UsageError, match=message):
        read_all(scene_map)


@pytest.mark.parametrize("name", ["frames.json", "descriptors.npy", "feature_000.npy"])
def test_truncated_file_is_named(scene_map, name):
    path = scene_map / "segments" / "000000" / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UsageError, match=f"{name}: damaged"):
        read_all(scene_map)


def test_nan_in_poses_is_named(scene_map):
    path = scene_map / "segments" / "000000" / "frames.json"
    frames = json.loads(path.read_text())
    frames[2]["world_from_cam"][0][3] = float("nan")
    path.write_text(json.dumps(frames))
    with pytest.raises(UsageError, match="frames.json: 002.png: pose has NaN"):
        read_all(scene_map)


def test_links_do_not_lead_out_of_a_map(scene_map, images, rng, tmp_path):
    outside = tmp_path / "outside"
    (scene_map / "segments").rename(outside)
    (outside / "precious").mkdir()
    (scene_map / "segments").symlink_to(outside)
    before = sorted(path.name for path in outside.rglob("*"))
    for change in (
        lambda: map_files.add(scene_map, [encoded_images(rng, 1, "more-")]),
        lambda: map_files.remove(scene_map, ["000.png"]),
    ):
        with pytest.raises(UsageError, match="is a link"):
            change()
    assert sorted(path.name for path in outside.rglob("*")) == before
    (scene_map / "segments").unlink()
    outside.rename(scene_map / "segments")
    (tmp_path / "victim").write_text("keep")
    (scene_map / "lock").unlink(missing_ok=True)
    (scene_map / "lock").symlink_to(tmp_path / "victim")
    with pytest.raises(UsageError, match="cannot be written"):
        map_files.remove(scene_map, ["000.png"])
    assert (tmp_path / "victim").read_text() == "keep"


def test_two_writers_do_not_meet(scene_map):
    with open(scene_map / "lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="another program"):
            map_files.remove(scene_map, ["000.png"])
    map_files.remove(scene_map, ["000.png"])


def test_pickled_array_is_not_loaded(scene_map):
    path = scene_map / "segments" / "000000" / "descriptors.npy"
    np.save(path, np.array([{}] * 6, object), allow_pickle=True)
    with pytest.raises(UsageError, match="descriptors.npy: damaged"):
        read_all(scene_map)


def test_network_of_another_map_is_refused(scene_map):
    (scene_map / "network.safetensors").write_bytes(b"other weights")
    with pytest.raises(UsageError, match="not the network that made the map"):
        map_files.network_file(scene_map, read_manifest(scene_map))


WRITER = textwrap.dedent(
    """
    import dataclasses, pathlib, sys
    import numpy as np
    from jaxreloc.localization import map_files
    from tests.localization.fakes import OracleNetwork, oracle_frames
    from jaxreloc.localization.encoding import encode_frames
    folder = pathlib.Path(sys.argv[1])
    images = encode_frames(oracle_frames(np.random.default_rng(0), 4), OracleNetwork())
    print("ready", flush=True)
    for i in range(10_000):
        names = tuple(f"{i}-{name}" for name in images.names)
        map_files.add(folder, [dataclasses.replace(images, names=names)])
        map_files.remove(folder, names[:2] if i % 2 else names)
    """
)


CREATOR = textwrap.dedent(
    """
    import dataclasses, pathlib, sys
    import numpy as np
    from jaxreloc.localization import map_files
    from tests.localization.fakes import OracleNetwork, oracle_frames
    from jaxreloc.localization.encoding import encode_frames
    folder = pathlib.Path(sys.argv[1])
    images = encode_frames(oracle_frames(np.random.default_rng(0), 20), OracleNetwork())
    other = dataclasses.replace(images, names=tuple("b" + name for name in images.names))
    for i in range(10_000):
        save = lambda to: (to / "network.safetensors").write_bytes(b"weights")
        map_files.create(folder / str(i), save, [images, other])
        if i == 0:
            print("ready", flush=True)
    """
)


def killed(program, folder, rng):
    """Runs `program` on `folder` and kills it at a random moment of its work."""
    arguments = [sys.executable, "-c", program, str(folder)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline() == b"ready\n"
        time.sleep(rng.uniform(0.05, 0.5))
        writer.send_signal(signal.SIGKILL)


def test_kill_while_creating_leaves_whole_maps_or_none(tmp_path, rng):
    killed(CREATOR, tmp_path, rng)
    made = [path for path in tmp_path.iterdir() if not path.name.startswith(".")]
    assert len(made) > 0
    for path in made:
        assert len(names(path)) == 40
        map_files.network_file(path, read_manifest(path))


def test_kill_at_any_moment_leaves_a_whole_map(scene_map, images, rng):
    for _ in range(3):
        killed(WRITER, scene_map, rng)
        kept = names(scene_map)
        assert kept[:6] == list(images.names)
        assert len(kept) % 2 == 0
        if kept[6:]:
            map_files.remove(scene_map, kept[6:])
    map_files.add(scene_map, [encoded_images(rng, 2, "after-")])
    folders = {path.name for path in (scene_map / "segments").iterdir()}
    assert folders == {s.name for s in read_manifest(scene_map).segments}

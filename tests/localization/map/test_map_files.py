"""A map on disk: what is written is read back, and a crash leaves the old map or the new."""

import contextlib
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

from jaxreloc.formats.common.geodesy import GeographicOrigin
from jaxreloc.localization.map import map_files
from jaxreloc.localization.map.encoding import CellDepth, encode_frames
from jaxreloc.localization.map.map_manifest import read_manifest, write_content, write_manifest
from jaxreloc.usage import UsageError
from tests.localization.fakes import OracleNetwork, oracle_frames


def encoded_images(rng, n, prefix=""):
    images = encode_frames(oracle_frames(rng, n), OracleNetwork())
    depth = CellDepth(
        rng.integers(0, 1 << 16, (n, 2, 3), np.uint16), rng.uniform(1, 2, n).astype(np.float32)
    )
    names = tuple(prefix + name for name in images.names)
    return dataclasses.replace(images, names=names, depth=depth)


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
    assert list(a.pictures) == list(b.pictures)


def test_what_is_written_is_read_back_mapped(scene_map, images):
    (stored,) = read_all(scene_map)
    same(stored, images)
    assert isinstance(stored.features[0].items.array, np.memmap)
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
    content = json.loads((folder / "manifest.json").read_text())
    write_content(folder, content | changes)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"version": 99}, "version 99, this program reads 3"),
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


def as_version_1(folder):
    """The map as an earlier version wrote it, without digests."""
    path = folder / "manifest.json"
    content = json.loads(path.read_text()) | {"version": 1}
    del content["sha256"]
    for segment in content["segments"]:
        del segment["files_sha256"], segment["depth_sha256"]
        for name in ("files.json", "depth_files.json"):
            (folder / "segments" / segment["name"] / name).unlink()
    path.write_text(json.dumps(content))


def test_a_map_without_digests_is_read_and_added_to(scene_map, images, rng):
    as_version_1(scene_map)
    more = encoded_images(rng, 3, "more-")
    map_files.add(scene_map, [more])
    first, second = read_all(scene_map)
    same(first, images)
    same(second, more)
    for line in map_files.check_files(scene_map):
        assert "000000: cannot be checked, an earlier version wrote it" in line


def test_nan_in_poses_is_named(scene_map):
    as_version_1(scene_map)
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


def test_the_geographic_origin_stays_when_a_map_changes(tmp_path, images, rng):
    origin = GeographicOrigin(rng.uniform(-90, 90), rng.uniform(-180, 180), 12.5)
    map_files.create(tmp_path / "map", save_network, [images], origin)
    assert read_manifest(tmp_path / "map").geographic_origin == origin
    more = encoded_images(rng, 2, "more-")
    map_files.add(tmp_path / "map", [more])
    map_files.remove(tmp_path / "map", more.names[:1])
    assert read_manifest(tmp_path / "map").geographic_origin == origin


@pytest.mark.parametrize(
    "wrong",
    [5, "x", {}, {"latitude_deg": 1}, {"latitude_deg": 91, "longitude_deg": 0, "height_m": 0}],
)
def test_a_wrong_geographic_origin_is_one_line(scene_map, wrong):
    edit_manifest(scene_map, geographic_origin=wrong)
    with pytest.raises(UsageError, match="manifest.json: "):
        read_manifest(scene_map)


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


def test_a_bad_pose_is_not_written(tmp_path, images):
    poses = images.world_from_cam.copy()
    poses[3, 0, 3] = np.nan
    bad = dataclasses.replace(images, world_from_cam=poses)
    with pytest.raises(UsageError, match="003.png: pose has NaN"):
        map_files.create(tmp_path / "map", save_network, [bad])
    assert os.listdir(tmp_path) == []


def files_of(folder):
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "lock")


def use_all(folder):
    """Reads what queries may read of a map; its rows."""
    rows = []
    for part in read_all(folder):
        for feature in (*part.features, part.depth.codes):
            rows.extend(np.array(row) for row in feature)
        rows += [part.world_from_cam, part.intrinsics, part.image_sizes]
        rows += [part.network_intrinsics, np.array(part.descriptors)]
    map_files.network_file(folder, read_manifest(folder))
    return rows


def test_no_flipped_bit_goes_unnoticed(scene_map, rng):
    numbers = use_all(scene_map)
    assert map_files.check_files(scene_map) == []
    for path in files_of(scene_map):
        whole = path.read_bytes()
        for _ in range(20):
            flipped = bytearray(whole)
            flipped[rng.integers(len(whole))] ^= 1 << rng.integers(8)
            path.write_bytes(flipped)
            if path.name == "manifest.json":
                try:  # what JSON ignores, as a space that became another, changes nothing
                    same_manifest = read_manifest(scene_map)
                except UsageError as error:
                    assert "manifest.json" in str(error)
                else:
                    path.write_bytes(whole)
                    assert same_manifest == read_manifest(scene_map)
                continue
            (line,) = map_files.check_files(scene_map)
            assert path.name in line
            if path.suffix != ".jpg":
                try:  # a header's bit may change nothing that is read, as a space's
                    same_numbers = use_all(scene_map)
                except UsageError as error:
                    assert path.name in str(error)
                else:
                    assert path.suffix == ".npy"
                    for was, now in zip(numbers, same_numbers, strict=True):
                        np.testing.assert_array_equal(was, now)
        path.write_bytes(whole)
    use_all(scene_map)


def test_another_maps_file_is_named(scene_map, tmp_path, rng):
    map_files.create(tmp_path / "other", save_network, [encoded_images(rng, 6)])
    for path in files_of(scene_map / "segments"):
        whole = path.read_bytes()
        path.write_bytes((tmp_path / "other" / path.relative_to(scene_map)).read_bytes())
        assert path.read_bytes() != whole or path.name == "network_intrinsics.npy"
        if path.read_bytes() == whole:
            continue
        assert any(path.name in line for line in map_files.check_files(scene_map))
        if path.suffix != ".jpg":
            with pytest.raises(UsageError, match=f"{path.name}: damaged, or of another map"):
                use_all(scene_map)
        path.write_bytes(whole)


def test_depth_that_comes_later_is_checked_too(scene_map, images, rng):
    codes = rng.integers(0, 1 << 16, (6, 2, 3), np.uint16)
    later = CellDepth(codes, np.ones(6, np.float32), measured=True)
    map_files.add_depth(scene_map, read_manifest(scene_map).segments[0], later)
    (part,) = read_all(scene_map)
    np.testing.assert_array_equal(np.stack(list(part.depth.codes)), codes)
    assert part.depth.measured and map_files.check_files(scene_map) == []
    path = scene_map / "segments" / "000000" / "depth.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    (line,) = map_files.check_files(scene_map)
    assert "depth.npy" in line
    (part,) = read_all(scene_map)
    np.testing.assert_array_equal(part.depth.codes[0], codes[0])
    with pytest.raises(UsageError, match="depth.npy: damaged, or of another map"):
        part.depth.codes[5]


def test_depth_of_a_segment_that_was_replaced_is_refused(scene_map, images, rng):
    map_files.add(scene_map, [encoded_images(rng, 2, "b-")])
    old = read_manifest(scene_map).segments[1]
    map_files.remove(scene_map, ["b-000.png", "b-001.png"])
    map_files.add(scene_map, [encoded_images(rng, 2, "c-")])
    new = read_manifest(scene_map).segments[1]
    assert new.name == old.name
    with pytest.raises(UsageError, match="changed by another program; run the command again"):
        map_files.add_depth(scene_map, old, encoded_images(rng, 2).depth)
    assert read_manifest(scene_map).segments[1] == new


def test_a_reader_reads_again_what_a_writer_changed(scene_map, images, rng):
    map_files.add(scene_map, [encoded_images(rng, 2, "b-")])
    seen = []

    def read(manifest):
        seen.append(manifest)
        if len(seen) == 1:
            map_files.remove(scene_map, ["b-000.png", "b-001.png"])
            map_files.add(scene_map, [encoded_images(rng, 3, "c-")])
        return map_files.read_parts(scene_map, manifest)

    parts = map_files.read_between_changes(scene_map, read)
    assert [part.names[0][:2] for part in parts] == ["00", "c-"]
    assert seen[1] == read_manifest(scene_map) and len(seen) == 2


def test_a_damaged_file_is_read_once(scene_map):
    path = scene_map / "segments" / "000000" / "descriptors.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    seen = []

    def read(manifest):
        seen.append(manifest)
        return map_files.read_parts(scene_map, manifest)

    with pytest.raises(UsageError, match="descriptors.npy: damaged"):
        map_files.read_between_changes(scene_map, read)
    assert len(seen) == 1


def test_a_reader_gives_up_on_a_map_that_never_rests(scene_map):
    def read(manifest):
        write_manifest(scene_map, manifest)
        raise UsageError("gone")

    with pytest.raises(UsageError, match="changed by another program"):
        map_files.read_between_changes(scene_map, read)


def test_absent_files_are_named(scene_map):
    for path in files_of(scene_map):
        whole = path.read_bytes()
        path.unlink()
        if path.name == "manifest.json":
            with pytest.raises(UsageError, match="no scene map"):
                map_files.check_files(scene_map)
        else:
            (line,) = map_files.check_files(scene_map)
            assert path.name in line
        path.write_bytes(whole)
    assert map_files.check_files(scene_map) == []


def test_rows_are_checked_as_they_are_first_read(scene_map):
    path = scene_map / "segments" / "000000" / "feature_000.npy"
    damaged = np.load(path)
    damaged[4, 0] += 1
    np.save(path, damaged)
    (part,) = read_all(scene_map)
    for i in (0, 1, 2, 3, 5):
        np.testing.assert_array_equal(part.features[0][i], damaged[i])
    with pytest.raises(UsageError, match="feature_000.npy: damaged"):
        part.features[0][4]


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5000, "[[]]", '{"a": 1}', "null", "", "[0]"])
@pytest.mark.parametrize("name", ["manifest.json", "frames.json", "files.json"])
def test_absurd_json_is_one_line(scene_map, name, text):
    if name == "frames.json":
        as_version_1(scene_map)
    (path,) = scene_map.rglob(name)
    path.write_text(text)
    with pytest.raises(UsageError, match=name):
        use_all(scene_map)


@pytest.mark.parametrize("value", [10**400, 1e400, "9" * 5000, [], {}, None, [[[]]], -1, 2**63])
@pytest.mark.parametrize("field", ["name", "num_images", "removed", "files_sha256"])
def test_absurd_segments_are_one_line(scene_map, field, value):
    content = json.loads((scene_map / "manifest.json").read_text())
    content["segments"][0][field] = value
    with contextlib.suppress(ValueError):  # digits that JSON does not write
        write_content(scene_map, content)
    if (field, value) in [("removed", []), ("removed", {}), ("files_sha256", None)]:
        use_all(scene_map)
    else:
        with pytest.raises(UsageError, match="damaged|not a map's manifest|rows|images"):
            use_all(scene_map)


@pytest.mark.parametrize("value", [10**400, 1e400, "x", [], {}, None, [[1e300] * 4] * 4, 2**63])
@pytest.mark.parametrize("field", ["name", "world_from_cam", "intrinsics", "image_size"])
def test_absurd_frames_are_one_line(scene_map, field, value):
    as_version_1(scene_map)
    path = scene_map / "segments" / "000000" / "frames.json"
    frames = json.loads(path.read_text())
    frames[1][field] = value
    path.write_text(json.dumps(frames))
    if field == "name":
        use_all(scene_map)
    else:
        with pytest.raises(UsageError, match="frames.json"):
            use_all(scene_map)


def test_damaged_array_headers_are_one_line(scene_map, rng):
    as_version_1(scene_map)
    path = scene_map / "segments" / "000000" / "descriptors.npy"
    whole = path.read_bytes()
    for place in range(128):
        for bit in range(8):
            flipped = bytearray(whole)
            flipped[place] ^= 1 << bit
            path.write_bytes(flipped)
            with contextlib.suppress(UsageError):
                read_all(scene_map)


def test_a_killed_writers_temporary_manifest_is_removed(scene_map, rng):
    (scene_map / ".manifest.json.abcdef").write_text("{")
    map_files.add(scene_map, [encoded_images(rng, 1, "b-")])
    assert not list(scene_map.glob(".*"))


WRITER = textwrap.dedent(
    """
    import dataclasses, pathlib, sys
    import numpy as np
    from jaxreloc.localization.map import map_files
    from tests.localization.fakes import OracleNetwork, oracle_frames
    from jaxreloc.localization.map.encoding import encode_frames
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
    from jaxreloc.localization.map import map_files
    from tests.localization.fakes import OracleNetwork, oracle_frames
    from jaxreloc.localization.map.encoding import encode_frames
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

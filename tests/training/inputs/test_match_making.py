"""From frames to matched pairs: which pairs, whose matches, and files made once."""

import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxreloc.data.pairing.overlap import pair_overlap
from jaxreloc.training.inputs import match_making, matched_pairs
from jaxreloc.training.inputs.match_making import MatchMaking
from tests.training.planted_matches import NumberMatcher, room_frames

SIZES = ((24, 32), (48, 64))


@pytest.fixture
def networks():
    return [NumberMatcher(size) for size in SIZES]


def make(rng, networks, strangers=None, scene="hall"):
    frames = room_frames(rng, scene=scene)
    settings = MatchMaking(image_sizes=SIZES, num_pairs=20, unrelated_share=0.4, max_matches=5)
    return frames, *match_making.match_scene(frames, networks, settings, strangers)


def test_matches_poses_and_overlaps_are_of_the_named_frames(rng, networks):
    frames, pairs, _ = make(rng, networks)
    db, query = pairs.frames.T
    assert pairs.x_query.shape == (len(pairs), 5, 2)
    np.testing.assert_array_equal(pairs.x_db[:, 0, 0], db + 1)
    np.testing.assert_array_equal(pairs.x_query[:, 0, 0], query + 1)
    true = np.linalg.inv(frames.world_from_cam[db]) @ frames.world_from_cam[query]
    np.testing.assert_allclose(pairs.db_from_query[:, 4:], true[:, :3, 3], atol=1e-6)
    found = Rotation.from_quat(pairs.db_from_query[:, :4], scalar_first=True).as_matrix()
    np.testing.assert_allclose(found, true[:, :3, :3], atol=1e-6)
    np.testing.assert_allclose(pairs.overlap, pair_overlap(frames, db, query), atol=1e-6)
    assert set(pairs.names) == {"hall"}


def test_some_pairs_share_much_and_some_nothing(rng, networks):
    _, pairs, _ = make(rng, networks)
    unrelated = pairs.overlap < match_making.NO_OVERLAP
    assert 1 <= np.sum(unrelated) <= 4
    assert (pairs.overlap[~unrelated] >= 0.1).all()


def test_canvases_take_turns(rng, networks):
    _, pairs, _ = make(rng, networks)
    heights, counts = np.unique(pairs.height_px, return_counts=True)
    np.testing.assert_array_equal(heights, [24, 48])
    assert abs(int(counts[0]) - int(counts[1])) <= 1
    np.testing.assert_allclose(pairs.focal_px, 32 * pairs.height_px / 24)


def test_strangers_are_the_most_similar_images_of_the_scene_before(rng, networks):
    _, _, kept = make(rng, networks, scene="before")
    assert [len(scene) for scene in kept] == [12, 12]
    _, pairs, _ = make(rng, networks, strangers=kept)
    foreign = pairs.names == "before/hall"
    assert np.sum(foreign) == 4
    assert (pairs.overlap[foreign] == 0).all()
    np.testing.assert_array_equal(
        pairs.db_from_query[foreign], np.tile([1, 0, 0, 0, 0, 0, 0], (4, 1))
    )
    for row in np.flatnonzero(foreign):
        index = list(SIZES).index((int(pairs.height_px[row]), int(pairs.height_px[row]) * 4 // 3))
        numbers = kept[index].features.number
        # Pictures are numbered from 1, and so are the matches.
        seen = pairs.x_db[row, 0, 0], pairs.x_query[row, 0, 0]
        np.testing.assert_array_equal(pairs.frames[row] + 1, seen)
        # The descriptor turns with the number.
        nearest = numbers[np.argmin(np.abs(numbers - pairs.x_query[row, 0, 0]))]
        assert abs(pairs.x_db[row, 0, 0] - pairs.x_query[row, 0, 0]) == abs(
            nearest - pairs.x_query[row, 0, 0]
        )


def test_the_same_scene_gives_the_same_pairs(rng, networks):
    frames = room_frames(rng)
    settings = MatchMaking(image_sizes=SIZES, num_pairs=10)
    a, b = (match_making.match_scene(frames, networks, settings, None)[0] for _ in range(2))
    np.testing.assert_array_equal(a.frames, b.frames)


def test_files_are_made_once(rng, networks, tmp_path):
    read, lines = [], []

    def reader(name):
        def frames():
            read.append(name)
            whole = room_frames(rng, scene=name)
            return [whole.select(range(8)), whole.select(range(8, 14))]

        return name, frames

    settings = MatchMaking(image_sizes=SIZES, num_pairs=10)
    scenes = [reader("a"), reader("b")]
    for _ in range(2):
        paths = match_making.write_scenes(scenes, networks, tmp_path, settings, lines.append)
        assert [path.name for path in paths] == ["a.matches.npz", "b.matches.npz"]
    assert read == ["a", "b"] and len(lines) == 2
    loaded = matched_pairs.load(paths[1])
    assert loaded.frames.max() > 7, "the second part counts on from the first"
    paths[0].unlink()
    match_making.write_scenes(scenes, networks, tmp_path, settings)
    assert read == ["a", "b", "a"]


def scenes_of(rooms, read):
    """What write_scenes takes; notes in `read` which scenes are read."""

    def reader(name):
        def frames():
            read.append(name)
            return [rooms[name]]

        return frames

    return [(name, reader(name)) for name in rooms]


@pytest.mark.parametrize("cut", ["matching", "saving"])
def test_what_an_interrupted_call_leaves_is_gone_on_with(rng, networks, tmp_path, monkeypatch, cut):
    """Whole files only; finished scenes are kept; in the end all is as without interruption."""
    rooms = {name: room_frames(rng, scene=name) for name in "abc"}
    settings = MatchMaking(image_sizes=SIZES, num_pairs=10, unrelated_share=0.4)
    straight = scenes_of(rooms, [])
    expected = match_making.write_scenes(straight, networks, tmp_path / "straight", settings)

    read, folder = [], tmp_path / "resumed"
    with monkeypatch.context() as interrupted:
        if cut == "matching":
            matched = networks[1].match

            def match(*arguments):
                if read[-1] == "b":
                    raise KeyboardInterrupt
                return matched(*arguments)

            interrupted.setattr(networks[1], "match", match)
        else:

            def savez(file, **arrays):
                file.write(b"half a file")
                if read[-1] == "b":
                    raise KeyboardInterrupt
                file.seek(0)
                np.savez_compressed(file, **arrays)

            interrupted.setattr(np, "savez", savez)
        with pytest.raises(KeyboardInterrupt):
            match_making.write_scenes(scenes_of(rooms, read), networks, folder, settings)
    assert [path.name for path in folder.iterdir()] == ["a.matches.npz"]
    assert read == ["a", "b"]

    read.clear()
    before = (folder / "a.matches.npz").read_bytes()
    networks[0].encoded.clear()
    paths = match_making.write_scenes(scenes_of(rooms, read), networks, folder, settings)
    assert (folder / "a.matches.npz").read_bytes() == before
    # Of the finished scene, only the strangers to the next one are seen again.
    assert len(networks[0].encoded) == match_making.STRANGERS + len(rooms["b"]) + len(rooms["c"])
    assert sorted(folder.iterdir()) == paths
    for mine, theirs in zip(paths, expected, strict=True):
        mine, theirs = matched_pairs.load(mine), matched_pairs.load(theirs)
        for field in dataclasses.fields(mine):
            np.testing.assert_array_equal(getattr(mine, field.name), getattr(theirs, field.name))
    assert "a/b" in matched_pairs.load(paths[1]).names


def test_parts_of_a_scene_are_joined_with_their_depth(rng):
    whole = room_frames(rng)
    whole = dataclasses.replace(whole, depth_intrinsics=whole.intrinsics / 2)
    parts = [whole.select(range(5)), whole.select(range(5, 14))]
    both = match_making.joined(parts)
    assert both.names == whole.names
    for name in ("world_from_cam", "intrinsics", "image_sizes", "depth_intrinsics", "depths"):
        np.testing.assert_array_equal(getattr(both, name), getattr(whole, name), err_msg=name)
    without = match_making.joined([parts[0], dataclasses.replace(parts[1], depths=None)])
    assert without.depths is None and len(without.images) == 14

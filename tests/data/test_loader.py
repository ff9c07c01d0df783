import collections
import itertools
import os
import pathlib
import signal
import subprocess
import sys
import time

import jaxlie
import numpy as np
import pytest

from jaxreloc.data.loader import PairLoader
from jaxreloc.data.pairing.mined_pairs import Pairs, make_pairs
from jaxreloc.geometry.poses import relative_pose
from jaxreloc.usage import UsageError
from tests.data.coloured_frames import (
    COUNTS,
    NUM_PAIRS,
    every_pair,
    frame_of,
    make_scenes,
    value_of,
)

SIZE, CROP, BATCH = 24, 16, 4


@pytest.fixture
def scenes(rng):
    return make_scenes(rng)


@pytest.fixture
def pairs(scenes, rng):
    return every_pair(scenes, rng)


def loader(scenes, pairs, **options):
    defaults = dict(batch_size=BATCH, train=True, seed=3, image_size=SIZE, crop=CROP, jitter=0.0)
    return PairLoader(scenes, pairs, **(defaults | options))


def first(iterator, count):
    return list(itertools.islice(iterator, count))


def assert_equal_batches(ours, theirs):
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)
            assert one[name].dtype == other[name].dtype


def test_batch_is_what_it_says(scenes, pairs):
    batch = next(loader(scenes, pairs, jitter=0.4).batches())
    shapes = {name: (array.shape, array.dtype.name) for name, array in batch.items()}
    assert shapes == {
        "db_image": ((BATCH, CROP, CROP, 3), "uint8"),
        "query_image": ((BATCH, CROP, CROP, 3), "uint8"),
        "db_from_query": ((BATCH, 7), "float32"),
        "db_intrinsics": ((BATCH, 3, 3), "float32"),
        "query_intrinsics": ((BATCH, 3, 3), "float32"),
        "mask": ((BATCH,), "bool"),
        "pair_index": ((BATCH,), "int64"),
    }


@pytest.mark.parametrize("translation_frame", ["camera", "world"])
@pytest.mark.parametrize("train", [True, False])
def test_label_is_the_relative_pose_of_the_images_shown(scenes, pairs, translation_frame, train):
    """Whichever way round a pair comes; against jaxlie."""
    swapped = []
    options = dict(train=train, translation_frame=translation_frame)
    for batch in first(loader(scenes, pairs, **options).batches(), 25):
        for k in np.flatnonzero(batch["mask"]):
            scene, db = frame_of(batch["db_image"][k])
            _, query = frame_of(batch["query_image"][k])
            index = batch["pair_index"][k]
            assert scene == pairs.scene[index]
            assert {db, query} == {pairs.db[index], pairs.query[index]}
            swapped.append(db == pairs.query[index])
            poses = scenes[scene].world_from_cam
            expected = relative_pose(
                *(jaxlie.SE3.from_matrix(np.float32(poses[i])) for i in (db, query))
            )
            label = jaxlie.SE3(np.asarray(batch["db_from_query"][k]))
            difference = (expected.rotation().inverse() @ label.rotation()).log()
            np.testing.assert_allclose(difference, 0, atol=2e-3)
            assert label.rotation().wxyz[0] >= 0
            translation = expected.translation()
            if translation_frame == "world":
                translation = poses[query, :3, 3] - poses[db, :3, 3]
            np.testing.assert_allclose(label.translation(), translation, atol=1e-5)
    assert np.mean(swapped) == pytest.approx(0.5 if train else 0, abs=0.3 if train else 0)


def test_intrinsics_are_of_the_crop(scenes, pairs):
    batch = next(loader(scenes, pairs, train=False).batches())
    for k in range(BATCH):
        index = batch["pair_index"][k]
        frames = scenes[pairs.scene[index]]
        for name, frame in (("db", pairs.db[index]), ("query", pairs.query[index])):
            # 40x30 to 32x24 is a scale of 0.8; the middle 16x16 starts at column 8, row 4.
            expected = np.diag([0.8, 0.8, 1]) @ frames.intrinsics[frame]
            expected[:2, 2] = (19.5 + 0.5) * 0.8 - 0.5 - 8, (14.5 + 0.5) * 0.8 - 0.5 - 4
            np.testing.assert_allclose(batch[f"{name}_intrinsics"][k], expected, rtol=1e-6)


def test_random_crops_differ_and_carry_their_intrinsics(scenes, pairs):
    corners = [
        (round(float(k[0, 2]), 3), round(float(k[1, 2]), 3))
        for batch in first(loader(scenes, pairs).batches(), 40)
        for name in ("db_intrinsics", "query_intrinsics")
        for k in batch[name]
    ]
    expected = {(15.5 - x, 11.5 - y) for x in range(17) for y in range(9)}
    assert set(corners) <= expected
    assert len(set(corners)) > 80


def test_jitter_is_for_training_only(scenes, pairs):
    evaluated = next(loader(scenes, pairs, train=False, jitter=0.4).batches())
    for image in evaluated["db_image"]:
        frame_of(image)
        assert (image == image[0, 0, 0]).all()
    trained = first(loader(scenes, pairs, jitter=0.4).batches(), 6)
    shown = {int(image[0, 0, 0]) for batch in trained for image in batch["db_image"]}
    assert len(shown - {value_of(s, k) for s, count in enumerate(COUNTS) for k in range(count)}) > 5


@pytest.mark.parametrize("train", [True, False])
def test_any_step_can_be_resumed_at(scenes, pairs, train):
    """The last steps of 14 lie in the third epoch of training."""
    options = dict(train=train, jitter=0.4)
    steps = 14 if train else 6
    whole = first(loader(scenes, pairs, **options).batches(), steps)
    for start in (0, 1, 5, steps - 1):
        resumed = first(loader(scenes, pairs, **options).batches(start), steps - start)
        assert_equal_batches(resumed, whole[start:])


def test_workers_change_nothing(scenes, pairs):
    options = dict(jitter=0.4)
    expected = first(loader(scenes, pairs, **options).batches(2), 9)
    found = first(loader(scenes, pairs, num_workers=2, **options).batches(2), 9)
    assert_equal_batches(found, expected)


def test_workers_reach_the_padded_end(scenes, pairs):
    expected = list(loader(scenes, pairs, train=False).batches())
    found = list(loader(scenes, pairs, train=False, num_workers=1).batches())
    assert_equal_batches(found, expected)


def test_epochs_hold_every_pair_once_in_a_new_order(scenes, pairs):
    indices = np.concatenate(
        [batch["pair_index"] for batch in first(loader(scenes, pairs).batches(), 33)]
    )
    epochs = indices[: 6 * NUM_PAIRS].reshape(6, NUM_PAIRS)
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(NUM_PAIRS))
    assert len({tuple(epoch) for epoch in epochs}) == 6


def test_a_pair_looks_different_in_each_epoch(scenes, pairs):
    seen = collections.defaultdict(set)
    for batch in first(loader(scenes, pairs).batches(), 22):
        for index, intrinsics in zip(batch["pair_index"], batch["db_intrinsics"]):
            seen[int(index)].add(intrinsics.tobytes())
    assert np.mean([len(views) for views in seen.values()]) > 3  # of four epochs


def test_seed_decides(scenes, pairs):
    same, again, other = (
        first(loader(scenes, pairs, seed=seed).batches(), 3) for seed in (5, 5, 6)
    )
    assert_equal_batches(same, again)
    assert any((a["pair_index"] != b["pair_index"]).any() for a, b in zip(same, other))


@pytest.mark.parametrize("train", [True, False])
def test_global_batch_is_the_same_for_any_number_of_processes(scenes, pairs, train):
    """The shares of 1, 2 and 4 processes add up to the same examples at each step."""

    def global_batches(processes):
        shares = [
            first(
                loader(
                    scenes,
                    pairs,
                    train=train,
                    jitter=0.4,
                    process_index=index,
                    process_count=processes,
                ).batches(),
                6,
            )
            for index in range(processes)
        ]
        assert {len(batch["mask"]) for share in shares for batch in share} == {BATCH // processes}
        return [
            {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
            for parts in zip(*shares, strict=True)
        ]

    def example_set(batch):
        return sorted(
            tuple(batch[name][k].tobytes() for name in sorted(batch)) for k in range(BATCH)
        )

    expected = [example_set(batch) for batch in global_batches(1)]
    assert len(expected) == 6
    for processes in (2, 4):
        assert [example_set(batch) for batch in global_batches(processes)] == expected


def test_evaluation_shows_each_pair_once_and_pads(scenes, pairs):
    tested = loader(scenes, pairs, train=False)
    batches = list(tested.batches())
    assert len(batches) == len(tested) == 6
    indices = np.concatenate([batch["pair_index"] for batch in batches])
    mask = np.concatenate([batch["mask"] for batch in batches])
    np.testing.assert_array_equal(indices, [*range(NUM_PAIRS), -1, -1])
    np.testing.assert_array_equal(mask, indices >= 0)
    last = batches[-1]
    assert np.isfinite(last["db_from_query"]).all()
    np.testing.assert_allclose(np.linalg.norm(last["db_from_query"][:, :4], axis=1), 1, rtol=1e-6)
    assert np.linalg.det(last["db_intrinsics"]).all()


def test_whole_frames(scenes, pairs):
    options = dict(image_size=(24, 32), crop=None)
    batch = next(loader(scenes, pairs, **options).batches())
    assert batch["query_image"].shape == (BATCH, 24, 32, 3)
    assert batch["query_image"].min() >= 10  # of one aspect: nothing is padded
    np.testing.assert_allclose(batch["query_intrinsics"][:, :2, 2], [[15.5, 11.5]] * BATCH)
    options["image_size"], options["jitter"] = (40, 32), 0.4  # which leaves the canvas black
    padded = next(loader(scenes, pairs, **options).batches())
    assert (padded["query_image"][:, :8] == 0).all() and (padded["query_image"][:, 32:] == 0).all()
    np.testing.assert_allclose(padded["query_intrinsics"][:, :2, 2], [[15.5, 19.5]] * BATCH)


def test_whole_frames_in_evaluation_pad_with_whole_frames(scenes, pairs):
    options = dict(train=False, image_size=(24, 32), crop=None)
    batches = list(loader(scenes, pairs, **options).batches())
    assert {batch["db_image"].shape for batch in batches} == {(BATCH, 24, 32, 3)}


@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_picture_ends_the_iteration(rng, workers):
    scenes = make_scenes(rng, bad=(2,))
    pairs = make_pairs(scenes, np.zeros(2, int), np.array([0, 2]), np.array([1, 3]))
    batches = loader(scenes, pairs, batch_size=2, num_workers=workers).batches()
    with pytest.raises(UsageError, match="frame 2: not a readable picture"):
        next(batches)


def test_unreadable_pictures_are_skipped_and_listed_in_training(rng, caplog):
    scenes = make_scenes(rng, bad=(2, 4))
    pairs = every_pair(scenes, rng)
    is_bad = (pairs.scene == 0) & (np.isin(pairs.db, (2, 4)) | np.isin(pairs.query, (2, 4)))
    skipping = loader(scenes, pairs, skip_bad_frames=True)
    with caplog.at_level("WARNING"):
        batches = first(skipping.batches(), 12)
    indices = np.concatenate([batch["pair_index"] for batch in batches])
    assert all(batch["mask"].all() for batch in batches)
    assert not is_bad[indices].any()
    assert set(indices) == set(np.flatnonzero(~is_bad))
    met = {
        f"scene0/{frame}.png"
        for frame in (2, 4)
        if frame in pairs.db[pairs.scene == 0] or frame in pairs.query[pairs.scene == 0]
    }
    assert skipping.bad_frames == met
    for name in met:
        assert caplog.text.count(f"{name} cannot be read") == 1


def test_unreadable_pictures_are_masked_in_evaluation(rng):
    scenes = make_scenes(rng, bad=(2,))
    pairs = make_pairs(scenes, np.zeros(3, int), np.array([0, 2, 1]), np.array([1, 3, 4]))
    skipping = loader(scenes, pairs, train=False, skip_bad_frames=True)
    (batch,) = skipping.batches()
    np.testing.assert_array_equal(batch["mask"], [True, False, True, False])
    np.testing.assert_array_equal(batch["pair_index"], [0, 1, 2, -1])
    assert skipping.bad_frames == {"scene0/2.png"}


def test_nothing_readable(rng):
    scenes = make_scenes(rng, bad=tuple(range(COUNTS[0])))
    pairs = make_pairs(scenes, np.zeros(3, int), np.array([0, 2, 1]), np.array([1, 3, 4]))
    with pytest.raises(UsageError, match="no pair has two readable pictures"):
        next(loader(scenes, pairs, skip_bad_frames=True).batches())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(translation_frame="cam"), "unknown translation frame 'cam'; known: camera, world"),
        (dict(crop=None), "need image_size="),
        (dict(crop=SIZE + 1), "needs image_size"),
        (dict(image_size=(24, 32)), "needs image_size"),
        (dict(process_count=3), "batch_size=4 does not divide over 3 processes"),
    ],
)
def test_options_that_do_not_fit(scenes, pairs, options, message):
    with pytest.raises(UsageError, match=message):
        loader(scenes, pairs, **options)


def test_no_pairs(scenes):
    none = Pairs(*(np.zeros(0, np.int64) for _ in range(3)), np.zeros((0, 4, 4)))
    with pytest.raises(UsageError, match="no pairs"):
        loader(scenes, none)


PARENT = """
import os, sys
import numpy as np
from jaxreloc.data.loader import PairLoader
from tests.data.coloured_frames import every_pair, make_scenes

if __name__ == "__main__":
    rng = np.random.default_rng(0)
    scenes = make_scenes(rng)
    loader = PairLoader(
        scenes, every_pair(scenes, rng), batch_size=2, train=True, image_size=24, crop=16,
        num_workers=2,
    )
    batches = loader.batches()
    next(batches)
    print("reading", flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(not pathlib.Path("/proc").is_dir(), reason="finds processes in /proc")
def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    root = pathlib.Path(__file__).parents[2]
    parent = subprocess.Popen(
        [sys.executable, script],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout.readline() == "reading\n"
    children = children_of(parent.pid)
    assert len(children) >= 2
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 60
    while any(pathlib.Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < deadline, "workers outlive their parent"
        time.sleep(0.1)


def children_of(pid):
    found = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found

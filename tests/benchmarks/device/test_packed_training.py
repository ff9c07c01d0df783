"""Packed frames are read back, and threads make the batches that the project's loader would."""

import itertools

import numpy as np
import pytest

from benchmarks.device.packed_frames import pack, unpack
from benchmarks.device.packed_training import ThreadedLoader
from jaxreloc.data.loader import PairLoader
from jaxreloc.data.pairing.mined_pairs import make_pairs
from jaxreloc.usage import UsageError
from tests.training import tiny


@pytest.fixture
def scenes(rng):
    return [tiny.frames(rng, count=5, scene=name) for name in ("hall", "attic")]


def test_packed_frames_are_the_frames(scenes, tmp_path):
    path = tmp_path / "frames.npz"
    pack(path, scenes, tiny.IMAGE_SIZE)
    for packed, frames in zip(unpack(path), scenes, strict=True):
        assert (packed.scene, packed.names) == (frames.scene, frames.names)
        np.testing.assert_array_equal(packed.world_from_cam, frames.world_from_cam)
        np.testing.assert_allclose(packed.intrinsics, frames.intrinsics)
        for image, original in zip(packed.images, frames.images, strict=True):
            off = np.abs(image.astype(int) - original.astype(int))
            assert off.mean() < 12  # JPEG's


def test_what_is_no_packed_file_is_named(tmp_path):
    (tmp_path / "frames.npz").write_bytes(b"no frames")
    with pytest.raises(UsageError, match="frames.npz: no packed frames.*packed_frames writes"):
        unpack(tmp_path / "frames.npz")


def loaders(scenes, count=11):
    rng = np.random.default_rng(0)
    db, query = rng.integers(5, size=(2, count))
    pairs = make_pairs(scenes, rng.integers(2, size=count), db, query)
    for train in (True, False):
        examples = PairLoader(
            scenes,
            pairs,
            batch_size=4,
            train=train,
            image_size=tiny.IMAGE_SIZE,
            crop=tiny.IMAGE_SIZE,
            jitter=0.0,
        )
        yield examples, ThreadedLoader(examples, count, 4, train, seed=3)


def test_training_batches_resume_at_any_step(scenes):
    _, loader = next(loaders(scenes))
    first = list(itertools.islice(loader.batches(), 5))
    again = list(itertools.islice(loader.batches(3), 2))
    for a, b in zip(first[3:], again, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])
    assert len({tuple(batch["pair_index"]) for batch in first}) > 1


def test_validation_is_what_the_projects_loader_gives(scenes):
    """Without crop and jitter the examples are equal, and so is the padding."""
    _, (examples, loader) = loaders(scenes)
    for mine, theirs in zip(loader.batches(), examples.batches(), strict=True):
        for name in mine:
            np.testing.assert_array_equal(mine[name], theirs[name])

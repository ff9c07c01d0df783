"""Batches of pairs of described pictures."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxreloc.data.pairing.mined_pairs import Pairs
from jaxreloc.training.inputs.cells.cell_features import CellFeatures
from jaxreloc.training.inputs.cells.cell_inputs import CellLoader
from jaxreloc.usage import UsageError

FRAMES, SIDE = 5, 4


@pytest.fixture
def data(rng):
    """Two scenes; what is of a frame says which one, in the first channel of its cells."""
    poses = np.tile(np.eye(4), (2, FRAMES, 1, 1))
    poses[..., :3, :3] = Rotation.random(2 * FRAMES, rng).as_matrix().reshape(2, FRAMES, 3, 3)
    poses[..., :3, 3] = rng.normal(size=(2, FRAMES, 3))
    scene, db, query = np.array([[0, 0, 1], [0, 3, 4], [1, 2, 0], [1, 0, 4], [0, 4, 1]]).T
    pairs = Pairs(scene, db, query, np.linalg.inv(poses[scene, db]) @ poses[scene, query])

    def features(scene: int) -> CellFeatures:
        number = (np.arange(FRAMES) + 10 * scene).reshape(FRAMES, 1, 1)
        coarse = np.zeros((FRAMES, SIDE, SIDE, 3), np.int8)
        coarse[..., 0] = number
        coarse[..., 1:] = np.stack(np.indices((SIDE, SIDE)), -1)
        return CellFeatures(
            coarse=coarse,
            fine=np.tile(coarse, 4),
            depth=np.broadcast_to(number, (FRAMES, 4 * SIDE, 4 * SIDE)).astype(np.float16),
            intrinsics=np.broadcast_to(number, (FRAMES, 3, 3)).astype(np.float32),
        )

    return [features(scene) for scene in range(2)], pairs, poses.reshape(-1, 4, 4)


def frame_numbers(batch, name):
    numbers = batch[f"{name}_coarse"][:, 0, 0, 0].astype(int)
    for array in (batch[f"{name}_depth"], batch[f"{name}_intrinsics"]):
        np.testing.assert_array_equal(array[:, 0, 0], numbers)
    return numbers // 10 * FRAMES + numbers % 10


def test_labels_are_the_relative_poses_of_the_frames(data):
    features, pairs, poses = data
    loader = CellLoader(features, pairs, batch_size=40, train=True, thinned_share=0.5, seed=2)
    sides = set()
    for batch, _ in zip(loader.batches(), range(8)):
        side = batch["db_coarse"].shape[1]
        sides.add(side)
        for name in ("db", "query"):
            cells = batch[f"{name}_coarse"][..., 1:] - batch[f"{name}_origin"][:, None, None]
            expected = SIDE // side * np.stack(np.indices((side, side)), -1)
            np.testing.assert_array_equal(cells, np.broadcast_to(expected, cells.shape))
            of_fine = batch[f"{name}_fine"].reshape(*cells.shape[:3], 4, 3)
            of_coarse = batch[f"{name}_coarse"][..., None, :]
            np.testing.assert_array_equal(of_fine, np.broadcast_to(of_coarse, of_fine.shape))
        db, query = (poses[frame_numbers(batch, name)] for name in ("db", "query"))
        expected = np.linalg.inv(db) @ query
        label = batch["db_from_query"]
        rotation = Rotation.from_quat(label[:, :4], scalar_first=True).as_matrix()
        np.testing.assert_allclose(rotation, expected[:, :3, :3], atol=1e-5)
        np.testing.assert_allclose(label[:, 4:], expected[:, :3, 3], atol=1e-5)
        own = np.stack([pairs.db, pairs.query])[:, batch["pair_index"]]
        seen = np.stack([frame_numbers(batch, x) % FRAMES for x in ("db", "query")])
        assert (np.sort(own, axis=0) == np.sort(seen, axis=0)).all()
        assert 0 < (own == seen).all(axis=0).mean() < 1  # both orders
    assert sides == {2, 4}


def test_evaluation_sees_each_pair_once_with_all_cells(data):
    features, pairs, _ = data
    loader = CellLoader(features, pairs, batch_size=3, train=False, thinned_share=1.0)
    batches = list(loader.batches())
    assert np.concatenate([x["pair_index"] for x in batches]).tolist() == [0, 1, 2, 3, 4, -1]
    assert [x["mask"].tolist() for x in batches] == [[True] * 3, [True, True, False]]
    assert {x["query_coarse"].shape for x in batches} == {(3, 4, 4, 3)}
    for one, other in zip(list(loader.batches(1)), batches[1:], strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in one)


def test_a_run_goes_on_where_it_was_and_processes_share_a_batch(data):
    features, pairs, _ = data
    options = {"batch_size": 6, "train": True, "thinned_share": 0.5, "seed": 5}
    batches = CellLoader(features, pairs, **options).batches()
    for _ in range(3):
        next(batches)
    fourth = next(batches)
    again = next(CellLoader(features, pairs, **options).batches(3))
    shares = [
        next(CellLoader(features, pairs, **options, process_index=k, process_count=2).batches(3))
        for k in range(2)
    ]
    for name, whole in fourth.items():
        np.testing.assert_array_equal(whole, again[name])
        np.testing.assert_array_equal(whole[0::2], shares[0][name])
        np.testing.assert_array_equal(whole[1::2], shares[1][name])


def test_no_pairs_and_uneven_batches_are_said(data):
    features, pairs, _ = data
    with pytest.raises(UsageError, match="no pairs"):
        CellLoader(features, pairs.select(np.arange(0)), batch_size=1, train=True)
    with pytest.raises(UsageError, match="batch_size=3"):
        CellLoader(features, pairs, batch_size=3, train=True, process_count=2)

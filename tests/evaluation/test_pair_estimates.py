import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxreloc.evaluation.pair_estimates import evaluate_pair_estimates, fuse_estimates
from jaxreloc.formats.pair_lists import NeighborList, read_neighbor_list
from jaxreloc.usage import UsageError

QUERIES, NEIGHBORS = 64, 6  # of tests/geometry/test_fusion.py, whose compiled functions serve here


def random_poses(rng, *shape):
    poses = np.tile(np.eye(4), (*shape, 1, 1))
    rotations = Rotation.random(int(np.prod(shape)), rng=rng).as_matrix()
    poses[..., :3, :3] = rotations.reshape(*shape, 3, 3)
    poses[..., :3, 3] = rng.normal(size=(*shape, 3))
    return poses


def some_neighbors(rng, num_queries=QUERIES, n=NEIGHBORS) -> NeighborList:
    return NeighborList(
        query_names=tuple(f"{q}.png" for q in range(num_queries)),
        query_scenes=rng.integers(0, 2, num_queries),
        world_from_query=random_poses(rng, num_queries),
        db_names=(tuple(f"db{k}.png" for k in range(n)),) * num_queries,
        db_scenes=np.zeros((num_queries, n), int),
        world_from_db=random_poses(rng, num_queries, n),
    )


def exact_estimates(neighbors: NeighborList, translation_frame: str) -> np.ndarray:
    """`q_wxyz t` of db_from_query, worked out in NumPy."""
    rotation_db = neighbors.world_from_db[..., :3, :3]
    relative = np.einsum("qnji,qjk->qnik", rotation_db, neighbors.world_from_query[:, :3, :3])
    t = neighbors.world_from_query[:, None, :3, 3] - neighbors.world_from_db[..., :3, 3]
    if translation_frame == "camera":
        t = np.einsum("qnji,qnj->qni", rotation_db, t)
    q_wxyz = Rotation.from_matrix(relative.reshape(-1, 3, 3)).as_quat(scalar_first=True)
    return np.concatenate([q_wxyz.reshape(*t.shape[:2], 4), t], axis=-1).astype(np.float32)


def errors_of(
    neighbors, estimates, method="robust", translation_frame="world", num_neighbors=NEIGHBORS
):
    return fuse_estimates(
        neighbors,
        estimates,
        method=method,
        translation_frame=translation_frame,
        num_neighbors=num_neighbors,
    )


@pytest.mark.parametrize("method", ["paper", "robust"])
@pytest.mark.parametrize("translation_frame", ["world", "camera"])
def test_exact_estimates_give_exact_poses(rng, method, translation_frame):
    neighbors = some_neighbors(rng)
    estimates = exact_estimates(neighbors, translation_frame)
    errors = errors_of(neighbors, estimates, method, translation_frame)
    assert np.median(errors.position_m) < 1e-3
    assert np.median(errors.rotation_deg) < 0.05


def test_poses_far_from_the_origin_are_fused_as_near_it(rng):
    neighbors = some_neighbors(rng)
    estimates = exact_estimates(neighbors, "world")
    for poses in (neighbors.world_from_query, neighbors.world_from_db):
        poses[..., :3, 3] += [5e5, 5e6, 300]
    assert np.median(errors_of(neighbors, estimates).position_m) < 1e-3


def test_the_wrong_translation_frame_shows(rng):
    neighbors = some_neighbors(rng)
    errors = errors_of(neighbors, exact_estimates(neighbors, "world"), "paper", "camera")
    assert np.median(errors.position_m) > 0.1


def test_rows_that_are_no_poses_are_left_out(rng):
    neighbors = some_neighbors(rng)
    estimates = exact_estimates(neighbors, "world")
    estimates[:, 1, 2] = np.nan
    estimates[:, 3, :4] = 0
    assert np.median(errors_of(neighbors, estimates).position_m) < 1e-3
    estimates[:] = np.nan
    assert np.isinf(errors_of(neighbors, estimates).position_m).all()


def test_one_neighbour_is_the_nearest_centre_to_the_paper(rng):
    neighbors = some_neighbors(rng)
    paper = errors_of(neighbors, exact_estimates(neighbors, "world"), "paper", num_neighbors=1)
    nearest = neighbors.world_from_query[:, :3, 3] - neighbors.world_from_db[:, 0, :3, 3]
    np.testing.assert_allclose(paper.position_m, np.linalg.norm(nearest, axis=-1), rtol=1e-4)


def test_table_of_the_university_has_its_scenes(shared_data, tmp_path):
    pairs = shared_data / "aalto_pairs" / "NN_university.txt"
    neighbors = read_neighbor_list(pairs)
    path = tmp_path / "estimates.bin"
    path.write_bytes(exact_estimates(neighbors, "world").tobytes())
    table = evaluate_pair_estimates(pairs, path, method="robust").splitlines()
    rows = {line.split()[0]: line.split() for line in table[2:]}
    counts = np.bincount(neighbors.query_scenes)
    for scene, count in zip(["office", "meeting", "kitchen", "conference"], counts, strict=True):
        assert int(rows[scene][1]) == count
        assert float(rows[scene][2]) < 0.005 and float(rows[scene][3]) < 0.05
    assert rows["all"][1] == "3983"
    with pytest.raises(UsageError, match="has 5 neighbours a query, --num_neighbors=6"):
        evaluate_pair_estimates(pairs, path, num_neighbors=6)

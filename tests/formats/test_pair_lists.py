import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxreloc.formats.pair_lists import (
    read_neighbor_list,
    read_pair_list,
    read_relative_estimates,
)
from jaxreloc.usage import UsageError


def pose_fields(rng):
    q_wxyz = Rotation.random(rng=rng).as_quat(scalar_first=True)
    return rng.normal(size=3), q_wxyz


def neighbor_rows(rng, num_queries=3, n=2):
    rows = []
    for q in range(num_queries):
        query = np.concatenate(pose_fields(rng))
        for k in range(n):
            values = [*query, *np.concatenate(pose_fields(rng))]
            names = f"/seq_01/frame_{q:05d}.png /seq_02/frame_{k:05d}.png"
            rows.append(f"{names} {q % 4} 1 0 " + " ".join(repr(float(v)) for v in values))
    return rows


def write(path, rows):
    path.write_text("\n".join(rows) + "\n")
    return path


def test_neighbour_list_is_grouped_by_query(rng, tmp_path):
    rows = neighbor_rows(rng)
    found = read_neighbor_list(write(tmp_path / "list.txt", rows))
    assert found.query_names == tuple(f"seq_01/frame_{q:05d}.png" for q in range(3))
    assert found.db_names[1] == ("seq_02/frame_00000.png", "seq_02/frame_00001.png")
    np.testing.assert_array_equal(found.query_scenes, [0, 1, 2])
    values = np.array([row.split()[5:] for row in rows], float).reshape(3, 2, 14)
    np.testing.assert_array_equal(found.world_from_query[:, :3, 3], values[:, 0, :3])
    np.testing.assert_array_equal(found.world_from_db[..., :3, 3], values[..., 7:10])
    q_wxyz = Rotation.from_matrix(found.world_from_db[2, 1, :3, :3]).as_quat(scalar_first=True)
    assert abs(q_wxyz @ values[2, 1, 10:]) == pytest.approx(1)


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda rows: rows[:-1], "list.txt:5: query .* has 1 neighbours, the first query has 2"),
        (lambda rows: [*rows, "a b 1"], "list.txt:7: not 'query db"),
        (lambda rows: [rows[0].replace(" 0 1 0 ", " x 1 0 ")], "list.txt:1: not 'query db"),
        (lambda rows: [rows[0] + "1e999"], "list.txt:1"),
        (lambda rows: [], "has no pair"),
    ],
)
def test_bad_neighbour_list_names_the_line(rng, tmp_path, spoil, message):
    with pytest.raises(UsageError, match=message):
        read_neighbor_list(write(tmp_path / "list.txt", spoil(neighbor_rows(rng))))


def test_pair_list_is_read_in_its_own_convention(rng, tmp_path):
    t, q_wxyz = pose_fields(rng)
    fields = " ".join(repr(float(v)) for v in (*t, *q_wxyz))
    path = write(tmp_path / "pairs.txt", [f"/seq-03/a.png /seq-01/b.png 6 {fields}"])
    found = read_pair_list(path)
    assert (found.db_names, found.query_names) == (("seq-03/a.png",), ("seq-01/b.png",))
    assert found.scenes == ("stairs",)
    np.testing.assert_allclose(found.t_world, [t])
    rotation = Rotation.from_quat(q_wxyz, scalar_first=True).as_matrix()
    np.testing.assert_allclose(found.rotation, [rotation], atol=1e-12)
    with pytest.raises(UsageError, match="pairs.txt:1: .* scene from 0 to 6"):
        read_pair_list(write(path, [f"a b 7 {fields}"]))


@pytest.mark.parametrize("separator", [None, " ", ", "])
def test_estimates_are_read_from_both_formats(rng, tmp_path, separator):
    values = rng.normal(size=(5, 7)).astype(np.float32)
    path = tmp_path / "estimates"
    if separator is None:
        path.write_bytes(values.astype("<f4").tobytes())
    else:
        write(path, [separator.join(repr(float(v)) for v in row) for row in values])
    np.testing.assert_array_equal(read_relative_estimates(path, 5), values)


def test_estimates_of_another_length_say_both_counts(rng, tmp_path):
    path = tmp_path / "estimates.bin"
    path.write_bytes(rng.normal(size=(4, 7)).astype("<f4").tobytes())
    with pytest.raises(UsageError, match="has 4 relative poses, the list has 5 pairs"):
        read_relative_estimates(path, 5)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(UsageError, match="109 bytes are no whole number of rows"):
        read_relative_estimates(path, 5)
    write(path, ["1 0 0 0 1 2"])
    with pytest.raises(UsageError, match="estimates.bin:1: 6 numbers instead of the 7"):
        read_relative_estimates(path, 1)
    with pytest.raises(UsageError, match="none: cannot be read"):
        read_relative_estimates(tmp_path / "none", 1)


def test_published_lists(shared_data):
    neighbors = read_neighbor_list(shared_data / "aalto_pairs" / "NN_university.txt")
    assert neighbors.db_scenes.shape == (3983, 5)
    same = neighbors.query_scenes[:, None] == neighbors.db_scenes
    assert 1 - same.mean() == pytest.approx(0.071, abs=0.001)
    pairs = read_pair_list(shared_data / "aalto_pairs" / "db_all_med_hard_valid.txt")
    assert len(pairs.scenes) == 10402


@pytest.mark.parametrize("scene", ["\u00b2", "9" * 5000, "-1", "1.0"])
def test_scene_ids_that_are_none_are_refused(tmp_path, scene):
    pose = "0 0 0 1 0 0 0"
    (tmp_path / "l.txt").write_text(f"a.png b.png {scene} 0 1 {pose} {pose}")
    with pytest.raises(UsageError, match="l.txt:1: not 'query db"):
        read_neighbor_list(tmp_path / "l.txt")

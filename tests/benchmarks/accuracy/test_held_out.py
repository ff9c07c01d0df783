import jax.numpy as jnp
import numpy as np
import pytest
from jaxlie import SE3
from scipy.spatial.transform import Rotation

from benchmarks.accuracy import held_out
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.localization.networks.relations import PairRelations
from jaxreloc.usage import UsageError
from tfds_builders.rooms.generation import RenderedRoom


def random_poses(rng, *shape) -> np.ndarray:
    poses = np.tile(np.eye(4), (*shape, 1, 1))
    poses[..., :3, :3] = Rotation.random(int(np.prod(shape)), rng).as_matrix().reshape(*shape, 3, 3)
    poses[..., :3, 3] = rng.normal(size=(*shape, 3))
    return poses


def some_frames(rng, count: int) -> PosedFrames:
    shapes = [(6, 8, 3) if i % 2 else (8, 6, 3) for i in range(count)]
    return PosedFrames(
        scene="test-003",
        names=tuple(f"path-0/frame-{i:06d}" for i in range(count)),
        world_from_cam=random_poses(rng, count),
        intrinsics=rng.normal(size=(count, 3, 3)),
        image_sizes=np.array([shape[1::-1] for shape in shapes]),
        images=[rng.integers(256, size=shape, dtype=np.uint8) for shape in shapes],
    )


def exact_relations(poses: held_out.QueryPoses) -> PairRelations:
    ones = np.ones(poses.world_from_db.shape[:2])
    return PairRelations(held_out.se3(poses.db_from_query()), ones > 0, ones, ones)


def test_a_room_is_rendered_once_and_read_back_as_it_was(rng, tmp_path, monkeypatch):
    room = RenderedRoom(some_frames(rng, 4), some_frames(rng, 3))
    held_out.render_held_out.cache_clear()
    monkeypatch.setattr(held_out, "render_room", lambda settings, split, index: room)
    held_out.load_room("test", 3, "library", tmp_path)
    monkeypatch.delattr(held_out, "render_room")
    found = held_out.load_room("test", 3, "library", tmp_path)
    for kept, made in ((found.database, room.database), (found.query, room.query)):
        assert (kept.scene, kept.names) == (made.scene, made.names)
        np.testing.assert_array_equal(kept.world_from_cam, made.world_from_cam)
        np.testing.assert_array_equal(kept.intrinsics, made.intrinsics)
        for i in range(len(made)):
            np.testing.assert_array_equal(kept.images[i], made.images[i])


def test_a_room_that_is_not_kept_needs_the_library(tmp_path):
    with pytest.raises(UsageError, match="--library"):
        held_out.load_room("test", 0, None, tmp_path)


def test_pairs_without_a_pose_are_infinitely_far_off(rng):
    poses = held_out.QueryPoses(random_poses(rng, 4, 5), random_poses(rng, 4))
    relations = exact_relations(poses)
    wxyz_xyz = np.array(relations.db_from_query.wxyz_xyz)
    wxyz_xyz[1, 2] = np.nan
    wxyz_xyz[2, 3, 4:] *= 2
    length = np.linalg.norm(poses.db_from_query()[2, 3, :3, 3])
    relations = relations.replace(db_from_query=SE3(jnp.asarray(wxyz_xyz)))
    errors = held_out.pair_errors(poses, relations)
    for name in ("rotation", "direction", "position"):
        assert errors[name][1, 2] == np.inf
        assert np.isfinite(np.delete(errors[name].ravel(), 5 + 2)).all()
    np.testing.assert_allclose(errors["position"][2, 3], length, rtol=1e-4)
    assert errors["direction"][2, 3] < 0.1


def test_exact_relations_give_the_exact_pose(rng):
    poses = held_out.QueryPoses(random_poses(rng, 4, 5), random_poses(rng, 4))
    position, rotation = held_out.fused_errors(poses, exact_relations(poses))
    assert position.max() < 1e-3
    assert rotation.max() < 0.1
    refused = exact_relations(poses).replace(valid=np.zeros((4, 5), bool))
    position, rotation = held_out.fused_errors(poses, refused)
    assert np.isinf(position).all() and np.isinf(rotation).all()


def test_refused_queries_count_as_infinitely_far_off():
    position = np.array([0.04, 0.3, 2.0, 0.2, np.inf])
    rotation = np.array([1.0, 4.0, 3.0, 30.0, np.inf])
    assert held_out.fused_figures(position, rotation) == {
        "fused: cm": "30.0",
        "deg": "4.00",
        "within 10 cm, 5 deg": "20%",
        "within 50 cm, 5 deg": "40%",
        "wrong": "40%",
        "refused": "20%",
    }

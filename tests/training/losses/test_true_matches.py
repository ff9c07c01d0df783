"""Where cells lie in another image, against ray casting in a room of known geometry."""

import itertools

import jax
import jax.numpy as jnp
import jaxlie
import numpy as np
import pytest

from jaxreloc.geometry.poses import relative_pose
from jaxreloc.images import cell_centres, sample_depth
from jaxreloc.models.matching.descriptors import DETAIL_STRIDE, FINE_STRIDE
from jaxreloc.training.losses.true_matches import coarser, true_matches
from tests.data import box_room

PAIRS = [(i, (i + k) % 24) for i in range(24) for k in (1, 2, 5)]
find = jax.jit(true_matches)
SHAPE = (box_room.HEIGHT, box_room.WIDTH)


def grid_depth(depth):
    K = box_room.INTRINSICS
    return sample_depth(depth, K, K, cell_centres(SHAPE, DETAIL_STRIDE))


def matches_of(room, query, db):
    depth = np.stack([grid_depth(room.depths[i]) for i in (query, db)])
    intrinsics = jnp.asarray(room.intrinsics[:1], jnp.float32)
    world = jaxlie.SE3.from_matrix(jnp.asarray(room.world_from_cam[[db, query]], jnp.float32))
    db_from_query = relative_pose(*(jaxlie.SE3(world.wxyz_xyz[i : i + 1]) for i in (0, 1)))
    return find(depth[:1], depth[1:], intrinsics, intrinsics, db_from_query)


def rows_and_columns(stride):
    rows, columns = (np.arange(side // stride) * stride + (stride - 1) / 2 for side in SHAPE)
    return np.meshgrid(rows, columns, indexing="ij")


def projected(room, query, db, v, u):
    """Rows, columns and depth in the database image of what the query's pixels (u, v) show."""
    z = box_room.distance(room.world_from_cam[query], u, v)
    rays = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(box_room.INTRINSICS).T
    points = z[..., None] * rays
    pose = np.linalg.inv(room.world_from_cam[db]) @ room.world_from_cam[query]
    seen = points @ pose[:3, :3].T + pose[:3, 3]
    pixels = seen @ box_room.INTRINSICS.T
    return pixels[..., 1] / pixels[..., 2], pixels[..., 0] / pixels[..., 2], seen[..., 2]


@pytest.fixture
def room(rng):
    return box_room.random_room(rng, 24, with_depth=True)


def test_visible_cells_lie_where_ray_casting_puts_them(rng):
    off, hidden, behind, seen = [], [], [], []
    # In some rooms the ball hides almost nothing.
    rooms = [box_room.random_room(rng, 24, with_depth=True) for _ in range(4)]
    for room, (query, db) in itertools.product(rooms, PAIRS):
        matches = matches_of(room, query, db)
        v, u = (np.rint(x) for x in rows_and_columns(DETAIL_STRIDE))  # where depth was sampled
        visible = np.asarray(matches.visible[0])
        rows, columns, z = projected(room, query, db, v, u)
        there = box_room.distance(room.world_from_cam[db], columns, rows)
        found = DETAIL_STRIDE * np.asarray(matches.db_cells[0]) + (DETAIL_STRIDE - 1) / 2
        off.append(np.hypot(found[..., 0] - rows, found[..., 1] - columns)[visible])
        outside = (np.minimum(rows, columns) < -2) | (rows > SHAPE[0] + 1)
        outside |= columns > SHAPE[1] + 1
        hidden.append(visible[(z < 0) | outside])
        behind.append(visible[(z > 0.05) & ~outside & (there < 0.8 * z)])
        inside = (np.minimum(rows, columns) > 4) & (rows < SHAPE[0] - 5) & (columns < SHAPE[1] - 5)
        seen.append(visible[(z > 0.2) & inside & (np.abs(there - z) < 0.01 * z)])
    off, hidden, behind, seen = map(np.concatenate, (off, hidden, behind, seen))
    assert len(off) > 200
    assert np.median(off) < 2  # pixels: depth is that of up to half a pixel away
    assert np.mean(hidden) < 0.01  # by half a pixel's depth, next to the border
    assert len(behind) > 20
    assert np.mean(behind) < 0.15
    assert np.mean(seen) > 0.6  # all but edges and grazing views


def test_the_same_view_matches_itself(room):
    matches = matches_of(room, 0, 0)
    rows, columns = np.meshgrid(np.arange(18), np.arange(24), indexing="ij")
    np.testing.assert_allclose(matches.db_cells[0], np.stack([rows, columns], -1), atol=1e-3)
    assert np.all(matches.visible)
    fine = coarser(matches, FINE_STRIDE)
    rows, columns = np.meshgrid(np.arange(9), np.arange(12), indexing="ij")
    np.testing.assert_allclose(fine.db_cells[0], np.stack([rows, columns], -1), atol=1e-3)
    assert np.all(fine.visible)


def test_coarser_cells_are_those_of_their_centres(room):
    errors = []
    for query, db in PAIRS:
        fine = coarser(matches_of(room, query, db), FINE_STRIDE)
        v, u = rows_and_columns(FINE_STRIDE)
        rows, columns, _ = projected(room, query, db, v, u)
        found = FINE_STRIDE * np.asarray(fine.db_cells[0]) + (FINE_STRIDE - 1) / 2
        off = np.hypot(found[..., 0] - rows, found[..., 1] - columns)
        errors.append(off[np.asarray(fine.visible[0])])
    errors = np.concatenate(errors)
    assert len(errors) > 50
    assert np.median(errors) < 0.5  # pixels


def test_unknown_depth_matches_nothing(room):
    room.depths[1][:] = 0
    assert not np.any(matches_of(room, 0, 1).visible)
    assert not np.any(matches_of(room, 1, 0).visible)

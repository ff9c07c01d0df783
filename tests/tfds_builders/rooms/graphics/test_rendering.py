"""Meshes, textures, light and pictures against closed forms and independent references."""

import dataclasses

import numpy as np
import pytest
from scipy.ndimage import binary_erosion, map_coordinates
from scipy.spatial.transform import Rotation

from tfds_builders.rooms.furnishing import textures
from tfds_builders.rooms.graphics import illumination
from tfds_builders.rooms.graphics.illumination import Lamp, bake
from tfds_builders.rooms.graphics.mesh_repair import facing_out, subdivided
from tfds_builders.rooms.graphics.meshes import Material, ball, box, cylinder, merged, quad
from tfds_builders.rooms.graphics.ray_casting import RayCaster
from tfds_builders.rooms.graphics.rendering import Camera, Renderer
from tfds_builders.rooms.graphics.texture_atlas import TextureAtlas

GREY = Material(None, (0.5, 0.5, 0.5))


def areas_and_normals(mesh):
    corners = mesh.vertices[mesh.faces].astype(np.float64)
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(cross, axis=1)
    return area / 2, cross / np.maximum(area, 1e-12)[:, None]


def lit_renderer(mesh, lamps):
    caster = RayCaster(mesh)
    atlas = TextureAtlas([m.texture for m in mesh.materials])
    return Renderer(mesh, caster, atlas, bake(mesh, lamps, caster, atlas))


def a_lamp(position, intensity=1.0):
    return Lamp(np.float32(position), np.full(3, intensity, np.float32))


@pytest.mark.parametrize("cell", [None, 0.1])
def test_box_has_the_area_of_its_sides_and_faces_out(rng, cell):
    x, y, z = size = rng.uniform(0.2, 1.5, 3)
    mesh = box(size, GREY, cell=cell)
    area, normals = areas_and_normals(mesh)
    np.testing.assert_allclose(area.sum(), 2 * (x * y + y * z + z * x), rtol=1e-5)
    np.testing.assert_allclose(mesh.bounds, [[-x / 2, -y / 2, 0], [x / 2, y / 2, z]], atol=1e-6)
    middles = mesh.vertices[mesh.faces].mean(1) - (0, 0, z / 2)
    assert ((normals * middles).sum(1) > 0).all()
    np.testing.assert_allclose(normals, mesh.normals[mesh.faces].mean(1), atol=1e-5)


def test_box_texture_covers_the_same_length_with_and_without_a_grid(rng):
    size, period = rng.uniform(0.2, 1.5, 3), 0.7
    plain, cut = (box(size, GREY, period, cell) for cell in (None, 0.1))
    for side in range(6):
        rows = plain.uvs[4 * side : 4 * side + 4]
        area = np.ptp(rows[:, 0]) * np.ptp(rows[:, 1]) * period**2
        width, height = np.delete(size, [1, 0, 1, 0, 2, 2][side])
        np.testing.assert_allclose(area, width * height, rtol=1e-4)
    assert np.ptp(cut.uvs[:, 0]) == pytest.approx(np.ptp(plain.uvs[:, 0]), rel=1e-5)


@pytest.mark.parametrize("mesh", [cylinder(0.3, 0.8, GREY, segments=64), ball(0.4, GREY, 64)])
def test_round_primitives_face_out_and_have_nearly_the_true_area(mesh):
    area, normals = areas_and_normals(mesh)
    whole = area > 1e-9
    middle = mesh.bounds.mean(0)
    outward = mesh.vertices[mesh.faces].mean(1) - middle
    assert ((normals * outward).sum(1)[whole] > 0).all()
    radius, height = mesh.bounds[1, 0], mesh.bounds[1, 2]
    is_ball = height == pytest.approx(2 * radius, rel=1e-3) and len(mesh) > 1000
    true = 4 * np.pi * radius**2 if is_ball else np.pi * radius * (2 * height + radius)
    assert area.sum() == pytest.approx(true, rel=5e-3)


def test_merged_keeps_every_triangle_and_shares_materials(rng):
    other = Material(None, (0.1, 0.2, 0.3))
    parts = [box((1, 1, 1), GREY), ball(0.2, other), quad((0, 0, 0), (1, 0, 0), (0, 1, 0), GREY)]
    whole = merged(parts)
    assert whole.materials == (GREY, other)
    first = 0
    for part in parts:
        rows = slice(first, first + len(part))
        np.testing.assert_array_equal(whole.vertices[whole.faces[rows]], part.vertices[part.faces])
        assert {whole.materials[i] for i in whole.material_ids[rows]} == set(part.materials)
        first += len(part)


def test_moved_is_the_rigid_transform_of_scipy(rng):
    mesh, shift, yaw = box(rng.uniform(0.2, 1, 3), GREY), rng.normal(size=3), rng.uniform(-4, 4)
    turn = Rotation.from_euler("z", yaw)
    moved = mesh.moved(shift, yaw)
    np.testing.assert_allclose(moved.vertices, turn.apply(mesh.vertices) + shift, atol=1e-5)
    np.testing.assert_allclose(moved.normals, turn.apply(mesh.normals), atol=1e-6)


@pytest.mark.parametrize(
    "draw", [textures.wall, textures.floor, textures.wood, textures.fabric, textures.surface]
)
def test_surfaces_repeat_without_a_seam(rng, draw):
    for _ in range(6):
        image = draw(rng).astype(float)
        assert image.shape == (256, 256, 3) and image.std() > 1
        for axis in (0, 1):
            steps = np.abs(np.diff(image, axis=axis, append=image.take([0], axis))).mean(
                (1 - axis, 2)
            )
            seam, inner = steps[-1], steps[:-1]
            # The seam of two panels is a groove of its own, of a light one beside a dark one.
            joints = 1.6 if draw is textures.wall else 1
            assert seam <= joints * inner.max() + 3 * inner.std() + 2


def test_textures_depend_on_the_generator_alone(rng):
    seed = int(rng.integers(2**32))
    for draw in (textures.surface, textures.printed, textures.spines):
        first, again, other = (draw(np.random.default_rng(s)) for s in (seed, seed, seed + 1))
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()


def test_finest_level_is_bilinear_and_repeats_as_scipy_says(rng):
    texture = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    atlas = TextureAtlas([None, texture])
    uvs = rng.uniform(-2, 2, (2, 500)).astype(np.float32)
    ids = np.ones(500, np.int32)
    found = atlas.lookup(ids, uvs, np.zeros(500, np.float32))
    rows, columns = uvs[1] * 64 - 0.5, uvs[0] * 64 - 0.5
    for channel in range(3):
        value = map_coordinates(
            texture[..., channel].astype(float), [rows, columns], order=1, mode="grid-wrap"
        )
        np.testing.assert_allclose(found[channel], (value / 255) ** 2, atol=2e-4)
    white = atlas.lookup(0 * ids, uvs, np.zeros(500, np.float32))
    np.testing.assert_allclose(white, 1, atol=1e-6)


def test_coarse_levels_are_block_means(rng):
    texture = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    atlas = TextureAtlas([texture, texture])
    level = 2
    middles = (np.arange(4, dtype=np.float32) + 0.5) / 4
    v, u = np.meshgrid(middles, middles, indexing="ij")
    uvs = np.stack([u.reshape(-1), v.reshape(-1)])
    found = atlas.lookup(np.ones(16, np.int32), uvs, np.full(16, level, np.float32))
    blocks = texture.reshape(4, 4, 4, 4, 3).mean((1, 3)).reshape(16, 3)
    np.testing.assert_allclose(255 * np.sqrt(found.T), blocks, atol=1.01)  # rounded at each level
    np.testing.assert_allclose(
        255 * np.sqrt(atlas.mean_albedo()[0]), texture.mean((0, 1)), atol=2.0
    )


def test_odd_textures_are_refused():
    with pytest.raises(ValueError, match="power-of-two"):
        TextureAtlas([np.zeros((20, 20, 3), np.uint8)])


def test_a_lamp_lights_a_floor_by_the_inverse_square_law(rng):
    floor = quad((-2, -2, 0), (4, 0, 0), (0, 4, 0), GREY, cell=0.25)
    height = float(rng.uniform(1, 2))
    renderer_lamps = (dataclasses.replace(a_lamp((0.3, -0.2, height)), radius=0.0),)
    caster = RayCaster(floor)
    light = bake(floor, renderer_lamps, caster, TextureAtlas([None]))
    offset = floor.vertices - (0.3, -0.2, height)
    distance = np.linalg.norm(offset, axis=1)
    np.testing.assert_allclose(light.direct[0], height / distance**3, rtol=1e-3)
    np.testing.assert_array_equal(light.bounced, 0)  # nothing else to be seen
    np.testing.assert_allclose(
        light.irradiance(np.float32([3]))[:, 1], 3 * height / distance**3, rtol=1e-3
    )


def test_a_board_shades_what_is_below_it():
    floor = quad((-2, -2, 0), (4, 0, 0), (0, 4, 0), GREY, cell=0.1)
    board = box((1, 1, 0.05), GREY, cell=0.1).moved((0, 0, 1))
    mesh = merged([floor, board])
    light = bake(mesh, (a_lamp((0, 0, 2)),), RayCaster(mesh), TextureAtlas([None]))
    place = mesh.vertices[: len(floor.vertices), :2]
    shade = light.direct[0, : len(floor.vertices)]
    reach = np.abs(place).max(1)  # the board's shadow is a square of side 2 about the origin
    assert shade[reach < 0.75].max() == 0
    assert shade[reach > 1.25].min() > 0.03


def test_bounced_light_in_a_closed_room_is_the_geometric_series():
    albedo, side = 0.6, Material(None, (0.6, 0.6, 0.6))
    room = box((2, 2, 2), side, cell=0.25)
    inside = dataclasses.replace(room, normals=-room.normals)
    caster, atlas = RayCaster(inside), TextureAtlas([None])
    chosen = np.arange(len(inside.vertices))
    points = illumination._measuring_points(inside)
    bounced = illumination._bounced(
        inside, points, inside.normals, chosen, np.ones((len(chosen), 3), np.float32), caster, atlas
    )
    expected = sum(albedo**k for k in range(1, illumination.BOUNCES + 1))
    np.testing.assert_allclose(bounced, expected, rtol=1e-5)


def test_directions_about_a_normal_are_cosine_distributed(rng):
    normals = rng.normal(size=(50, 3)).astype(np.float32)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    normals[0] = (0, 0, -1)
    directions = np.stack(
        [illumination._leaning(normals, d) for d in illumination._cosine_directions(64)]
    )
    np.testing.assert_allclose(np.linalg.norm(directions, axis=2), 1, atol=1e-5)
    cosine = (directions * normals).sum(2)
    assert cosine.min() > 0
    np.testing.assert_allclose(cosine.mean(0), 2 / 3, atol=0.01)  # of the density cos / pi
    np.testing.assert_allclose(directions.mean(0), normals * 2 / 3, atol=0.02)


def a_camera(rng, centre, width=40, height=30):
    intrinsics = np.array([[35.0, 0, width / 2 - 1.7], [0, 35.0, height / 2 + 0.4], [0, 0, 1]])
    pose = np.eye(4)
    pose[:3, :3] = Rotation.random(rng=rng).as_matrix()
    pose[:3, 3] = centre
    return Camera(pose, intrinsics, width, height)


def test_depth_is_that_of_the_planes_of_a_room(rng):
    half = rng.uniform(1, 3, 3)
    room = box(2 * half, GREY, cell=0.5).moved((0, 0, -half[2]))
    renderer = lit_renderer(room, (a_lamp((0, 0, 0)),))
    camera = a_camera(rng, rng.uniform(-0.5, 0.5, 3))
    _, depth = renderer.render(camera)
    y, x = np.mgrid[: camera.height, : camera.width].astype(float)
    rays = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(camera.intrinsics).T
    rays = rays @ camera.world_from_cam[:3, :3].T
    with np.errstate(divide="ignore"):
        reach = (np.sign(rays) * half - camera.world_from_cam[:3, 3]) / rays
    np.testing.assert_allclose(depth, reach.min(-1), rtol=2e-5)


def test_a_scaled_camera_sees_the_same_rays(rng):
    camera = a_camera(rng, rng.normal(size=3))
    double = camera.scaled(2)
    assert (double.width, double.height) == (2 * camera.width, 2 * camera.height)
    pixels = rng.uniform(0, 30, (50, 2))
    np.testing.assert_allclose(
        double.rays(2 * (pixels + 0.5) - 0.5), camera.rays(pixels), atol=1e-5
    )


def test_each_texel_is_seen_where_the_camera_says(rng):
    """A wall of coloured squares, seen head on: the pixel grid is known by hand."""
    colours = rng.integers(40, 255, (4, 4, 3), dtype=np.uint8)
    texture = np.repeat(np.repeat(colours, 16, 0), 16, 1)
    wall = quad((-1, 2, -1), (2, 0, 0), (0, 0, 2), Material(texture, emission=1.0))
    mesh = merged([wall])
    renderer = lit_renderer(mesh, (a_lamp((0, -5, 0), 0.0),))
    pose = np.eye(4)
    pose[:3, :3] = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])  # looks along +y, z up
    size = 64
    intrinsics = np.array([[size, 0, (size - 1) / 2], [0, size, (size - 1) / 2], [0, 0, 1.0]])
    image, depth = renderer.render(Camera(pose, intrinsics, size, size))
    np.testing.assert_allclose(depth, 2, rtol=1e-5)
    middles = image[8::16, 8::16]
    np.testing.assert_allclose(middles, (colours / 255.0) ** 2, atol=1e-3)


def test_what_is_not_hit_has_no_depth_and_no_light(rng):
    mesh = box((1, 1, 1), GREY)
    camera = a_camera(rng, (0, 0, 3))
    pose = np.eye(4)
    pose[:3, :3] = np.diag([1.0, -1.0, -1.0])  # straight down
    pose[2, 3] = 3
    image, depth = lit_renderer(mesh, (a_lamp((0, 0, 2)),)).render(
        dataclasses.replace(camera, world_from_cam=pose)
    )
    empty = depth == 0
    assert 0.5 < empty.mean() < 0.95
    np.testing.assert_allclose(depth[~empty], 2.0, rtol=1e-4)
    assert image[binary_erosion(empty)].max() == 0  # of the border, subpixels may see the box
    assert image[~empty].min() > 0


def test_outlines_are_smoothed():
    """A slanted edge between dark and bright takes intermediate values in proportion."""
    bright = Material(None, emission=1.0)
    dark = quad((-3, 3, -3), (6, 0, 0), (0, 0, 6), Material(None, (0, 0, 0)))
    turned = Rotation.from_euler("y", 10, degrees=True).as_matrix()
    half = quad((0, 2.5, -3), (3, 0, 0), (0, 0, 6), bright).transformed(turned, (0, 0, 0))
    renderer = lit_renderer(merged([dark, half]), (a_lamp((0, 0, 0), 0.0),))
    pose = np.eye(4)
    pose[:3, :3] = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])
    intrinsics = np.array([[48, 0, 31.5], [0, 48, 31.5], [0, 0, 1.0]])
    image, _ = renderer.render(Camera(pose, intrinsics, 64, 64))
    levels = np.unique(np.round(image[..., 0], 4))
    np.testing.assert_allclose(levels, [0, 1 / 3, 2 / 3, 1], atol=1e-4)
    assert image[..., 0].mean() == pytest.approx(0.5, abs=0.01)


def test_subdivided_keeps_shape_and_limits_edges(rng):
    mesh = quad((0, 0, 0), (1.3, 0, 0), (0, 0.4, 0), Material(None), period=0.5)
    other = box((0.1, 0.1, 0.1), GREY).moved((0, 0, 1))
    cut = subdivided(merged([mesh, other]), 0.2)
    edges = cut.vertices[cut.faces] - cut.vertices[np.roll(cut.faces, 1, axis=1)]
    assert np.linalg.norm(edges, axis=2).max() <= 0.2 + 1e-6
    total = areas_and_normals(mesh)[0].sum() + areas_and_normals(other)[0].sum()
    assert areas_and_normals(cut)[0].sum() == pytest.approx(total, rel=1e-5)
    for material, area in ((mesh.materials[0], 0.52), (GREY, 0.06)):
        of = cut.material_ids == cut.materials.index(material)
        assert areas_and_normals(cut)[0][of].sum() == pytest.approx(area, rel=1e-5)
    flat = cut.vertices[:, 2] == 0
    np.testing.assert_allclose(cut.uvs[flat, 0], cut.vertices[flat, 0] / 0.5, atol=1e-5)


def test_facing_out_mends_normals_that_point_inwards(rng):
    mesh = merged([box((1, 0.6, 0.4), GREY), box((0.2, 0.2, 0.9), GREY).moved((2, 0, 0))])
    flipped = mesh.normals * np.repeat(rng.choice([-1, 1], 12), 4)[:, None]
    mended = facing_out(dataclasses.replace(mesh, normals=flipped.astype(np.float32)))
    np.testing.assert_allclose(mended.normals, mesh.normals, atol=1e-6)

"""The furniture library on made-up models: their sizes and faces, the splits, bad sources."""

import json
import zipfile

import cv2
import numpy as np
import pytest

from jaxreloc.usage import UsageError
from tfds_builders.rooms.furnishing.library import Library, find_sources, prepared_library
from tfds_builders.rooms.furnishing.library_furniture import LibraryFurniture, PhotographicTextures
from tfds_builders.rooms.furnishing.palette import random_palette
from tfds_builders.rooms.furnishing.sweet_home import read_models
from tfds_builders.rooms.settings import SPLITS

# A chest of two parts: its front, at +z as Sweet Home 3D has it, is of another material.
OBJ = """mtllib chest.mtl
v 0 0 0
v 2 0 0
v 2 1 0
v 0 1 0
v 0 0 3
v 2 0 3
v 2 1 3
v 0 1 3
vt 0 0
vt 1 0
vt 1 1
vt 0 1
usemtl body
f 1/1 4/4 3/3 2/2
f 1/1 2/2 6/3 5/4
f 2/1 3/2 7/3 6/4
f 3/1 4/2 8/3 7/4
f 4/1 1/2 5/3 8/4
usemtl front
f 5/1 6/2 7/3 8/4
usemtl glass
f 1/1 2/2 7/3 8/4
"""
MTL = """newmtl body
Kd 0.5 0.25 1.0
newmtl front
Kd 1 1 1
map_Kd front.png
newmtl glass
Kd 1 1 1
d 0.1
"""


def png(pixels):
    return cv2.imencode(".png", pixels[..., ::-1])[1].tobytes()


def random_picture(rng, size=64):
    coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)


def entry(number, name, width, depth, height, **more):
    fields = {"model": f"/{name}/chest.obj", "width": width, "depth": depth, "height": height}
    return "".join(f"{key}#{number}={value}\n" for key, value in (fields | more).items())


def write_furniture(path, models):
    """`models`: name, its catalogue entry, its front's picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("PluginFurnitureCatalog.properties", "".join(m[1] for m in models))
        for name, _, picture in models:
            archive.writestr(f"{name}/chest.obj", OBJ)
            archive.writestr(f"{name}/chest.mtl", MTL)
            archive.writestr(f"{name}/front.png", picture)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Forty chests, every third sharing its picture with the one before; textures, photographs."""
    folder = tmp_path_factory.mktemp("manual")
    rng = np.random.default_rng(5)
    models, picture = [], b""
    for i in range(40):
        picture = picture if i % 3 == 1 else png(random_picture(rng))
        size = (90, 50, 80) if i % 2 else (30, 20, 25)
        models.append((f"chest{i}", entry(i + 1, f"chest{i}", *size), picture))
    write_furniture(folder / "furniture" / "chests.sh3f", models)
    for kind, size in (("textures", 64), ("photographs", 300)):
        (folder / kind).mkdir()
        for i in range(25):
            (folder / kind / f"{i}.png").write_bytes(png(random_picture(rng, size)))
    again = random_picture(rng)
    (folder / "textures" / "same.png").write_bytes(png(again))
    (folder / "textures" / "same_again.jpg").write_bytes(
        cv2.imencode(".jpg", again[..., ::-1])[1].tobytes()
    )
    flat_normals = np.full((64, 64, 3), (128, 128, 250), np.uint8)
    flat_normals[::7] -= 20
    (folder / "textures" / "relief.png").write_bytes(png(flat_normals))
    (folder / "textures" / "wall_spec.png").write_bytes(png(random_picture(rng)))
    return folder


@pytest.fixture(scope="module")
def library(sources, tmp_path_factory):
    return prepared_library(sources, tmp_path_factory.mktemp("cache"))


def test_a_model_has_the_catalogues_size_and_its_front_towards_y(tmp_path, rng):
    picture = np.full((32, 32, 3), (250, 10, 60), np.uint8)
    picture[:16] = (0, 200, 30)
    width, depth, height = rng.uniform(20, 200, 3)
    text = entry(1, "chest", width, depth, height, elevation=30, creator="A. Maker")
    write_furniture(tmp_path / "one.sh3f", [("chest", text, png(picture))])
    (model,) = read_models(tmp_path / "one.sh3f", max_triangles=100)
    np.testing.assert_allclose(model.size, np.array([width, depth, height]) / 100)
    assert model.elevation == 0.3 and model.creator == "A. Maker"
    half = np.array([width, depth, 0]) / 200
    top = np.array([half[0], half[1], height / 100])
    np.testing.assert_allclose(model.mesh.bounds, [-half, top], atol=1e-6)
    assert len(model.mesh) == 12  # without the two of the pane of glass
    textured = [m.texture is not None for m in model.mesh.materials]
    front = np.array(textured)[model.mesh.material_ids]
    assert front.sum() == 2
    np.testing.assert_allclose(model.mesh.vertices[model.mesh.faces[front], 1], half[1], atol=1e-6)
    body = model.mesh.materials[textured.index(False)]
    np.testing.assert_allclose(body.tint, np.array([0.5, 0.25, 1.0]) ** 2, atol=0.01)
    # The picture's upper half is at the top of the chest: v runs down, z up.
    vertices = np.unique(model.mesh.faces[front])
    upper = model.mesh.vertices[vertices, 2] > height / 200
    np.testing.assert_allclose(model.mesh.uvs[vertices, 1], np.where(upper, 0, 1), atol=1e-6)
    texture = model.mesh.materials[textured.index(True)].texture
    assert texture[10, 10].tolist() == [0, 200, 30] and texture[-10, 10].tolist() == [250, 10, 60]


def test_doors_and_models_too_fine_are_left_out(tmp_path, rng):
    picture = png(random_picture(rng))
    door = entry(1, "door", 90, 10, 200, doorOrWindow="true")
    models = [("door", door, picture), ("chest", entry(2, "chest", 90, 50, 80), picture)]
    write_furniture(tmp_path / "two.sh3f", models)
    assert [m.name for m in read_models(tmp_path / "two.sh3f", 100)] == ["chest/chest.obj"]
    assert not list(read_models(tmp_path / "two.sh3f", max_triangles=11))


def test_splits_share_no_model_and_no_texture(library):
    index = json.loads((library / "index.json").read_text())
    pixels = np.load(library / "textures.npy")
    assert len(index["models"]) == 40 and len(pixels) == len(index["textures"])
    models, textures = {}, {}
    for split in SPLITS:
        part = Library(library, split)
        models[split] = {*part.furniture.tolist(), *part.clutter.tolist()}
        textures[split] = {
            m.texture.tobytes()
            for number in models[split]
            for m in part.mesh(number).materials
            if m.texture is not None
        }
        own = [i for i, t in enumerate(index["textures"]) if t["split"] == split]
        textures[split] |= {pixels[i].tobytes() for i in own}
        assert models[split]
    for a, b in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not models[a] & models[b]
        assert not textures[a] & textures[b]
    of_source = {}
    for texture in index["textures"]:
        of_source.setdefault(texture["source"], set()).add(texture["split"])
    assert all(len(splits) == 1 for splits in of_source.values())  # crops stay together
    assert of_source["textures/same.png"] == of_source["textures/same_again.jpg"]


def test_maps_that_are_no_colours_are_left_out(library):
    sources = {t["source"] for t in json.loads((library / "index.json").read_text())["textures"]}
    assert "textures/same.png" in sources
    assert not sources & {"textures/relief.png", "textures/wall_spec.png"}


def test_a_split_keeps_its_members_when_the_library_grows(library, sources, tmp_path):
    grown = tmp_path / "manual"
    grown.mkdir()
    for kind in ("furniture", "textures", "photographs"):
        (grown / kind).symlink_to(sources / kind)
    rng = np.random.default_rng(6)
    more = [
        (f"new{i}", entry(i + 1, f"new{i}", 80, 50, 70), png(random_picture(rng))) for i in range(5)
    ]
    (grown / "furniture").unlink()
    write_furniture(grown / "furniture" / "more.sh3f", more)
    (grown / "furniture" / "chests.sh3f").symlink_to(sources / "furniture" / "chests.sh3f")
    other = prepared_library(grown, tmp_path / "cache")
    assert other.name != library.name
    before, after = (
        {m["name"]: m["split"] for m in json.loads((folder / "index.json").read_text())["models"]}
        for folder in (library, other)
    )
    assert len(after) == 45 and after.items() >= before.items()


def test_a_prepared_library_is_used_again(library, sources):
    stamp = (library / "index.json").stat().st_mtime_ns
    assert prepared_library(sources, library.parent) == library
    assert (library / "index.json").stat().st_mtime_ns == stamp
    assert [p.name for p in library.parent.iterdir()] == [library.name]


def test_pieces_come_in_about_their_true_size(library, rng):
    part = Library(library, "train")
    palette = random_palette(rng, PhotographicTextures(part))
    catalogue = LibraryFurniture(part, palette)
    extents = []
    while len(extents) < 80:
        mesh = catalogue.furniture(rng)
        if len(mesh.materials) == 2:  # the chest
            extents.append(np.ptp(mesh.bounds, axis=0))
    ratio = np.array(extents) / (0.9, 0.5, 0.8)
    assert ((ratio > 0.85) & (ratio < 1.15)).mean() > 0.8  # some two-part pieces are procedural


def test_missing_folders_are_all_named(tmp_path):
    (tmp_path / "textures").mkdir()
    (tmp_path / "textures" / "a.png").write_bytes(b"")
    with pytest.raises(UsageError) as error:
        find_sources(tmp_path)
    message = str(error.value)
    assert str(tmp_path / "furniture") in message and str(tmp_path / "photographs") in message
    assert str(tmp_path / "textures") not in message and "README" in message


def test_a_broken_library_is_named(tmp_path):
    (tmp_path / "broken.sh3f").write_bytes(b"not a zip file")
    with pytest.raises(UsageError, match="broken.sh3f: not a readable .*fetch it again"):
        list(read_models(tmp_path / "broken.sh3f", 100))
    with zipfile.ZipFile(tmp_path / "empty.sh3f", "w") as archive:
        archive.writestr("readme.txt", "no catalogue")
    with pytest.raises(UsageError, match="empty.sh3f"):
        list(read_models(tmp_path / "empty.sh3f", 100))


def test_too_small_a_library_is_refused_and_leaves_nothing(tmp_path, rng):
    picture = png(random_picture(rng, 300))
    chest = ("chest", entry(1, "chest", 90, 50, 80), picture)
    write_furniture(tmp_path / "manual" / "furniture" / "one.sh3f", [chest])
    for kind in ("textures", "photographs"):
        (tmp_path / "manual" / kind).mkdir()
        (tmp_path / "manual" / kind / "a.png").write_bytes(picture)
    with pytest.raises(UsageError, match="too few sources"):
        prepared_library(tmp_path / "manual", tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_an_unreadable_model_is_left_out_of_its_library(tmp_path, rng):
    picture = png(random_picture(rng))
    models = [(name, entry(i, name, 90, 50, 80), picture) for i, name in enumerate(("good", "bad"))]
    write_furniture(tmp_path / "two.sh3f", models)
    with zipfile.ZipFile(tmp_path / "two.sh3f") as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    files["bad/chest.obj"] = b"f 1 2 3\n"
    with zipfile.ZipFile(tmp_path / "two.sh3f", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    assert [m.name for m in read_models(tmp_path / "two.sh3f", 100)] == ["good/chest.obj"]

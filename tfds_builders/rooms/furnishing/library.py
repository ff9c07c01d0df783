"""A prepared library of real furniture models and photographic textures, split for train and test.

`prepare_library` reads the sources once and writes arrays that every worker maps into memory.
Train, validation and test share no model and no texture: models that use one texture, near-equal
textures and the crops of one photograph belong together, and each such group falls to one split.
"""

import collections
import dataclasses
import hashlib
import json
import logging
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist

from jaxreloc.images import read_image
from jaxreloc.usage import UsageError, check_choice
from tfds_builders.rooms.furnishing.sweet_home import FurnitureModel, read_models
from tfds_builders.rooms.furnishing.textures import SIZE
from tfds_builders.rooms.graphics.mesh_repair import facing_out, subdivided
from tfds_builders.rooms.graphics.meshes import Material, Mesh
from tfds_builders.rooms.settings import SPLITS

logger = logging.getLogger(__name__)
VERSION = 1  # of the prepared arrays; part of their folder's name
SOURCES = {
    "furniture": "Sweet Home 3D libraries, *.sh3f",
    "textures": "photographed surfaces, *.jpg or *.png",
    "photographs": "any photographs, *.jpg or *.png",
}
SUFFIXES = {
    "furniture": (".sh3f",),
    "textures": (".jpg", ".jpeg", ".png"),
    "photographs": (".jpg", ".jpeg", ".png"),
}
SHARES = {"train": 0.76, "validation": 0.08, "test": 0.16}
MAX_TRIANGLES = 9000
MAX_EDGE = 0.25  # metres: longer edges are cut, since light is stored at vertices
CROPS = 5  # squares from one photograph, beside the whole of it
SAME_TEXTURE = 4.0  # grey levels between two textures' thumbnails, below which they are one
THUMBNAIL = 8
# Game textures come with maps of normals, gloss and glow under such endings.
_NOT_COLOUR = re.compile(
    r"[_.-](nm|norm|normal|normals|n|s|g|h|spec|specular|gloss|glow|height|bump|local|mask)$", re.I
)


def find_sources(folder: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    """The source files below `folder`, by kind.

    Raises:
      UsageError: a kind is absent; names every missing folder and how to get its content.
    """
    found = {
        kind: sorted(p for p in (folder / kind).rglob("*") if p.suffix.lower() in SUFFIXES[kind])
        for kind in SOURCES
    }
    missing = [f"{folder / kind} ({SOURCES[kind]})" for kind, paths in found.items() if not paths]
    if missing:
        raise UsageError(
            f"missing or empty: {', '.join(missing)}; "
            "tfds_builders/synthetic_rooms/README.md says which packages they come from"
        )
    return found


def prepared_library(sources: pathlib.Path, cache: pathlib.Path) -> pathlib.Path:
    """The folder of the prepared library of `sources`, prepared now unless `cache` has it.

    Raises:
      UsageError: a source is missing or unreadable, or too small to be split.
    """
    found = find_sources(sources)
    digest = hashlib.sha256(str(VERSION).encode())
    for path in sum(found.values(), []):
        digest.update(f"{path.relative_to(sources)} {path.stat().st_size}\n".encode())
    folder = cache / digest.hexdigest()[:16]
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        temporary = pathlib.Path(tempfile.mkdtemp(prefix=".preparing-", dir=cache))
        try:
            _prepare(found, sources, temporary)
            os.replace(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder


@dataclasses.dataclass(frozen=True)
class _Texture:
    pixels: UInt8[np.ndarray, "size size 3"]
    source: str  # file, or model
    kind: str  # "furniture", "textures" or "photographs"


def _prepare(
    found: dict[str, list[pathlib.Path]], root: pathlib.Path, folder: pathlib.Path
) -> None:
    logger.info("preparing the furniture library; this takes a minute, once")
    textures = [*_surface_textures(found["textures"], root)]
    textures += _photograph_textures(found["photographs"], root)
    models = [m for path in found["furniture"] for m in read_models(path, MAX_TRIANGLES)]
    models = list({model.name: model for model in models}.values())
    links, used = [], {}
    for i, model in enumerate(models):
        for material in model.mesh.materials:
            if material.texture is not None:
                key = material.texture.tobytes()
                if key not in used:
                    used[key] = len(textures)
                    textures.append(_Texture(material.texture, model.name, "furniture"))
                links.append((i, used[key]))
    model_splits, texture_splits = _split(models, textures, links)
    _check_splits(models, model_splits, textures, texture_splits)
    _write_models(models, used, folder)
    np.save(folder / "textures.npy", np.stack([texture.pixels for texture in textures]))
    index = {
        "models": [
            {
                "name": model.name,
                "split": split,
                "size": model.size,
                "elevation": model.elevation,
                "creator": model.creator,
            }
            for model, split in zip(models, model_splits)
        ],
        "textures": [
            {"source": texture.source, "kind": texture.kind, "split": split}
            for texture, split in zip(textures, texture_splits)
        ],
    }
    (folder / "index.json").write_text(json.dumps(index, indent=1))


def _surface_textures(paths: Sequence[pathlib.Path], root: pathlib.Path) -> Iterator[_Texture]:
    for path in paths:
        if _NOT_COLOUR.search(path.stem):
            continue
        pixels = _fitted(read_image(path))
        if pixels.std((0, 1)).max() > 4 and not _is_normal_map(pixels):
            yield _Texture(pixels, str(path.relative_to(root)), "textures")


def _is_normal_map(pixels: np.ndarray) -> bool:
    red, green, blue = pixels.reshape(-1, 3).mean(0)
    return abs(red - 128) < 25 and abs(green - 128) < 25 and blue > 190


def _photograph_textures(paths: Sequence[pathlib.Path], root: pathlib.Path) -> Iterator[_Texture]:
    for path in paths:
        image = read_image(path)
        source = str(path.relative_to(root))
        rng = np.random.default_rng(list(source.encode()))
        shorter = min(image.shape[:2])
        if shorter < SIZE:
            continue
        yield _Texture(_fitted(image), source, "photographs")
        for _ in range(CROPS):
            side = int(rng.uniform(0.3, 0.8) * shorter)
            top, left = (int(rng.integers(0, extent - side + 1)) for extent in image.shape[:2])
            crop = image[top : top + side, left : left + side]
            if crop.std() > 12:
                yield _Texture(_fitted(crop), source, "photographs")


def _fitted(image: np.ndarray) -> UInt8[np.ndarray, "size size 3"]:
    smaller = max(image.shape[:2]) > SIZE
    interpolation = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return cv2.resize(image, (SIZE, SIZE), interpolation=interpolation)


def _split(
    models: Sequence[FurnitureModel],
    textures: Sequence[_Texture],
    links: Sequence[tuple[int, int]],
) -> tuple[list[str], list[str]]:
    """The split of each model and of each texture; `links` pairs a model with a texture it uses."""
    first = len(models)
    edges = [(model, first + texture) for model, texture in links]
    by_source = collections.defaultdict(list)
    for i, texture in enumerate(textures, start=first):
        if texture.kind == "photographs":
            by_source[texture.source].append(i)
    for members in by_source.values():
        edges += [(members[0], member) for member in members[1:]]
    edges += [(first + a, first + b) for a, b in _near_equal(textures)]
    count = first + len(textures)
    a, b = np.array(edges, np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(len(a)), (a, b)), shape=(count, count))
    _, group = connected_components(graph, directed=False)
    names = [model.name for model in models] + [
        f"{texture.source} {hashlib.sha256(texture.pixels.tobytes()).hexdigest()}"
        for texture in textures
    ]
    name_of_group: dict[int, str] = {}
    for member, name in zip(group, names):
        name_of_group[member] = min(name, name_of_group.get(member, name))
    splits = [_split_of(name_of_group[member]) for member in group]
    return splits[:first], splits[first:]


def _check_splits(models, model_splits, textures, texture_splits) -> None:
    sizes = np.array([model.size for model in models]).reshape(-1, 3)
    elevations = np.array([model.elevation for model in models])
    kinds = np.array([texture.kind for texture in textures])
    for split in SPLITS:
        chosen = np.array(model_splits) == split
        of_split = kinds[np.array(texture_splits) == split]
        counts = {
            "pieces of furniture": (is_furniture(sizes) & chosen).sum(),
            "small things": (is_clutter(sizes, elevations) & chosen).sum(),
            "surfaces": (of_split == "textures").sum(),
            "photographs": (of_split == "photographs").sum(),
        }
        if lacking := [name for name, count in counts.items() if not count]:
            raise UsageError(
                f"too few sources: none of the {', '.join(lacking)} falls to the split {split}; "
                "add more to manual_dir"
            )


def is_furniture(sizes: Float32[np.ndarray, "n 3"]) -> Bool[np.ndarray, "n"]:
    """Whether pieces of such sizes (metres) stand in a room on their own."""
    extent, height = sizes[:, :2].max(1), sizes[:, 2]
    return (extent > 0.3) & (extent < 2.6) & (height > 0.25) & (height < 2.4)


def is_clutter(
    sizes: Float32[np.ndarray, "n 3"], elevations: Float32[np.ndarray, "n"]
) -> Bool[np.ndarray, "n"]:
    """Whether pieces of such sizes and heights above the floor (metres) stand on furniture."""
    return (sizes.max(1) < 0.6) & (elevations < 0.01)


def _split_of(name: str) -> str:
    """A split drawn with SHARES by the name's hash, so that it stays when the library grows."""
    position = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64
    bounds = np.cumsum(list(SHARES.values()))
    return list(SHARES)[min(np.searchsorted(bounds, position, side="right"), len(SHARES) - 1)]


def _near_equal(textures: Sequence[_Texture]) -> list[tuple[int, int]]:
    """Pairs whose thumbnails differ by less than SAME_TEXTURE grey levels on average."""
    size = (THUMBNAIL, THUMBNAIL)
    thumbnails = np.stack(
        [cv2.resize(t.pixels, size, interpolation=cv2.INTER_AREA).reshape(-1) for t in textures]
    ).astype(np.float32)
    distance = cdist(thumbnails, thumbnails, "cityblock") / thumbnails.shape[1]
    a, b = np.nonzero(np.triu(distance < SAME_TEXTURE, k=1))
    return list(zip(a.tolist(), b.tolist()))


def _write_models(
    models: Sequence[FurnitureModel], used: dict[bytes, int], folder: pathlib.Path
) -> None:
    """All meshes end to end; `ends` says where each model's part of each array ends."""
    columns = collections.defaultdict(list)
    for model in models:
        mesh = facing_out(subdivided(model.mesh, MAX_EDGE))
        columns["vertices"].append(mesh.vertices)
        columns["normals"].append(mesh.normals.astype(np.float16))
        columns["uvs"].append(mesh.uvs)
        columns["faces"].append(mesh.faces)
        columns["material_ids"].append(mesh.material_ids)
        columns["material_textures"].append(
            [-1 if m.texture is None else used[m.texture.tobytes()] for m in mesh.materials]
        )
        columns["material_tints"].append([m.tint for m in mesh.materials])
    for name, parts in columns.items():
        np.save(folder / f"{name}.npy", np.concatenate(parts))
        np.save(folder / f"{name}_ends.npy", np.cumsum([len(part) for part in parts]))


_COLUMNS = (
    "vertices",
    "normals",
    "uvs",
    "faces",
    "material_ids",
    "material_textures",
    "material_tints",
)


class Library:
    """One split of a prepared library.

    `furniture` and `clutter` are the numbers of its models of either use.
    """

    def __init__(self, folder: pathlib.Path, split: str):
        check_choice("split", split, SPLITS)
        index = json.loads((folder / "index.json").read_text())
        self._columns = {
            name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            for name in _COLUMNS
        }
        self._ends = {
            name: np.load(folder / f"{name}_ends.npy", allow_pickle=False) for name in _COLUMNS
        }
        self._pixels = np.load(folder / "textures.npy", mmap_mode="r", allow_pickle=False)
        self._textures: dict[int, np.ndarray] = {}
        rows = [i for i, model in enumerate(index["models"]) if model["split"] == split]
        models = [index["models"][i] for i in rows]
        sizes = np.array([model["size"] for model in models], np.float32)
        self._elevations = {i: model["elevation"] for i, model in zip(rows, models)}
        elevations = np.array([model["elevation"] for model in models], np.float32)
        self.furniture = np.array(rows)[is_furniture(sizes)]
        self.clutter = np.array(rows)[is_clutter(sizes, elevations)]
        self._kinds = {
            kind: [
                i
                for i, texture in enumerate(index["textures"])
                if (texture["kind"], texture["split"]) == (kind, split)
            ]
            for kind in SOURCES
        }

    def mesh(self, model: int) -> Mesh:
        """The model of a number in `furniture` or `clutter`, at its height above z = 0."""
        parts = {}
        for name, column in self._columns.items():
            start = self._ends[name][model - 1] if model else 0
            parts[name] = column[start : self._ends[name][model]]
        materials = tuple(
            Material(None if texture < 0 else self.texture(int(texture)), tuple(tint.tolist()))
            for texture, tint in zip(parts["material_textures"], parts["material_tints"])
        )
        lift = np.array([0, 0, self._elevations[model]], np.float32)
        return Mesh(
            vertices=parts["vertices"] + lift,
            normals=parts["normals"].astype(np.float32),
            uvs=np.array(parts["uvs"]),
            faces=np.array(parts["faces"]),
            material_ids=np.array(parts["material_ids"]),
            materials=materials,
        )

    def random_texture(self, rng: np.random.Generator, kind: str) -> np.ndarray:
        """A texture of a kind of SOURCES."""
        return self.texture(int(rng.choice(self._kinds[kind])))

    def texture(self, number: int) -> UInt8[np.ndarray, "size size 3"]:
        """One texture; the same array each time, so that a scene stores it once."""
        if number not in self._textures:
            self._textures[number] = np.array(self._pixels[number])
        return self._textures[number]

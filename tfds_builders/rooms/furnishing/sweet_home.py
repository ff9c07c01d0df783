"""Furniture libraries of Sweet Home 3D (.sh3f): zip files of OBJ models with a catalogue."""

import dataclasses
import io
import logging
import pathlib
import posixpath
import re
import zipfile
import zlib
from collections.abc import Iterator

import cv2
import numpy as np
from jaxtyping import UInt8

from jaxreloc.extras import extra
from jaxreloc.usage import UsageError
from tfds_builders.rooms.furnishing.textures import SIZE
from tfds_builders.rooms.graphics.meshes import Material, Mesh, merged

with extra("rooms"):
    import trimesh

logger = logging.getLogger(__name__)
CATALOGUE = "PluginFurnitureCatalog.properties"
MAX_FILE_BYTES = 2_000_000
MAX_REPEATS = 1000  # of a texture; coordinates beyond are errors
MIN_OPACITY = 0.35  # thinner parts, such as glass, are left out
trimesh.util.log.setLevel("WARNING")  # it tells of every polygon that it cuts into triangles
# Sweet Home 3D has y up and z to the front; a room's furniture has z up and y to the front.
_AXES = np.array([[-1, 0, 0], [0, 0, 1], [0, 1, 0]], np.float32)


@dataclasses.dataclass(frozen=True)
class FurnitureModel:
    """A piece of furniture in its true size, its box centred on the z axis."""

    name: str  # the path of its OBJ file within the library
    mesh: Mesh
    size: tuple[float, float, float]  # metres: width (x), depth (y), height (z)
    elevation: float  # metres of its lower side above the floor
    creator: str


def read_models(path: pathlib.Path, max_triangles: int) -> Iterator[FurnitureModel]:
    """The OBJ models of one library; doors, windows and models too fine to use are left out.

    Raises:
      UsageError: the file is no furniture library.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in _catalogue(archive):
                model = _read_model(archive, entry, max_triangles)
                if model is not None:
                    yield model
    except (OSError, KeyError, ValueError, zlib.error, zipfile.BadZipFile) as error:
        raise UsageError(
            f"{path}: not a readable Sweet Home 3D furniture library ({error}); fetch it again"
        ) from error


def _catalogue(archive: zipfile.ZipFile) -> list[dict[str, str]]:
    """The catalogue's entries, one a model: lines `key#number=value`."""
    entries: dict[int, dict[str, str]] = {}
    for line in archive.read(CATALOGUE).decode("latin-1").splitlines():
        if match := re.match(r"(\w+)#(\d+)\s*=\s*(.*)", line):
            key, number, value = match.groups()
            entries.setdefault(int(number), {})[key] = value.strip()
    return [entry for _, entry in sorted(entries.items())]


def _read_model(
    archive: zipfile.ZipFile, entry: dict[str, str], max_triangles: int
) -> FurnitureModel | None:
    name = entry.get("model", "").lstrip("/")
    usable = name.endswith(".obj") and entry.get("doorOrWindow", "false") == "false"
    if not usable or name not in archive.NameToInfo:
        return None
    if archive.getinfo(name).file_size > MAX_FILE_BYTES:
        return None
    folder = posixpath.dirname(name) + "/"
    files = {
        member.removeprefix(folder): archive.read(member)
        for member in archive.namelist()
        if member.startswith(folder) and not member.endswith("/") and member != name
    }
    try:
        mesh = _obj_mesh(archive.read(name), files)
    except (ValueError, IndexError) as error:
        logger.warning("%s: left out, since its model cannot be read (%s)", name, error)
        return None
    if mesh is None or len(mesh) > max_triangles:
        return None
    width, depth, height = (float(entry[key]) / 100 for key in ("width", "depth", "height"))
    rotation = np.array(entry.get("modelRotation", "1 0 0 0 1 0 0 0 1").split(), np.float32)
    mesh = mesh.transformed(_AXES @ rotation.reshape(3, 3), (0, 0, 0))
    return FurnitureModel(
        name=name,
        mesh=_scaled(mesh, (width, depth, height)),
        size=(width, depth, height),
        elevation=float(entry.get("elevation", 0)) / 100,
        creator=entry.get("creator", "unknown"),
    )


def _obj_mesh(text: bytes, files: dict[str, bytes]) -> Mesh | None:
    """The opaque parts of an OBJ file, whose materials and textures are in `files`."""
    scene = trimesh.load(
        io.BytesIO(text), file_type="obj", resolver=files, process=False, group_material=True
    )
    parts = []
    for part in trimesh.Scene(scene).geometry.values():
        look = getattr(part.visual, "material", trimesh.visual.material.SimpleMaterial())
        opacity = float(look.kwargs.get("d", ["1"])[-1])
        if len(part.faces) and opacity >= MIN_OPACITY:
            parts.append(_part_mesh(part, look))
    return merged(parts) if parts else None


def _part_mesh(part: trimesh.Trimesh, look: trimesh.visual.material.SimpleMaterial) -> Mesh:
    texture = None if look.image is None else _texture(look.image)
    tint = (1.0, 1.0, 1.0)
    if texture is None:
        tint = tuple(((np.asarray(look.diffuse[:3]) / 255.0) ** 2).tolist())
    uvs = getattr(part.visual, "uv", None)
    uvs = np.zeros((len(part.vertices), 2)) if uvs is None else np.asarray(uvs) * (1, -1) + (0, 1)
    uvs = np.where(np.isfinite(uvs) & (np.abs(uvs) < MAX_REPEATS), uvs, 0)
    if "vertex_normals" in part._cache:
        faces, index, normals = part.faces, np.arange(len(part.vertices)), part.vertex_normals
    else:
        index = part.faces.reshape(-1)
        faces, normals = np.arange(len(index)).reshape(-1, 3), np.repeat(part.face_normals, 3, 0)
    return Mesh(
        vertices=part.vertices[index].astype(np.float32),
        normals=normals.astype(np.float32),
        uvs=uvs[index].astype(np.float32),
        faces=faces.astype(np.int32),
        material_ids=np.zeros(len(faces), np.int32),
        materials=(Material(texture, tint),),
    )


def _texture(image) -> UInt8[np.ndarray, "size size 3"]:
    pixels = np.asarray(image.convert("RGB"))
    interpolation = cv2.INTER_AREA if max(pixels.shape) > SIZE else cv2.INTER_LINEAR
    return cv2.resize(pixels, (SIZE, SIZE), interpolation=interpolation)


def _scaled(mesh: Mesh, size: tuple[float, float, float]) -> Mesh:
    """`mesh` stretched to the catalogue's size, standing on z = 0."""
    low, high = mesh.bounds
    factor = np.asarray(size, np.float32) / np.maximum(high - low, 1e-6)
    normals = mesh.normals / factor
    return dataclasses.replace(
        mesh,
        vertices=mesh.vertices * factor,
        normals=normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12),
    ).standing()

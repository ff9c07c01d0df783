"""`render_room`: one room, from its number to posed photographs with depth."""

import dataclasses
import pathlib

import numpy as np

from jaxreloc.formats.frames import PosedFrames
from jaxreloc.usage import check_choice
from tfds_builders.synthetic_rooms import textures
from tfds_builders.synthetic_rooms.camera_paths import CameraPath, Lens, PathFinder
from tfds_builders.synthetic_rooms.furniture import ProceduralFurniture
from tfds_builders.synthetic_rooms.illumination import bake
from tfds_builders.synthetic_rooms.library import Library
from tfds_builders.synthetic_rooms.library_furniture import LibraryFurniture, PhotographicTextures
from tfds_builders.synthetic_rooms.palette import Palette, random_palette
from tfds_builders.synthetic_rooms.photography import (
    photograph,
    random_development,
    textured_share,
)
from tfds_builders.synthetic_rooms.ray_casting import RayCaster
from tfds_builders.synthetic_rooms.rendering import Camera, Renderer
from tfds_builders.synthetic_rooms.rooms import Catalogue, Room, build_room
from tfds_builders.synthetic_rooms.settings import SPLITS, RoomSettings
from tfds_builders.synthetic_rooms.texture_atlas import TextureAtlas

MAX_ATTEMPTS = 20  # rooms too full to walk through are given up
GLANCE = 64  # pixels of the longer side of a view that is judged before it is taken
MIN_TEXTURED = 0.2  # share of its area


@dataclasses.dataclass(frozen=True)
class RenderedRoom:
    """The pictures of one room."""

    database: PosedFrames
    query: PosedFrames  # new camera paths through the same room


def render_room(settings: RoomSettings, split: str, index: int) -> RenderedRoom:
    """Builds room `index` of `split` and photographs it along its camera paths.

    The result depends on nothing but the arguments. World axes: z up, the floor at z = 0, the room
    centred on the z axis; metres.

    Args:
      split: one of SPLITS.
      index: from 0; names the scene, as in "train-003".
    """
    check_choice("split", split, SPLITS)
    for attempt in range(MAX_ATTEMPTS):
        rng = np.random.default_rng([settings.seed, SPLITS.index(split), index, attempt])
        moved_share = 2 * settings.moved_share * (rng.random() < 0.5)
        now, later = build_room(rng, *furnishings(rng, settings.library, split), moved_share)
        database_view = _View(now, settings)
        query_view = database_view if later is now else _View(later, settings)
        database = [
            database_view.finder.database_path(rng, *_random_path(rng, settings))
            for _ in range(settings.database_paths)
        ]
        if None in database:
            continue
        query = [
            query_view.finder.query_path(
                rng, *_random_path(rng, settings), database, settings.min_query_overlap
            )
            for _ in range(settings.query_paths)
        ]
        if None not in query:
            break
    else:
        raise RuntimeError(f"{split}-{index:03d}: no room with free camera paths was found")
    scene = f"{split}-{index:03d}"
    return RenderedRoom(
        database=database_view.photographed(rng, scene, 0, database),
        query=query_view.photographed(rng, scene, len(database), query),
    )


class _View:
    """A lit room that can be walked through and photographed."""

    def __init__(self, room: Room, settings: RoomSettings):
        self._lamps = len(room.lamps)
        self._light_change = settings.light_change
        caster = RayCaster(room.mesh)
        atlas = TextureAtlas([material.texture for material in room.mesh.materials])
        light = bake(room.mesh, room.lamps, caster, atlas)
        self._renderer = Renderer(room.mesh, caster, atlas, light)
        self.finder = PathFinder(room, caster, settings.roll_deg, self._shows_texture)

    def _shows_texture(self, camera: Camera) -> bool:
        glance, _ = self._renderer.render(camera.scaled(GLANCE / max(camera.width, camera.height)))
        return textured_share(glance) >= MIN_TEXTURED

    def photographed(
        self, rng: np.random.Generator, scene: str, first_path: int, paths: list[CameraPath]
    ) -> PosedFrames:
        """The pictures along `paths`; each path has its light, its camera and its settings."""
        names, sequences, images, depths, intrinsics = [], [], [], [], []
        for number, path in enumerate(paths, start=first_path):
            dimming = np.exp(rng.normal(0, self._light_change, self._lamps))
            self._renderer.dim(dimming.astype(np.float32))
            development = random_development(rng)
            for i in range(len(path.world_from_cam)):
                radiance, depth = self._renderer.render(path.camera(i))
                images.append(photograph(rng, radiance, path.lens.intrinsics, development))
                depths.append(depth)
                names.append(f"path-{number}/frame-{i:06d}")
                sequences.append(f"path-{number}")
                intrinsics.append(path.lens.intrinsics)
        return PosedFrames(
            scene=scene,
            names=tuple(names),
            world_from_cam=np.concatenate([path.world_from_cam for path in paths]),
            intrinsics=np.stack(intrinsics),
            image_sizes=np.array([image.shape[1::-1] for image in images], np.int64),
            images=images,
            depths=depths,
            sequences=tuple(sequences),
        )


def furnishings(rng: np.random.Generator, library: str, split: str) -> tuple[Palette, Catalogue]:
    """The materials of a room and where its furniture comes from: `library`, if one is given."""
    if not library:
        palette = random_palette(rng, textures)
        return palette, ProceduralFurniture(palette)
    part = Library(pathlib.Path(library), split)
    palette = random_palette(rng, PhotographicTextures(part))
    return palette, LibraryFurniture(part, palette)


def _random_path(rng: np.random.Generator, settings: RoomSettings) -> tuple[Lens, int]:
    """The lens of a path and how many pictures it has."""
    size = (settings.width, settings.height)
    width, height = size[::-1] if rng.random() < settings.portrait_share else size
    longer = max(size)
    focal = longer * np.exp(rng.uniform(*np.log(settings.focal_lengths)))
    offset = rng.normal(0, settings.principal_point_offset * longer, 2)
    intrinsics = np.eye(3)
    intrinsics[[0, 1], [0, 1]] = focal
    intrinsics[:2, 2] = (np.array([width, height]) - 1) / 2 + offset
    return Lens(intrinsics, width, height), settings.frames_per_path

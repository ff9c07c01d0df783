"""`render_room`: one room, from its number to posed photographs with depth."""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, UInt8

from jaxreloc.formats.frames import PosedFrames
from jaxreloc.usage import check_choice
from tfds_builders.rooms.furnishing import textures
from tfds_builders.rooms.furnishing.furniture import ProceduralFurniture
from tfds_builders.rooms.furnishing.library import Library
from tfds_builders.rooms.furnishing.library_furniture import LibraryFurniture, PhotographicTextures
from tfds_builders.rooms.furnishing.palette import Palette, random_palette
from tfds_builders.rooms.furnishing.room_building import Catalogue, Room, build_room
from tfds_builders.rooms.graphics.illumination import bake
from tfds_builders.rooms.graphics.ray_casting import RayCaster
from tfds_builders.rooms.graphics.rendering import Camera, Renderer
from tfds_builders.rooms.graphics.texture_atlas import TextureAtlas
from tfds_builders.rooms.paths.camera_paths import CameraPath, Lens, PathFinder
from tfds_builders.rooms.paths.known_paths import known_paths
from tfds_builders.rooms.photography import (
    Development,
    photograph,
    random_development,
    spoilt,
    textured_share,
)
from tfds_builders.rooms.settings import SPLITS, Distances, RoomSettings

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
      index: from 0; see `RoomSettings.scene` for the name that it gives.
    """
    check_choice("split", split, SPLITS)
    scene = settings.scene(split, index)
    if settings.known_paths:
        return _render_known_paths(settings, split, index)
    for attempt in range(MAX_ATTEMPTS):
        rng = np.random.default_rng([settings.seed, SPLITS.index(split), index, attempt])
        moved = 2 * (rng.random() < 0.5)
        furnished = furnishings(rng, settings.library, split, settings.pictured_share)
        shares = moved * settings.moved_share, moved * settings.moved_furniture
        now, later = build_room(rng, *furnished, *shares)
        lit = functools.partial(
            LitRoom, roll_deg=settings.roll_deg, distances=settings.distances
        )
        database_room = lit(now)
        query_room = database_room if later is now else lit(later)
        database = [
            database_room.finder.database_path(rng, *_random_path(rng, settings))
            for _ in range(settings.database_paths)
        ]
        if None in database:
            continue
        query = [
            query_room.finder.query_path(
                rng, *_random_path(rng, settings), database, settings.min_query_overlap
            )
            for _ in range(settings.query_paths)
        ]
        if None not in query:
            break
    else:
        raise RuntimeError(f"{scene}: no room with free camera paths was found")
    return RenderedRoom(
        database=_photographed(database_room, rng, settings, scene, 0, _cameras(database)),
        query=_photographed(query_room, rng, settings, scene, len(database), _cameras(query)),
    )


def _render_known_paths(settings: RoomSettings, split: str, index: int) -> RenderedRoom:
    scene = settings.scene(split, index)
    rng = np.random.default_rng([settings.seed, SPLITS.index(split), index, 0])
    rng.random()  # as where things may be moved before the queries
    room, _ = build_room(rng, *furnishings(rng, settings.library, split), 0.0)
    lit = LitRoom(room, settings.roll_deg)
    lens, _ = _random_path(rng, settings)
    cameras = [
        [Camera(pose, lens.intrinsics, lens.width, lens.height) for pose in path]
        for path in known_paths(scene)
    ]
    count = settings.database_paths
    return RenderedRoom(
        database=_photographed(lit, rng, settings, scene, 0, cameras[:count]),
        query=_photographed(lit, rng, settings, scene, count, cameras[count:]),
    )


def _cameras(paths: Sequence[CameraPath]) -> list[list[Camera]]:
    return [path.cameras() for path in paths]


class LitRoom:
    """A lit room that can be walked through and photographed.

    Attributes:
      finder: of camera paths through it.
      lamps: how many there are, daylight's among them.
    """

    def __init__(self, room: Room, roll_deg: float, distances: Distances = Distances()):
        """
        Args:
          roll_deg: standard deviation of the in-plane rotation of the finder's paths.
          distances: that these keep.
        """
        caster = RayCaster(room.mesh)
        atlas = TextureAtlas([material.texture for material in room.mesh.materials])
        light = bake(room.mesh, room.lamps, caster, atlas)
        self._renderer = Renderer(room.mesh, caster, atlas, light)
        self.lamps = len(room.lamps)
        self.finder = PathFinder(room, caster, roll_deg, self._shows_texture, distances)

    def _shows_texture(self, camera: Camera) -> bool:
        glance, _ = self._renderer.render(camera.scaled(GLANCE / max(camera.width, camera.height)))
        return textured_share(glance) >= MIN_TEXTURED

    def pictures(
        self,
        rng: np.random.Generator,
        cameras: Sequence[Camera],
        development: Development,
        dimming: Float32[np.ndarray, "lamps"],
    ) -> tuple[list[UInt8[np.ndarray, "h w 3"]], list[Float32[np.ndarray, "h w"]]]:
        """An image and its depth of each camera; how often `rng` is drawn from depends on neither
        the development nor the light, nor on which way a camera looks."""
        self._renderer.dim(dimming)
        images, depths = [], []
        for camera in cameras:
            radiance, depth = self._renderer.render(camera)
            images.append(photograph(rng, radiance, camera.intrinsics, development))
            depths.append(depth)
        return images, depths


def _photographed(
    room: LitRoom,
    rng: np.random.Generator,
    settings: RoomSettings,
    scene: str,
    first_path: int,
    cameras: list[list[Camera]],
) -> PosedFrames:
    """The pictures along paths of cameras; each path has its light and its development."""
    images, depths = [], []
    for along in cameras:
        dimming = np.exp(rng.normal(0, settings.light_change, room.lamps)).astype(np.float32)
        development = random_development(rng)
        if settings.spoilt_share and rng.random() < settings.spoilt_share:
            development = spoilt(rng, development)
        taken = room.pictures(rng, along, development, dimming)
        images += taken[0]
        depths += taken[1]
    return posed_frames(scene, first_path, cameras, images, depths)


def posed_frames(
    scene: str,
    first_path: int,
    paths: Sequence[Sequence[Camera]],
    images: list[UInt8[np.ndarray, "h w 3"]],
    depths: list[Float32[np.ndarray, "h w"]],
) -> PosedFrames:
    """The pictures of cameras along some paths, as "path-2/frame-000001", path by path.

    Args:
      first_path: the number of the first path.
    """
    places = [(n, i) for n, path in enumerate(paths, first_path) for i in range(len(path))]
    cameras = [camera for path in paths for camera in path]
    return PosedFrames(
        scene=scene,
        names=tuple(f"path-{number}/frame-{i:06d}" for number, i in places),
        world_from_cam=np.stack([camera.world_from_cam for camera in cameras]),
        intrinsics=np.stack([camera.intrinsics for camera in cameras]),
        image_sizes=np.array([(camera.width, camera.height) for camera in cameras], np.int64),
        images=images,
        depths=depths,
        sequences=tuple(f"path-{number}" for number, _ in places),
    )


def furnishings(
    rng: np.random.Generator, library: str, split: str, pictured_share: float = 0.0
) -> tuple[Palette, Catalogue]:
    """The materials of a room and where its furniture comes from: `library`, if one is given.

    Args:
      pictured_share: of the surfaces, which photographs of the library cover.
    """
    if not library:
        palette = random_palette(rng, textures)
        return palette, ProceduralFurniture(palette)
    part = Library(pathlib.Path(library), split)
    palette = random_palette(rng, PhotographicTextures(part, pictured_share))
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

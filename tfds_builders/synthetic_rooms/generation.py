"""`render_room`: one room, from its number to posed photographs with depth."""

import dataclasses

import numpy as np

from jaxreloc.formats.frames import PosedFrames
from jaxreloc.usage import check_choice
from tfds_builders.synthetic_rooms.camera_paths import CameraPath, Lens, PathFinder
from tfds_builders.synthetic_rooms.furniture import ProceduralFurniture
from tfds_builders.synthetic_rooms.palette import procedural_palette
from tfds_builders.synthetic_rooms.photography import photograph, random_development
from tfds_builders.synthetic_rooms.illumination import bake
from tfds_builders.synthetic_rooms.ray_casting import RayCaster
from tfds_builders.synthetic_rooms.rendering import Renderer
from tfds_builders.synthetic_rooms.rooms import build_room
from tfds_builders.synthetic_rooms.settings import SPLITS, RoomSettings
from tfds_builders.synthetic_rooms.texture_atlas import TextureAtlas


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
    rng = np.random.default_rng([settings.seed, SPLITS.index(split), index])
    palette = procedural_palette(rng)
    room = build_room(rng, palette, ProceduralFurniture(palette))
    caster = RayCaster(room.mesh)
    atlas = TextureAtlas([material.texture for material in room.mesh.materials])
    renderer = Renderer(room.mesh, caster, atlas, bake(room.mesh, room.lamps, caster, atlas))
    finder = PathFinder(room, caster, settings.roll_deg)
    frames = settings.frames_per_path
    database = [
        finder.database_path(rng, _random_lens(rng, settings), frames)
        for _ in range(settings.database_paths)
    ]
    query = [
        finder.query_path(
            rng, _random_lens(rng, settings), frames, database, settings.min_query_overlap
        )
        for _ in range(settings.query_paths)
    ]
    scene = f"{split}-{index:03d}"
    first_query = len(database)
    return RenderedRoom(
        database=_photographed(rng, renderer, scene, 0, database),
        query=_photographed(rng, renderer, scene, first_query, query),
    )


def _random_lens(rng: np.random.Generator, settings: RoomSettings) -> Lens:
    size = (settings.width, settings.height)
    width, height = size[::-1] if rng.random() < settings.portrait_share else size
    longer = max(size)
    focal = longer * np.exp(rng.uniform(*np.log(settings.focal_lengths)))
    offset = rng.normal(0, settings.principal_point_offset * longer, 2)
    intrinsics = np.eye(3)
    intrinsics[[0, 1], [0, 1]] = focal
    intrinsics[:2, 2] = (np.array([width, height]) - 1) / 2 + offset
    return Lens(intrinsics, width, height)


def _photographed(
    rng: np.random.Generator,
    renderer: Renderer,
    scene: str,
    first_path: int,
    paths: list[CameraPath],
) -> PosedFrames:
    names, sequences, images, depths, intrinsics = [], [], [], [], []
    for number, path in enumerate(paths, start=first_path):
        development = random_development(rng)
        for i in range(len(path.world_from_cam)):
            radiance, depth = renderer.render(path.camera(i))
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

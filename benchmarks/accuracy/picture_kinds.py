"""Kinds of pictures: a held-out room's queries photographed anew with one thing changed at a time.

The map of a room is ordinary: landscape pictures whose focal length is their width, held upright,
in one light and with one development. `KINDS` says how the queries differ. All kinds but the close
orbits stand at the same places of the same room and look the same way; the noise is the same, too.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64
from scipy.spatial.transform import Rotation

from benchmarks.accuracy.held_out import check_library, kept_frames
from jaxreloc.formats.frames import PosedFrames
from tfds_builders.rooms.furnishing.room_building import build_room
from tfds_builders.rooms.generation import (
    MAX_ATTEMPTS,
    LitRoom,
    furnishings,
    posed_frames,
)
from tfds_builders.rooms.graphics.rendering import Camera
from tfds_builders.rooms.paths.camera_paths import CameraPath, Lens, close_orbit
from tfds_builders.rooms.photography import Development
from tfds_builders.rooms.settings import FURNISHED_LARGE, SPLITS

PLAIN = Development(
    exposure=0.16,
    white_balance=np.ones(3, np.float32),
    contrast=0.5,
    vignetting=0.15,
    softness=0.45,
    read_noise=0.001,
    shot_noise=0.00005,
    shake=0.0,
)
MOVED_SHARE = 0.4  # of the small things, where things are moved
DIMMED = 0.1  # of every other lamp's light is left, where lamps are changed
ORBIT_AMPLITUDES = (1.0, 0.8, 0.6)  # less would be no orbit


@dataclasses.dataclass(frozen=True)
class Kind:
    """How a query is taken; the default is as the map was.

    Attributes:
      focal: focal length in lengths of the longer side.
      principal_point: its offset to the right and down, in lengths of the longer side.
      roll_deg: in-plane rotation, clockwise and counterclockwise in turn from frame to frame.
      lamps_changed: every other lamp is dimmed, on the second path the others.
      moved: small things are gone, and others stand elsewhere.
      orbit: closely around something that the map shows, instead of the paths of all other kinds.
      map_step: every so many-th picture of the map is left.
    """

    name: str
    focal: float = 1.0
    portrait: bool = False
    principal_point: tuple[float, float] = (0.0, 0.0)
    roll_deg: float = 0.0
    development: Development = PLAIN
    lamps_changed: bool = False
    moved: bool = False
    orbit: bool = False
    map_step: int = 1

    def lens(self, width: int, height: int) -> Lens:
        """Of landscape pictures of this size, or of portrait ones."""
        size = (height, width) if self.portrait else (width, height)
        intrinsics = np.eye(3)
        intrinsics[[0, 1], [0, 1]] = self.focal * width
        offset = width * np.array(self.principal_point)
        intrinsics[:2, 2] = (np.array(size) - 1) / 2 + offset
        return Lens(intrinsics, *size)

    def cameras(self, world_from_cam: Float64[np.ndarray, "n 4 4"], lens: Lens) -> list[Camera]:
        """Along these upright poses."""
        return [
            Camera(_rolled(pose, sign * self.roll_deg), lens.intrinsics, lens.width, lens.height)
            for pose, sign in zip(world_from_cam, np.resize((1, -1), len(world_from_cam)))
        ]

    def dimming(self, lamps: int, path: int) -> np.ndarray:
        factors = np.ones(lamps, np.float32)
        if self.lamps_changed:
            factors[path % 2 :: 2] = DIMMED
        return factors


def _developed(**changes) -> Development:
    return dataclasses.replace(PLAIN, **changes)


def _shaken(blur_px: float) -> Development:
    """Typically blurred over `blur_px` pixels of a focal length of 512."""
    median = 0.67  # of the absolute value of a normal variable
    steps = 2 * int(blur_px) + 1
    return _developed(shake=blur_px / 512 / median, blur_steps=steps)


KINDS = (
    Kind("plain"),
    Kind("focal length 0.6", focal=0.6),
    Kind("focal length 1.6", focal=1.6),
    Kind("portrait", portrait=True),
    Kind("principal point off by 8% of the width", principal_point=(0.08, -0.05)),
    Kind("turned in plane by 15 deg", roll_deg=15),
    Kind("turned by 30 deg", roll_deg=30),
    Kind("turned by 60 deg", roll_deg=60),
    Kind("turned by 90 deg", roll_deg=90),
    Kind("2 stops under-exposed", development=_developed(exposure=PLAIN.exposure / 4)),
    Kind("1.5 stops over-exposed", development=_developed(exposure=PLAIN.exposure * 2**1.5)),
    Kind("white balance", development=_developed(white_balance=np.float32([1.5, 1.0, 0.55]))),
    Kind("lamps changed", lamps_changed=True),
    Kind("noise", development=_developed(read_noise=0.02, shot_noise=0.004)),
    Kind("motion blur of 4 px", development=_shaken(4)),
    Kind("motion blur of 12 px", development=_shaken(12)),
    Kind("small things moved", moved=True),
    Kind("map of every 3rd picture", map_step=3),
    Kind("map of every 6th picture", map_step=6),
    Kind("close orbit", orbit=True),
)


@dataclasses.dataclass(frozen=True)
class Stage:
    """A room, the same room later, when small things were moved, and upright camera paths.

    Attributes:
      size: width and height of a landscape picture.
      seed: of the pictures' noise.
    """

    scene: str
    now: LitRoom
    later: LitRoom
    map_paths: list[CameraPath]
    query_paths: list[CameraPath]
    orbits: list[CameraPath]
    size: tuple[int, int]
    seed: tuple[int, ...]

    def map(self) -> PosedFrames:
        """The pictures of the map."""
        return self._photographed(self.map_paths, 0, Kind("map"))

    def queries(self, kind: Kind) -> PosedFrames:
        """The pictures of this kind; `map_step` does not matter to them."""
        paths = self.orbits if kind.orbit else self.query_paths
        return self._photographed(paths, len(self.map_paths), kind)

    def _photographed(self, paths: list[CameraPath], first_path: int, kind: Kind) -> PosedFrames:
        room = self.later if kind.moved else self.now
        lens = kind.lens(*self.size)
        cameras = [kind.cameras(path.world_from_cam, lens) for path in paths]
        images, depths = [], []
        for number, along in enumerate(cameras, first_path):
            rng = np.random.default_rng([*self.seed, number])
            dimming = kind.dimming(room.lamps, number)
            taken = room.pictures(rng, along, kind.development, dimming)
            images += taken[0]
            depths += taken[1]
        return posed_frames(self.scene, first_path, cameras, images, depths)


def set_stage(split: str, index: int, library: str) -> Stage:
    """The furniture of a room of `synthetic_rooms/furnished_large`, with ordinary camera paths."""
    settings = FURNISHED_LARGE
    size = (settings.width, settings.height)
    lens = KINDS[0].lens(*size)
    for attempt in range(MAX_ATTEMPTS):
        seed = (settings.seed, SPLITS.index(split), index, attempt)
        rng = np.random.default_rng(seed)
        rooms = build_room(rng, *furnishings(rng, library, split), MOVED_SHARE)
        now, later = (LitRoom(room, roll_deg=0.0) for room in rooms)
        map_paths = [
            now.finder.database_path(rng, lens, settings.frames_per_path)
            for _ in range(settings.database_paths)
        ]
        if None in map_paths:
            continue
        look = functools.partial(
            now.finder.query_path,
            rng,
            lens,
            settings.frames_per_path,
            map_paths,
            settings.min_query_overlap,
        )
        orbiting = functools.partial(look, motions=(close_orbit,), amplitudes=ORBIT_AMPLITUDES)
        queries, orbits = ([f() for _ in range(settings.query_paths)] for f in (look, orbiting))
        if None in queries + orbits or not all(map(later.finder.allows, queries)):
            continue
        return Stage(f"{split}-{index:03d}", now, later, map_paths, queries, orbits, size, seed)
    raise RuntimeError(f"{split}-{index:03d}: no room with free camera paths was found")


def load_pictures(
    split: str,
    index: int,
    library: str | None,
    cache: pathlib.Path | None,
    kinds: Sequence[Kind] = KINDS,
) -> tuple[PosedFrames, dict[str, PosedFrames]]:
    """A room's map, and the queries of each kind; kept in `cache`, a file a kind.

    Raises:
      UsageError: there is no library to render with.
    """

    @functools.cache
    def stage() -> Stage:
        check_library(library, split, index)
        return set_stage(split, index, library)

    def load(name: str, take) -> PosedFrames:
        path = cache and cache / f"{split}-{index:03d}-{name.replace(' ', '-')}.npz"
        return kept_frames(path, lambda: {"pictures": take()})["pictures"]

    # Pictures with another map are no others.
    taken = {kind.name: kind if kind.map_step == 1 else KINDS[0] for kind in kinds}
    found = {
        name: load(name, functools.partial(lambda kind: stage().queries(kind), kind))
        for name, kind in {kind.name: kind for kind in taken.values()}.items()
    }
    database = load("map", lambda: stage().map())
    return database, {name: found[kind.name] for name, kind in taken.items()}


def _rolled(world_from_cam: Float64[np.ndarray, "4 4"], deg: float) -> Float64[np.ndarray, "4 4"]:
    """The camera turned about its optical axis, clockwise seen from behind it."""
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("z", deg, degrees=True).as_matrix()
    return world_from_cam @ turn
